from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from backups.models import Backup, BackupJob, BackupRun, Options, Storage, Target
from backups.services.jobs import job_create
from backups.services.options import options_update
from backups.services.storages import storage_create
from backups.services.targets import target_clean, target_create
from backups.storage.names import SENTINEL
from maintenance.models import MaintenanceJob
from scheduling.choices import RunStatus
from tests.commands.conftest import Run
from tests.factories import BackupFactory, MaintenanceJobFactory

pytestmark = pytest.mark.django_db

Write = Callable[[str], str]

# The configuration that the design promises to work as written, with folders of this test.
PROMISED = """
[options]
timezone = "Europe/Berlin"
retention = { keep_last = 3, keep_daily = 7, keep_weekly = 4, keep_monthly = 12 }

[[storages]]
name = "nas"
kind = "local"
path = "DIR/backups"

[[targets]]
name = "etc"
source = "files"
paths = ["/etc"]
exclude = ["*.tmp"]

[[backup_jobs]]
name = "nightly"
targets = ["etc"]
storage = "nas"
schedule = "30 2 * * *"

[[maintenance_jobs]]
key = "retention_cleanup_nightly"
schedule = "0 3 * * *"
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Put text into a file, DIR standing for this test's folder, and give its path."""

    def write(text: str) -> str:
        path = tmp_path / "keepwell.toml"
        path.write_text(text.replace("DIR", str(tmp_path)), encoding="utf-8")
        return str(path)

    return write


def rows() -> dict[str, list[dict[str, object]]]:
    """Every row that a file can change, with its time of change."""
    models = (Options, Storage, Target, BackupJob, MaintenanceJob)
    found = {model.__name__: list(model.objects.order_by("pk").values()) for model in models}
    found["pairs"] = list(BackupJob.targets.through.objects.order_by("pk").values())
    return found


def test_the_promised_file_works_as_written(run: Run, write: Write, tmp_path: Path) -> None:
    ended = run("apply", write(PROMISED))
    assert ended.status == 0, ended.err
    assert "created backup job “nightly”" in ended.out
    job = BackupJob.objects.get()
    assert (job.name, job.schedule, job.timezone) == ("nightly", "30 2 * * *", "")
    assert (job.enabled, job.retention) == (True, None)
    assert job.storage.path == str(tmp_path / "backups")
    assert job.targets.get().config == {"paths": ["/etc"], "exclude": ["*.tmp"]}
    assert Options.load().timezone == "Europe/Berlin"
    assert Options.load().retention == {"keep_last": 3, "keep_daily": 7, "keep_weekly": 4, "keep_monthly": 12}
    assert (tmp_path / "backups" / SENTINEL).is_file()
    assert MaintenanceJob.objects.get(key="retention_cleanup_nightly").schedule_cron == "0 3 * * *"


def test_a_second_run_changes_nothing(run: Run, write: Write) -> None:
    path = write(PROMISED)
    run("apply", path)
    before = rows()
    ended = run("apply", path)
    assert ended.status == 0
    assert "Nothing changed." in ended.out
    assert rows() == before, "not even a time of change"
    assert run("apply", path, "--prune").status == 0
    assert rows() == before


def test_what_changed_is_said_and_done(run: Run, write: Write) -> None:
    run("apply", write(PROMISED))
    changed = PROMISED
    for old, new in (("30 2 * * *", "45 1 * * *"), ("*.tmp", "*.bak"), ("keep_last = 3", "keep_last = 9")):
        changed = changed.replace(old, new)
    ended = run("apply", write(changed), "--json")
    assert ended.value["created"] == []
    assert ended.value["updated"] == [
        {"table": "options", "name": "options", "fields": ["retention"]},
        {"table": "targets", "name": "etc", "fields": ["exclude"]},
        {"table": "backup_jobs", "name": "nightly", "fields": ["schedule"]},
    ]
    assert BackupJob.objects.get().schedule == "45 1 * * *"
    assert Options.load().timezone == "Europe/Berlin"


