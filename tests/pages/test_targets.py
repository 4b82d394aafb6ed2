from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from backups.models import Backup, Target
from tests import factories
from tests.pages.people import HTMX, sign_in
from tests.support import add_backup, make_job, make_target, make_tree

pytestmark = pytest.mark.django_db

NEW = "/targets/new/"
LIST = "/targets/"


@pytest.fixture
def client() -> Client:
    return sign_in("administrator")


def page(client: Client, url: str) -> str:
    answer = client.get(url)
    assert answer.status_code == 200
    return answer.content.decode()


def test_a_target_is_added_with_its_paths_and_patterns(client: Client) -> None:
    answer = client.post(NEW, {"name": " etc ", "paths": "/etc\r\n\r\n /srv/www \n", "exclude": "*.tmp\n"})
    target = Target.objects.get()
    assert answer.status_code == 302
    assert answer["Location"] == f"/targets/{target.pk}/"
    assert (target.name, target.paths, target.exclude) == ("etc", ["/etc", "/srv/www"], ["*.tmp"])


@pytest.mark.parametrize(
    ("data", "says"),
    [
        pytest.param({"name": "", "paths": "/etc"}, "This field is required.", id="no name"),
        pytest.param({"name": "etc", "paths": ""}, "Give at least one absolute path", id="no path"),
        pytest.param({"name": "etc", "paths": "etc"}, "is not an absolute path", id="a relative path"),
        pytest.param({"name": "etc", "paths": "/etc\n/etc/ssh"}, "is already inside", id="one path in another"),
        pytest.param({"name": "etc", "paths": "/a\0b"}, "Null characters are not allowed.", id="NUL in a path"),
        pytest.param({"name": "e\0tc", "paths": "/etc"}, "Null characters are not allowed.", id="NUL in the name"),
        pytest.param({"name": "e\u202etc", "paths": "/etc"}, "characters that cannot be shown", id="unprintable name"),
        pytest.param({"name": "x" * 81, "paths": "/etc"}, "at most 80 characters", id="a long name"),
        pytest.param({"name": "etc", "paths": "/x" * 20_000}, "at most 20000 characters", id="long paths"),
        pytest.param(
            {"name": "etc", "paths": "\n".join(f"/{n}" for n in range(201))}, "200 are the most", id="many paths"
        ),
        pytest.param({"name": "etc", "paths": "/etc", "exclude": "/"}, "is not a pattern", id="a pattern of slashes"),
        pytest.param({}, "This field is required.", id="nothing"),
    ],
)
def test_a_target_that_cannot_be_is_refused_at_its_field(client: Client, data: dict[str, str], says: str) -> None:
    answer = client.post(NEW, data)
    assert answer.status_code == 422
    assert says in answer.content.decode()
    assert not Target.objects.exists()


def test_a_name_that_is_taken_is_refused_and_what_was_typed_stays(client: Client) -> None:
    factories.TargetFactory(name="etc")
    answer = client.post(NEW, {"name": "etc", "paths": "/somewhere/else"})
    assert answer.status_code == 422
    text = answer.content.decode()
    assert "There is a target called “etc” already." in text
    assert "/somewhere/else" in text


def test_bytes_that_are_not_utf8_are_taken_as_text_and_never_break_the_page(client: Client) -> None:
    body = b"name=%FF%FEetc&paths=/etc/%FF"
    answer = client.generic("POST", NEW, body.decode("ascii"), content_type="application/x-www-form-urlencoded")
    assert answer.status_code in (302, 422)
    assert client.get(LIST).status_code == 200


def test_a_target_is_changed_and_keeps_its_kind(client: Client) -> None:
    target = factories.TargetFactory(name="old")
    answer = client.post(f"/targets/{target.pk}/edit/", {"name": "new", "paths": "/new", "exclude": ""})
    assert answer.status_code == 302
    target.refresh_from_db()
    assert (target.name, target.config, target.source) == ("new", {"paths": ["/new"], "exclude": []}, "files")


@pytest.mark.skipif(connection.vendor == "postgresql", reason="PostgreSQL takes no such row in the first place")
def test_a_path_that_is_no_text_is_shown_escaped(client: Client) -> None:
    target = factories.TargetFactory(config={"paths": ["/srv/caf\udce9"], "exclude": ["\udce9"]})
    for url in (LIST, f"/targets/{target.pk}/", f"/targets/{target.pk}/edit/"):
        assert "/srv/caf\\xe9" in page(client, url)


def test_a_path_that_is_shown_escaped_survives_a_change_of_the_name(client: Client) -> None:
    config = {"paths": ["/srv/bell\x07"], "exclude": ["*\x1b"]}
    target = factories.TargetFactory(config=config)
    shown = {"name": "bells", "paths": r"/srv/bell\x07", "exclude": r"*\x1b"}
    assert client.post(f"/targets/{target.pk}/edit/", shown).status_code == 302
    target.refresh_from_db()
    assert (target.name, target.config) == ("bells", config)


def test_deleting_a_target_asks_first_and_leaves_its_backups(client: Client, tmp_path: Path) -> None:
    job = make_job(tmp_path)
    target = job.targets.get()
    backup = add_backup(job, timezone.now())
    job.targets.clear()
    asked = page(client, f"/targets/{target.pk}/delete/")
    assert "Its 1 copy stays" in asked
    assert Target.objects.filter(pk=target.pk).exists()
    answer = client.post(f"/targets/{target.pk}/delete/")
    assert answer["Location"] == LIST
    assert not Target.objects.filter(pk=target.pk).exists()
    backup.refresh_from_db()
    assert (backup.target, backup.target_name, backup.state) == (None, "etc", "available")
    assert (Path(backup.storage.path) / backup.artifact.relative).is_file()


def test_a_target_of_a_job_is_not_deleted_and_the_page_names_the_job(client: Client, tmp_path: Path) -> None:
    target = make_job(tmp_path, "nightly").targets.get()
    assert "Delete the target" not in page(client, f"/targets/{target.pk}/delete/")
    answer = client.post(f"/targets/{target.pk}/delete/", follow=True)
    assert "etc is protected by nightly." in answer.content.decode()
    assert Target.objects.filter(pk=target.pk).exists()


def test_testing_a_target_reports_a_missing_path_and_changes_nothing(client: Client, tmp_path: Path) -> None:
    target = make_target(tmp_path)
    Path(target.paths[0]).rename(tmp_path / "elsewhere")
    answer = client.post(f"/targets/{target.pk}/test/", follow=True)
    assert "does not exist. Check that the disk is mounted" in answer.content.decode()
    make_tree(Path(target.paths[0]))
    before = sorted(tmp_path.rglob("*"))
    answer = client.post(f"/targets/{target.pk}/test/", follow=True)
    assert "is there and can be read" in answer.content.decode()
    assert sorted(tmp_path.rglob("*")) == before


def test_with_htmx_testing_answers_with_the_region_alone(client: Client, tmp_path: Path) -> None:
    target = make_target(tmp_path)
    text = client.post(f"/targets/{target.pk}/test/", headers=HTMX).content.decode()
    assert text.strip().startswith('<div id="test"')
    assert "is there and can be read" in text


@pytest.mark.parametrize(
    ("case", "badge"),
    [
        ("no job", "No job"),
        ("not scheduled", "Not scheduled"),
        ("no copy", "Never backed up"),
        ("suspect copy only", "Never backed up"),
        ("fresh copy", "Protected"),
        ("old copy", "Late"),
        ("failed attempt", "Last backup failed"),
    ],
)
def test_a_target_says_how_it_is(client: Client, case: str, badge: str) -> None:
    target = factories.TargetFactory()
    job = None if case == "no job" else factories.BackupJobFactory(targets=[target], enabled=case != "not scheduled")
    age = timedelta(days=5) if case == "old copy" else timedelta(minutes=5)
    if case not in ("no job", "no copy"):
        suspicion = "it is small" if case == "suspect copy only" else ""
        factories.BackupFactory(job=job, created_at=timezone.now() - age, suspect_reason=suspicion)
    if case == "failed attempt":
        factories.BackupRunTargetFactory(target=target, run__job=job, status="failed", active=False)
    assert badge in page(client, LIST)
    assert badge in page(client, f"/targets/{target.pk}/")


def test_the_heading_counts_what_has_no_good_copy(client: Client) -> None:
    for job in factories.BackupJobFactory.create_batch(2):
        factories.BackupFactory(job=job)
    factories.TargetFactory()
    assert "3 targets, 1 without a good copy" in page(client, LIST)


def test_without_targets_the_next_step_is_offered_to_those_who_may_take_it(client: Client) -> None:
    assert 'href="/protect/"' in page(client, LIST)
    assert 'href="/protect/"' not in page(sign_in("viewer"), LIST)


@pytest.mark.parametrize(
    ("role", "links"),
    [
        ("viewer", {"edit/": False, "test/": False, "delete/": False}),
        ("operator", {"edit/": True, "test/": True, "delete/": False}),
        ("administrator", {"edit/": True, "test/": True, "delete/": True}),
    ],
)
def test_what_somebody_may_not_do_is_not_offered(role: str, links: dict[str, bool]) -> None:
    target = factories.TargetFactory()
    text = page(sign_in(role), f"/targets/{target.pk}/")
    assert {path: f'"/targets/{target.pk}/{path}"' in text for path in links} == links


@pytest.mark.parametrize("pk", ["0", "999999", "9" * 30, "9" * 5000])
@pytest.mark.parametrize("rest", ["", "edit/", "delete/"])
def test_a_target_that_is_not_there_is_a_404(client: Client, pk: str, rest: str) -> None:
    assert client.get(f"/targets/{pk}/{rest}").status_code == 404


@pytest.mark.parametrize("number", ["0", "-1", "x", "\0", "9" * 5000, ""])
def test_a_page_number_that_is_none_shows_a_page(client: Client, number: str) -> None:
    factories.TargetFactory()
    assert client.get(LIST, {"page": number}).status_code == 200


def test_actions_are_posted(client: Client) -> None:
    target = factories.TargetFactory()
    assert client.get(reverse("backups:target_test", args=[target.pk])).status_code == 405


def test_the_list_asks_no_more_queries_for_more_targets(client: Client) -> None:
    def fill(count: int) -> int:
        for job in factories.BackupJobFactory.create_batch(count):
            factories.BackupFactory(job=job)
            run = factories.BackupRunFactory(job=job, succeeded=True)
            factories.BackupRunTargetFactory(run=run, target=job.targets.get(), status="succeeded", active=False)
        with CaptureQueriesContext(connection) as queries:
            page(client, LIST)
        return len(queries)

    client.get(LIST)
    few, many = fill(1), fill(20)
    assert many == few
    assert many <= 16
    assert Backup.objects.count() == 21