def test_options_left_out_stay_and_keys_of_entries_left_out_take_their_defaults(run: Run, write: Write) -> None:
    more = "\nenabled = false\nretention = {keep_last = 1}\n"
    run("apply", write(PROMISED.replace('schedule = "30 2 * * *"', 'schedule = "30 2 * * *"' + more)))
    options_update(trash_hours=5)
    run("apply", write("[options]\nminimum_keep = 2\n" + PROMISED.split("[[maintenance")[0].split("}\n")[1]))
    options, job = Options.load(), BackupJob.objects.get()
    assert (options.timezone, options.trash_hours, options.minimum_keep) == ("Europe/Berlin", 5, 2)
    assert (job.enabled, job.retention) == (True, None)


def test_a_default_job_keeps_its_nature(run: Run, write: Write) -> None:
    assert run("apply", write('[[maintenance_jobs]]\nkey = "retention_cleanup_manual"')).status == 0
    manual = MaintenanceJob.objects.get(key="retention_cleanup_manual")
    assert (manual.visible_in_ui, manual.schedule_cron, manual.enabled) == (False, "", True)


def test_a_dry_run_says_what_would_be_done_and_does_nothing(run: Run, write: Write, tmp_path: Path) -> None:
    Options.load()
    before = rows()
    ended = run("apply", write(PROMISED), "--dry-run")
    assert ended.status == 0
    assert "would be created storage “nas”" in ended.out
    assert "this was a dry run" in ended.out
    assert rows() == before
    assert not (tmp_path / "backups").exists()


def test_everything_wrong_is_said_at_once_and_nothing_is_written(run: Run, write: Write, tmp_path: Path) -> None:
    Options.load()
    before = rows()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    ended = run(
        "apply",
        write(
            """
            [option]
            [options]
            timezone = "Mars/Base"
            retention = { keep_last = -3, keep_dayly = 7 }
            minimum_keep = true
            [[storages]]
            name = "good"
            path = "DIR/good"
            [[storages]]
            name = "full"
            path = "DIR/full"
            [[targets]]
            name = "etc"
            paths = ["etc"]
            [[targets]]
            name = " etc"
            path = ["/etc"]
            [[backup_jobs]]
            name = "nightly"
            targets = ["etc", "var"]
            storage = "tape"
            schedule = "99 * * * *"
            timezone = "Berlin"
            enabled = "yes"
            retention = { keep_within = "2 weeks" }
            [[maintenance_jobs]]
            key = "scrub it"
            [[maintenance_jobs]]
            key = "retention_cleanup_manual"
            schedule = "0 3 * * *"
            job_type = "shred"
            """
        ),
    )
    assert ended.status == 2
    starts = [
        "option: There is no such table. Did you mean options?",
        "options: timezone: “Mars/Base” is not a time zone",
        "options: retention.keep_last: -3 is negative",
        "options: retention.keep_dayly: there is no such rule",
        "options: minimum_keep: This must be a whole number, not true.",
        'storages[1] "full": path: ',
        "targets[0] \"etc\": paths: 'etc' is not an absolute path",
        'targets[1] "etc": name: targets[0] has this name already.',
        'targets[1] "etc": path: There is no such key. Did you mean paths?',
        'targets[1] "etc": paths: This key is missing.',
        'backup_jobs[0] "nightly": targets: There is no target “var”',
        'backup_jobs[0] "nightly": storage: There is no storage “tape”',
        'backup_jobs[0] "nightly": schedule: “99 * * * *” is not a valid schedule',
        'backup_jobs[0] "nightly": timezone: “Berlin” is not a time zone',
        "backup_jobs[0] \"nightly\": enabled: This must be true or false, not 'yes'.",
        'backup_jobs[0] "nightly": retention.keep_within: ',
        'maintenance_jobs[0] "scrub it": key: ',
        'maintenance_jobs[0] "scrub it": job_type: This key is missing',
        'maintenance_jobs[1] "retention_cleanup_manual": schedule: This job is never scheduled',
        'maintenance_jobs[1] "retention_cleanup_manual": job_type: “shred” is not a kind',
    ]
    lines = ended.err.splitlines()[1:]
    for start in starts:
        assert any(line.startswith(start) for line in lines), f"{start} is not in:\n{ended.err}"
    assert len(lines) == len(starts)
    assert rows() == before
    assert not (tmp_path / "good").exists()


ENTRY = '[[storages]]\nname = "s"\npath = "DIR/s"\n[[targets]]\nname = "t"\npaths = ["/etc"]\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("storages = 3", "storages: This must be a list of tables. Write [[storages]]"),
        ("[storages]\nname = 'x'", "storages: This must be a list of tables"),
        ("[[options]]\ntimezone = 'UTC'", "options: This must be one table. Write [options]."),
        ("[[targets]]\npaths = ['/etc']", "targets[0]: name: This key is missing."),
        ("[[targets]]\nname = ''\npaths = ['/etc']", "targets[0]: name: Give it a name."),
        ("[[targets]]\nname = 3\npaths = ['/etc']", "targets[0]: name: This must be text, not 3."),
        ('[[targets]]\nname = "a\\u0000"\npaths = ["/etc"]', "name: The name holds characters that cannot be shown"),
        ('[[targets]]\nname = "a"\npaths = ["/e\\u0000"]', "paths: "),
        ("[[targets]]\nname = 'a'\npaths = []", 'targets[0] "a": paths: Give at least one absolute path'),
        ("[[targets]]\nname = 'a'\npaths = ['/etc', '/etc/ssh']", "is already inside /etc"),
        ("[[targets]]\nname = 'a'\npaths = [1979-05-27]", "paths: This must be a list of texts"),
        ("[[targets]]\nname = 'a'\npaths = ['/etc']\nsource = 'mysql'", "source: “mysql” is not a kind of source"),
        ("[[storages]]\nname = 'a'\npath = 'DIR/a'\nkind = 's3'", "kind: “s3” is not a kind of storage"),
        ("[[storages]]\nname = 'a'\npath = '/'", "path: The root folder cannot be a storage"),
        ("[[storages]]\nname = 'a'\npath = 'DIR/no/a'", "is not a folder. Create it, or mount the disk."),
        ("[[storages]]\nname = 'a'\npath = '/" + "x" * 1000 + "'", "1001 characters; 1000 are the most"),
        (ENTRY + "[[storages]]\nname = 'z'\npath = 'DIR/./s/'", "is the path of the storage “s” too"),
        (
            "[[storages]]\nname='s'\npath='DIR/s'\n[[targets]]\nname='t'\npaths=['DIR']\n"
            "[[backup_jobs]]\nname='j'\ntargets=['t']\nstorage='s'",
            'backup_jobs[0] "j": storage: The storage s (',
        ),
        (ENTRY + "[[backup_jobs]]\nname='j'\ntargets=[]\nstorage='s'", "targets: Name at least one target"),
        (ENTRY + "[[backup_jobs]]\nname='j'\ntargets=['t']", "storage: This key is missing."),
    ],
)
def test_bad_files_are_status_2_and_change_nothing(
    run: Run, write: Write, tmp_path: Path, text: str, message: str
) -> None:
    Options.load()
    before = rows()
    ended = run("apply", write(text))
    assert ended.status == 2
    assert message in ended.err
    assert rows() == before
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"a = \n", "is not TOML: Invalid value (at line 1, column 5)"),
        (b"a = 1\na = 2\n", "is not TOML: Cannot overwrite a value (at line 2"),
        (b"# caf\xe9\n", "is not UTF-8 text (line 1)"),
        (b"a = " + b"[" * 100_000, "nested too deeply"),
        (b'a = "\\ud800"', "is not TOML"),
        (b"a = " + b"9" * 5000, "is not TOML"),
    ],
    ids=["syntax", "twice", "encoding", "deep", "surrogate", "huge number"],
)
def test_what_is_not_toml_is_status_2(run: Run, tmp_path: Path, raw: bytes, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(raw)
    ended = run("apply", str(path))
    assert ended.status == 2
    assert message in ended.err


@pytest.mark.parametrize("name", ["missing.toml", "."], ids=["missing", "a folder"])
def test_a_file_that_cannot_be_read_is_status_2(run: Run, tmp_path: Path, name: str) -> None:
    ended = run("apply", str(tmp_path / name))
    assert ended.status == 2
    assert "cannot be read" in ended.err


def test_a_device_without_end_is_not_read_for_ever(run: Run) -> None:
    assert run("apply", "/dev/zero").status == 2


def test_errors_as_json(run: Run, write: Write) -> None:
    ended = run("apply", write("[[targets]]\nname = 'a'"), "--json")
    assert ended.status == 2
    expected = [{"where": 'targets[0] "a"', "key": "paths", "message": "This key is missing."}]
    assert ended.value == {"errors": expected}


def test_the_nature_of_an_entry_is_not_changed(run: Run, write: Write) -> None:
    MaintenanceJobFactory(key="tidy")
    MaintenanceJob.objects.filter(key="tidy").update(name="Tidy")
    ended = run("apply", write('[[maintenance_jobs]]\nkey = "tidy"\njob_type = "verify"'))
    assert ended.status == 2
    assert 'maintenance_jobs[0] "tidy": job_type: ' in ended.err


def test_references_may_be_to_what_the_database_holds(run: Run, write: Write, tmp_path: Path) -> None:
    storage_create(name="old", path=str(tmp_path / "old"))
    target_create(name="var", source="files", config={"paths": ["/var"], "exclude": []})
    text = '[[backup_jobs]]\nname = "j"\ntargets = ["var"]\nstorage = "old"'
    assert run("apply", write(text), "--prune").status == 0
    assert BackupJob.objects.get().storage.name == "old", "what a job of the file names is not pruned"
    assert Target.objects.get().name == "var"


def test_a_storage_in_the_database_may_not_come_to_lie_inside_a_changed_target(
    run: Run, write: Write, tmp_path: Path
) -> None:
    storage = storage_create(name="s", path=str(tmp_path / "s"))
    target = target_create(name="t", source="files", config={"paths": ["/etc"], "exclude": []})
    job_create(name="j", targets=[target], storage=storage)
    ended = run("apply", write("[[targets]]\nname = 't'\npaths = ['DIR']"))
    assert ended.status == 2
    assert "the backup job “j” in the database: storage: The storage s" in ended.err


def test_prune_removes_what_the_file_dropped_and_never_a_backup(run: Run, write: Write, tmp_path: Path) -> None:
    for key in ("retention_cleanup_nightly", "retention_cleanup_manual", "extra"):
        MaintenanceJob.objects.get_or_create(key=key, defaults={"name": key, "job_type": "retention_cleanup"})
    run("apply", write(PROMISED))
    used, unused = (storage_create(name=name, path=str(tmp_path / name)) for name in ("used", "unused"))
    target = target_create(name="var", source="files", config={"paths": ["/var"], "exclude": []})
    copy = BackupFactory(job=job_create(name="hourly", targets=[target], storage=used))
    assert run("apply", write(PROMISED)).status == 0
    assert BackupJob.objects.count() == 2, "without --prune nothing goes"

    dry = run("apply", write(PROMISED), "--prune", "--dry-run", "--json").value
    ended = run("apply", write(PROMISED), "--prune", "--json")

    assert ended.status == 0
    removed = [(change["table"], change["name"]) for change in ended.value["removed"]]
    expected = [("backup_jobs", "hourly"), ("maintenance_jobs", "extra"), ("targets", "var"), ("storages", "unused")]
    assert removed == expected
    assert dry["removed"] == ended.value["removed"]
    assert [change["name"] for change in ended.value["kept"]] == ["used"]
    assert "1 backups" in ended.value["kept"][0]["reason"]
    kept = Backup.objects.get(pk=copy.pk)
    assert (kept.job, kept.target, kept.job_name, kept.storage) == (None, None, "hourly", used)
    assert (Path(unused.path) / SENTINEL).exists(), "a storage's folder is left as it is"
    assert set(MaintenanceJob.objects.values_list("key", flat=True)) >= {
        "retention_cleanup_nightly",
        "retention_cleanup_manual",
    }


def test_prune_does_not_remove_a_job_that_runs(run: Run, write: Write) -> None:
    run("apply", write(PROMISED))
    job = BackupJob.objects.get()
    BackupRun.objects.create(job=job, job_name=job.name, status=RunStatus.RUNNING, started_at=timezone.now())
    before = rows()
    ended = run("apply", write('[options]\ntimezone = "UTC"'), "--prune")
    assert ended.status == 3
    assert "Running right now, so not to be removed: nightly" in ended.err
    assert rows() == before


def test_prune_with_an_empty_file_is_refused(run: Run, write: Write) -> None:
    run("apply", write(PROMISED))
    ended = run("apply", write("# a failed download\n"), "--prune")
    assert ended.status == 3
    assert BackupJob.objects.exists()


def test_a_folder_with_other_files_needs_to_be_meant(run: Run, write: Write, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "mine").touch()
    text = '[[storages]]\nname = "s"\npath = "DIR/s"\n'
    assert "use_existing = true" in run("apply", write(text)).err
    assert run("apply", write(text + "use_existing = true")).status == 0
    assert (tmp_path / "s" / "mine").exists()
    assert "Nothing changed." in run("apply", write(text)).out


def test_another_installations_storage_is_not_taken(run: Run, write: Write, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / SENTINEL).write_text('{"format": 1, "storage": "0123456789abcdef"}')
    ended = run("apply", write('[[storages]]\nname = "s"\npath = "DIR/s"\nuse_existing = true'))
    assert ended.status == 2
    assert "is the storage 0123456789abcdef already" in ended.err


def test_a_file_applies_while_a_disk_is_away(run: Run, write: Write, tmp_path: Path) -> None:
    run("apply", write(PROMISED))
    (tmp_path / "backups").rename(tmp_path / "unplugged")
    assert run("apply", write(PROMISED.replace("30 2", "31 2"))).status == 0
    assert not (tmp_path / "backups").exists()


def test_a_storage_with_backups_moves_only_to_where_they_are(run: Run, write: Write, tmp_path: Path) -> None:
    run("apply", write(PROMISED))
    BackupFactory(job=BackupJob.objects.get())
    moved = PROMISED.replace("DIR/backups", "DIR/elsewhere")
    (tmp_path / "elsewhere").mkdir()
    ended = run("apply", write(moved))
    assert ended.status == 2
    assert 'storages[0] "nas": path: ' in ended.err
    (tmp_path / "elsewhere").rmdir()
    (tmp_path / "backups").rename(tmp_path / "elsewhere")
    assert run("apply", write(moved)).status == 0
    assert Storage.objects.get().path == str(tmp_path / "elsewhere")


@pytest.mark.parametrize("had_folder", [True, False], ids=["empty folder", "no folder"])
def test_a_failure_after_a_storage_was_set_up_takes_it_back(
    run: Run, write: Write, tmp_path: Path, had_folder: bool
) -> None:
    """Two paths to one folder: each is free when the file is checked, and the first sentinel refuses the second."""
    Options.load()
    (tmp_path / "disk").mkdir()
    (tmp_path / "same").symlink_to(tmp_path / "disk")
    if had_folder:
        (tmp_path / "disk" / "s").mkdir()
    before = rows()
    text = PROMISED.replace("DIR/backups", "DIR/disk/s") + '[[storages]]\nname = "second"\npath = "DIR/same/s"\n'
    ended = run("apply", write(text))
    assert ended.status == 2
    assert 'storages "second": path: ' in ended.err
    assert rows() == before
    assert not (tmp_path / "disk" / "s" / SENTINEL).exists()
    assert (tmp_path / "disk" / "s").exists() == had_folder


def test_a_link_as_a_storages_folder_is_said_before_anything_is_written(run: Run, write: Write, tmp_path: Path) -> None:
    (tmp_path / "s").symlink_to(tmp_path)
    ended = run("apply", write('[[storages]]\nname = "s"\npath = "DIR/s"'))
    assert ended.status == 2
    assert "is a link" in ended.err


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"paths": ["/srv/\udce9t\udce9"], "exclude": []}, "paths"),
        ({"paths": ["/srv"], "exclude": ["*.\ud800"]}, "exclude"),
    ],
    ids=["path", "pattern"],
)
def test_text_that_no_database_can_store_is_refused(config: dict[str, list[str]], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        target_clean(name="srv", source="files", config=config)
    assert list(caught.value.message_dict) == [field]
    assert "is not UTF-8 text" in caught.value.message_dict[field][0]


def test_exit_statuses_of_the_program(manage: Run, write: Write, tmp_path: Path) -> None:
    assert manage("apply").status == 2
    assert manage("apply", str(tmp_path / "missing.toml")).status == 2
    assert manage("apply", write("a = 1")).status == 2
    ended = manage("apply", write(PROMISED), "--json")
    assert (ended.status, ended.err) == (0, "")
    assert len(ended.value["created"]) >= 3
