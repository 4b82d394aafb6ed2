"""What the policy editor says before it saves, on the Options page and in a job's form, and what it asks for."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from django.utils.html import strip_tags

from backups.models import AuditAction, AuditEntry, Backup, BackupJob, Options
from backups.services.options import options_update
from backups.services.protections import backup_pin
from maintenance.models import MaintenanceJob
from maintenance.services import CLEANUP_NIGHTLY
from tests.pages.people import HTMX, sign_in
from tests.support import add_backup, default_jobs, make_job

pytestmark = pytest.mark.django_db

SAVE = "/options/save/"
TRIAL = "/options/retention/trial/"
VALUES = {"timezone": "UTC", "minimum_keep": "1", "trash_hours": "72"}
SAVED = {"keep_last": 10}
NOW = datetime(2026, 11, 24, 17, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def tuesday_afternoon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten hours before the next cleanup, and late enough in the month that ten days lie in it."""
    monkeypatch.setattr(timezone, "now", lambda: NOW)
    default_jobs()
    options_update(retention=SAVED, guard_pair_share=50, guard_storage_share=None)


@pytest.fixture
def client() -> Client:
    return sign_in()


@pytest.fixture
def job(tmp_path: Path) -> BackupJob:
    """Ten copies of etc, a day apart, the newest an hour old; each of 1 KiB."""
    made = make_job(tmp_path)
    fill(made)
    return made


def fill(job: BackupJob, count: int = 10, **values: Any) -> list[Backup]:
    return [add_backup(job, NOW - timedelta(days=day, hours=1), content=b"x" * 1024, **values) for day in range(count)]


def words(html: str) -> str:
    return " ".join(strip_tags(html).replace("\u00a0", " ").split())


def tried(client: Client, path: str = TRIAL, **values: Any) -> str:
    """What the region says about these values, as htmx gets it."""
    answer = client.post(path, {**VALUES, **values}, headers=HTMX)
    assert answer.status_code == 200
    assert "<html" not in answer.content.decode()
    return words(answer.content.decode())


def hidden(html: str) -> str:
    found = re.search(r'name="loss_digest" value="([0-9a-f]{64})"', html)
    assert found is not None
    return found[1]


def job_values(job: BackupJob, **values: Any) -> dict[str, Any]:
    return {
        "name": job.name,
        "targets": [target.pk for target in job.targets.all()],
        "storage": job.storage_id,
        "schedule": job.schedule,
        "timezone": "",
        "enabled": "on",
        "policy": "own",
        **values,
    }


# --- What the region says -----------------------------------------------------------------------------------------


def test_the_first_sentence_says_how_much_more_goes_than_under_the_saved_policy(client: Client, job: BackupJob) -> None:
    text = tried(client, keep_last="8")
    # Ten now and one more by the next cleanup: the saved policy deletes one of them, the new one three.
    assert "Tonight’s cleanup would move 2 backups (2.0 KiB) to the trash that the saved policy keeps." in text
    assert "In all, 3 backups would go." in text
    assert "2 more" in text
    assert Options.load().retention == SAVED
    assert Backup.objects.available().count() == 10


def test_a_policy_that_keeps_more_says_that_nothing_more_goes(client: Client, job: BackupJob) -> None:
    text = tried(client, keep_last="20")
    assert "Nothing more is deleted than today." in text
    assert "1 backup would stay that the saved policy deletes." in text


def test_the_saved_policy_is_recognised(client: Client, job: BackupJob) -> None:
    assert "This is what is saved already." in tried(client, keep_last="10")


def test_a_guard_that_would_stop_it_is_named_with_its_share_and_limit(client: Client, job: BackupJob) -> None:
    text = tried(client, keep_last="2")
    assert "That is 82 % of etc, by nightly: more than the 50 % that a cleanup may delete without approval" in text
    assert "so it would stop and ask." in text
    assert "without approval" not in tried(client, keep_last="8")


def test_the_limits_in_the_form_are_tried_along(client: Client, job: BackupJob) -> None:
    text = tried(client, keep_last="8", guard_pair_share="", guard_pair_count="", guard_pair_bytes="1 KiB")
    assert "the limit without approval is 1.0 KiB, so it would stop and ask." in text


def test_a_guard_of_the_storage_is_named_too(client: Client, job: BackupJob) -> None:
    text = tried(client, keep_last="8", guard_storage_count="1")
    # Ten now and the one expected by then, as in the pair's own figures.
    assert "On storage nightly-storage this would delete 3 of 11 good copies, 2 more than came in" in text


def test_what_a_pin_holds_is_not_counted_as_lost(client: Client, job: BackupJob) -> None:
    for backup in Backup.objects.order_by("created_at")[1:3]:
        backup_pin(backup=backup, by="anna")
    assert "Nothing more is deleted than today." in tried(client, keep_last="8")


def test_a_job_with_its_own_policy_is_named_as_not_affected_and_has_no_row(
    client: Client, job: BackupJob, tmp_path: Path
) -> None:
    own = make_job(tmp_path, "archive", targets=("www",), retention={"keep_last": 99})
    fill(own, 3)
    html = client.post(TRIAL, {**VALUES, "keep_last": "5"}, headers=HTMX).content.decode()
    assert "Not affected, by a policy of their own: archive / www." in words(html)
    assert f'href="/backup-jobs/{own.pk}/"' not in html


def test_the_minimum_touches_jobs_with_their_own_policy_as_well(client: Client, job: BackupJob, tmp_path: Path) -> None:
    own = make_job(tmp_path, "archive", targets=("www",), retention={"keep_last": 1})
    fill(own, 4)
    text = tried(client, keep_last="10", minimum_keep="3")
    assert "archive / www" in text.partition("The year ahead")[0]
    assert "2 backups would stay that the saved policy deletes." in text


def test_a_pair_that_cannot_be_planned_is_named_with_the_reason(client: Client, job: BackupJob) -> None:
    (Path(job.storage.path) / ".keepwell-storage.json").unlink()
    text = tried(client, keep_last="5")
    assert "nightly / etc:" in text
    assert "Until then nothing of it would be changed." in text
    assert "would move" not in text


def test_a_stored_policy_that_cannot_be_used_is_a_reason_too(client: Client, job: BackupJob) -> None:
    BackupJob.objects.update(retention={"keep_last": "many"})
    assert "nightly / etc: Its retention policy cannot be used" in tried(client, keep_last="5")


def test_the_year_ahead_is_of_the_pair_that_loses_most_until_another_is_chosen(
    client: Client, job: BackupJob, tmp_path: Path
) -> None:
    second = make_job(tmp_path, "weekly", targets=("www",), schedule="0 4 * * 0")
    fill(second, 4)
    html = client.post(TRIAL, {**VALUES, "keep_last": "3"}, headers=HTMX).content.decode()
    chosen = re.search(r'<option value="([\d-]+)" selected>([^<]+)', html)
    assert chosen is not None
    assert chosen[2] == "nightly / etc"
    pair = f"{second.pk}-{second.targets.get().pk}"
    html = client.post(TRIAL, {**VALUES, "keep_last": "3", "trial_pair": pair}, headers=HTMX).content.decode()
    assert f'<option value="{pair}" selected>weekly / www' in html


def test_the_year_ahead_shows_figures_curve_and_what_goes_when(client: Client, job: BackupJob) -> None:
    html = client.post(TRIAL, {**VALUES, "keep_last": "4"}, headers=HTMX).content.decode()
    text = words(html)
    assert "Within 90 days 10 copies" not in text, "all ten go under both policies; only some of them sooner"
    assert "6 fewer" in text
    assert "6.0 KiB less" in text
    assert "6 days younger" in text
    assert html.count('class="new" d="M0.0') == 1
    assert html.count('class="old" d="M0.0') == 1
    assert "What goes when: 10 of today’s copies within 90 days" in text
    oldest = Backup.objects.order_by("created_at").first()
    assert oldest is not None
    assert f'href="/backups/{oldest.uid}/"' in html
    going = text[text.index("What goes when") :]
    assert going.count("no later") == 1, "the oldest goes tonight under both"
    assert going.index("no later") > going.rindex("2026, 03:00"), "what goes because of the change comes first"


def test_the_slider_looks_at_the_chosen_pair_and_no_other(client: Client, job: BackupJob, tmp_path: Path) -> None:
    second = make_job(tmp_path, "weekly", targets=("www",), schedule="0 4 * * 0")
    fill(second, 3)
    pair = f"{second.pk}-{second.targets.get().pk}"
    values = {**VALUES, "keep_last": "2", "trial_pair": pair, "trial_day": "0"}
    html = client.post(TRIAL, values, headers={**HTMX, "HX-Target": "trial_day"}).content.decode()
    assert "Saved policy 3 copies" in words(html)


def test_the_slider_swaps_the_chosen_day_alone(client: Client, job: BackupJob) -> None:
    values = {**VALUES, "keep_last": "4", "trial_day": "0"}
    answer = client.post(TRIAL, values, headers={**HTMX, "HX-Target": "trial_day"})
    html = answer.content.decode()
    assert html.strip().startswith('<div id="trial_day"')
    assert 'id="trial"' not in html
    assert "HX-Target" in answer["Vary"]
    today = words(html)
    later = words(client.post(TRIAL, {**values, "trial_day": "200"}, headers=HTMX).content.decode())
    assert "today Saved policy 10 copies" in today
    assert "in 200 days Saved policy 10 copies" in later
    assert "This policy 4 copies" in later
    assert "6 fewer" in later


@pytest.mark.parametrize("changes", [{"trial_pair": "998-999"}, {"keep_last": "x"}], ids=["no such pair", "no rule"])
def test_without_such_a_day_the_slider_gets_the_whole_region(
    client: Client, job: BackupJob, changes: dict[str, str]
) -> None:
    values = {**VALUES, "keep_last": "4", "trial_day": "3", **changes}
    answer = client.post(TRIAL, values, headers={**HTMX, "HX-Target": "trial_day"})
    assert answer["HX-Retarget"] == "#trial"
    assert 'id="trial"' in answer.content.decode()


@pytest.mark.parametrize("day", ["-1", "x", "9" * 40, "", "\u0663"])
def test_a_day_of_nonsense_is_the_ninetieth(client: Client, job: BackupJob, day: str) -> None:
    assert "in 90 days Saved policy" in tried(client, keep_last="4", trial_day=day)


def test_copies_that_only_one_policy_has_are_marked_on_the_day(client: Client, job: BackupJob) -> None:
    html = client.post(TRIAL, {**VALUES, "keep_last": "4", "trial_day": "30"}, headers=HTMX).content.decode()
    day = html[html.index('id="trial_day"') : html.index("marks-legend")]
    assert (day.count('class="only"'), day.count('class="missing"')) == (6, 6)


def test_a_cleanup_that_is_days_away_is_called_by_its_date(client: Client, job: BackupJob) -> None:
    MaintenanceJob.objects.filter(key=CLEANUP_NIGHTLY).update(schedule_cron="0 3 * * 0")
    assert "The next cleanup (Sun 29 Nov, 03:00) would move" in tried(client, keep_last="8")


def test_without_a_scheduled_cleanup_it_speaks_of_one_now_and_says_so(client: Client, job: BackupJob) -> None:
    for made in default_jobs().values():
        made.enabled = False
        made.save()
    text = tried(client, keep_last="8")
    assert "A cleanup now would move 2 backups" in text
    assert "No cleanup is scheduled" in text


def test_without_htmx_the_preview_is_the_whole_page_with_the_form_as_typed(client: Client, job: BackupJob) -> None:
    html = client.post(TRIAL, {**VALUES, "keep_last": "8"}).content.decode()
    assert 'name="keep_last" value="8"' in html
    assert "would move 2 backups" in words(html)
    assert "Show that day" in html


def test_refused_values_are_explained_in_the_region(client: Client, job: BackupJob) -> None:
    answer = client.post(TRIAL, {**VALUES, "keep_last": "x"}, headers=HTMX)
    assert answer.status_code == 422
    assert "These values cannot be tried yet" in answer.content.decode()


def test_an_empty_installation_has_nothing_to_show(client: Client) -> None:
    assert "This is what is saved already." in tried(client, keep_last="3")


def test_a_trial_needs_no_more_queries_for_more_copies(
    client: Client, job: BackupJob, django_assert_max_num_queries: Any
) -> None:
    fill(job, 40)
    with django_assert_max_num_queries(32):
        tried(client, keep_last="3")


# --- Saving on the Options page -----------------------------------------------------------------------------------


def test_a_policy_within_the_limits_is_saved_without_a_question(client: Client, job: BackupJob) -> None:
    assert client.post(SAVE, {**VALUES, "keep_last": "8"}).status_code == 302
    assert Options.load().retention == {"keep_last": 8}


def test_a_policy_beyond_the_limits_is_saved_only_with_the_jobs_name(client: Client, job: BackupJob) -> None:
    values = {**VALUES, "keep_last": "2"}
    answer = client.post(SAVE, values)
    text = words(answer.content.decode())
    assert answer.status_code == 422
    assert "Nothing was saved yet." in text
    assert "nightly / etc: 8 backups (8.0 KiB) would go that the saved policy keeps" in text
    assert "Type the job’s name to save: nightly" in text
    assert "Type the name, or change" not in text, "nothing was answered yet, so nothing was wrong"
    assert Options.load().retention == SAVED
    digest = hidden(answer.content.decode())
    wrong = client.post(SAVE, {**values, "loss_digest": digest, "loss_name": "nigthly"})
    assert wrong.status_code == 422
    assert "This is not “nightly”." in words(wrong.content.decode())
    blank = client.post(SAVE, {**values, "loss_digest": digest, "loss_name": ""})
    assert "Type the name, or change the rules back." in words(blank.content.decode())
    assert Options.load().retention == SAVED
    assert client.post(SAVE, {**values, "loss_digest": digest, "loss_name": "nightly"}).status_code == 302
    assert Options.load().retention == {"keep_last": 2}


def test_a_name_alone_is_not_enough(client: Client, job: BackupJob) -> None:
    answer = client.post(SAVE, {**VALUES, "keep_last": "2", "loss_name": "nightly"})
    assert answer.status_code == 422
    assert Options.load().retention == SAVED


def test_a_loss_that_grew_meanwhile_is_asked_for_anew(client: Client, job: BackupJob) -> None:
    values = {**VALUES, "keep_last": "2"}
    digest = hidden(client.post(SAVE, values).content.decode())
    add_backup(job, NOW - timedelta(minutes=5))
    answer = client.post(SAVE, {**values, "loss_digest": digest, "loss_name": "nightly"})
    assert answer.status_code == 422
    assert "What would be lost has changed meanwhile." in words(answer.content.decode())
    assert hidden(answer.content.decode()) != digest
    assert Options.load().retention == SAVED


def test_the_last_copy_of_a_month_is_asked_for_though_no_limit_is_reached(client: Client, job: BackupJob) -> None:
    add_backup(job, NOW - timedelta(days=95))
    options_update(retention={"keep_last": 10, "keep_monthly": 12})
    answer = client.post(SAVE, {**VALUES, "keep_last": "10"})
    assert answer.status_code == 422
    text = words(answer.content.decode())
    assert "the last of August 2026 among them" in text
    assert "without approval" not in text


def test_a_limit_of_the_storage_asks_as_well(client: Client, job: BackupJob) -> None:
    options_update(guard_storage_count=2)
    values = {**VALUES, "keep_last": "7"}
    answer = client.post(SAVE, values)
    text = words(answer.content.decode())
    assert answer.status_code == 422
    assert "On storage nightly-storage this would delete" in text
    assert "Type the job’s name to save: nightly" in text
    assert client.post(SAVE, {**VALUES, "keep_last": "8"}).status_code == 302


def test_the_name_is_of_the_job_that_loses_most(client: Client, job: BackupJob, tmp_path: Path) -> None:
    fill(make_job(tmp_path, "archive", targets=("www",)), 7)
    text = words(client.post(SAVE, {**VALUES, "keep_last": "1"}).content.decode())
    assert "It concerns 2 jobs; nightly loses most." in text
    assert "archive / www: 7 backups" in text


def test_limits_lifted_along_with_the_rules_do_not_lift_the_question(client: Client, job: BackupJob) -> None:
    lifted = {"guard_pair_share": "", "guard_pair_count": ""}
    assert client.post(SAVE, {**VALUES, **lifted, "keep_last": "2"}).status_code == 422
    assert Options.load().guard_pair_share == 50


def test_a_lower_minimum_counts_as_a_loss_too(client: Client, job: BackupJob) -> None:
    options_update(retention={"keep_last": 1}, minimum_keep=10)
    answer = client.post(SAVE, {**VALUES, "keep_last": "1", "minimum_keep": "1"})
    assert answer.status_code == 422
    assert Options.load().minimum_keep == 10


def test_keeping_everything_never_asks(client: Client, job: BackupJob) -> None:
    assert client.post(SAVE, VALUES).status_code == 302
    assert Options.load().retention == {}


def test_a_storage_that_is_away_does_not_hide_the_loss(client: Client, job: BackupJob) -> None:
    (Path(job.storage.path) / ".keepwell-storage.json").unlink()
    assert client.post(SAVE, {**VALUES, "keep_last": "2"}).status_code == 422


def test_a_change_is_on_record_in_words_with_what_was_accepted(client: Client, job: BackupJob) -> None:
    values = {**VALUES, "keep_last": "2", "guard_pair_bytes": "50 GiB"}
    digest = hidden(client.post(SAVE, values).content.decode())
    assert not AuditEntry.objects.exists()
    client.post(SAVE, {**values, "loss_digest": digest, "loss_name": "nightly"})
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor) == (AuditAction.POLICY, "the administrator")
    assert "policy from the last 10; periods in UTC to the last 2; periods in UTC" in entry.reason
    assert "pair bytes from no limit to 50.0 GiB" in entry.reason
    assert "Accepted: nightly / etc: 8 backups" in entry.reason


def test_saving_what_is_saved_leaves_no_record(client: Client, job: BackupJob) -> None:
    client.post(SAVE, {**VALUES, "keep_last": "10"})
    assert not AuditEntry.objects.exists()


# --- A job's own policy -------------------------------------------------------------------------------------------


def test_a_jobs_form_is_tried_for_its_own_pairs_only(client: Client, job: BackupJob, tmp_path: Path) -> None:
    fill(make_job(tmp_path, "archive", targets=("www",)), 5)
    text = tried(client, f"/retention/trial/job/{job.pk}/", **job_values(job, keep_last="8"))
    assert "would move 2 backups" in text
    assert "archive" not in text


def test_a_job_that_goes_back_to_the_policy_in_options_is_tried_too(client: Client, job: BackupJob) -> None:
    BackupJob.objects.update(retention={"keep_last": 99})
    text = tried(client, f"/retention/trial/job/{job.pk}/", **job_values(job, policy="options", keep_last="x"))
    assert "would move 1 backup" in text


def test_a_half_filled_form_is_tried_all_the_same(client: Client, job: BackupJob) -> None:
    values = job_values(job, keep_last="8", name="", targets=[])
    assert "would move 2 backups" in tried(client, f"/retention/trial/job/{job.pk}/", **values)


def test_a_job_without_copies_shows_what_its_rules_would_gather(client: Client, tmp_path: Path) -> None:
    options_update(retention={"keep_last": 10})
    text = tried(client, "/retention/trial/job/", policy="own", schedule="30 2 * * *", keep_daily="30")
    assert "There are no copies yet, so nothing can be deleted." in text
    assert "The first year" in text
    assert "20 more" in text
    by_hand = tried(client, "/retention/trial/job/", policy="own", schedule="", keep_daily="30")
    assert "It has no schedule to look ahead with." in by_hand


@pytest.mark.parametrize("schedule", ["61 * * * *", "nonsense", "\0", "0 " * 80])
def test_a_schedule_that_cannot_be_read_is_no_error_of_the_trial(client: Client, job: BackupJob, schedule: str) -> None:
    for path in ("/retention/trial/job/", f"/retention/trial/job/{job.pk}/"):
        tried(client, path, **job_values(job, keep_last="8", schedule=schedule))


def test_a_jobs_page_without_htmx_has_the_form_and_the_trial(client: Client, job: BackupJob) -> None:
    html = client.post(f"/retention/trial/job/{job.pk}/", job_values(job, keep_last="8")).content.decode()
    assert 'name="keep_last" value="8"' in html
    assert "Save nightly" in html
    assert "would move 2 backups" in words(html)


def test_a_jobs_dangerous_policy_is_saved_only_with_its_name_and_is_on_record(client: Client, job: BackupJob) -> None:
    url, values = f"/backup-jobs/{job.pk}/edit/", job_values(job, keep_last="2", name="renamed")
    answer = client.post(url, values)
    assert answer.status_code == 422
    assert "Type the job’s name to save: nightly" in words(answer.content.decode())
    job.refresh_from_db()
    assert (job.name, job.retention) == ("nightly", None), "nothing of the form is saved"
    digest = hidden(answer.content.decode())
    assert client.post(url, {**values, "loss_digest": digest, "loss_name": "nightly"}).status_code == 302
    job.refresh_from_db()
    assert (job.name, job.retention) == ("renamed", {"keep_last": 2})
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.job_name) == (AuditAction.POLICY, "renamed")
    assert entry.reason.startswith("nightly: from the policy in Options to the last 2; periods in UTC. Accepted: ")


def test_a_harmless_change_of_a_job_is_saved_at_once(client: Client, job: BackupJob) -> None:
    url = f"/backup-jobs/{job.pk}/edit/"
    assert client.post(url, job_values(job, keep_last="12")).status_code == 302
    assert "to the last 12" in AuditEntry.objects.get().reason
    assert client.post(url, job_values(job, keep_last="12", schedule="0 1 * * *")).status_code == 302
    assert AuditEntry.objects.count() == 1, "the policy is the same"


def test_a_job_is_not_asked_about_what_the_service_refuses_anyway(
    client: Client, job: BackupJob, tmp_path: Path
) -> None:
    make_job(tmp_path, "archive", targets=("www",))
    answer = client.post(f"/backup-jobs/{job.pk}/edit/", job_values(job, keep_last="2", name="archive"))
    assert answer.status_code == 422
    assert "loss_digest" not in answer.content.decode()


def test_a_trial_of_a_job_that_is_not_there_is_a_404(client: Client) -> None:
    assert client.post("/retention/trial/job/999/", VALUES).status_code == 404


# --- Limits in the form -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("50 GiB", 50 * 2**30),
        ("1.5 TB", 3 * 2**39),
        ("1,5t", 3 * 2**39),
        ("500M", 500 * 2**20),
        ("4096 B", 4096),
        ("", None),
        ("0", None),
        ("0 GiB", None),
    ],
)
def test_a_size_limit_is_read_as_people_write_it_and_shown_so_that_it_can_be_read_again(
    client: Client, typed: str, stored: int | None
) -> None:
    client.post(SAVE, {**VALUES, "guard_pair_bytes": typed})
    assert Options.load().guard_pair_bytes == stored
    html = client.get("/options/").content.decode()
    shown = re.search(r'name="guard_pair_bytes" value="([^"]*)"', html)
    assert (shown is None) == (stored is None)
    if shown is not None:
        client.post(SAVE, {**VALUES, "guard_pair_bytes": shown[1]})
        assert Options.load().guard_pair_bytes == stored


@pytest.mark.parametrize(
    ("field", "typed"),
    [
        ("guard_pair_bytes", "50"),
        ("guard_pair_bytes", "a lot"),
        ("guard_storage_bytes", "-5 GiB"),
        ("guard_storage_bytes", "9" * 18 + " E"),
        ("guard_pair_share", "101"),
        ("guard_pair_share", "-1"),
        ("guard_storage_count", "x"),
    ],
)
def test_a_limit_that_cannot_be_read_is_refused_at_its_field(client: Client, field: str, typed: str) -> None:
    answer = client.post(SAVE, {**VALUES, field: typed})
    assert answer.status_code == 422
    assert answer.context["form"].errors[field]
    assert 'class="more limits" open' in answer.content.decode()


def test_limits_are_folded_away_at_their_first_values_only(client: Client) -> None:
    options_update(guard_pair_share=25, guard_pair_count=50, guard_storage_share=25)
    assert 'class="more limits">' in client.get("/options/").content.decode()
    options_update(guard_pair_count=None)
    assert 'class="more limits" open>' in client.get("/options/").content.decode()


def test_limits_that_are_not_sent_stay_as_they_are(client: Client) -> None:
    client.post(SAVE, VALUES)
    assert Options.load().guard_pair_share == 50
    client.post(SAVE, {**VALUES, "guard_pair_share": ""})
    assert Options.load().guard_pair_share is None


def test_a_date_in_the_far_future_does_not_break_the_picture(client: Client, job: BackupJob) -> None:
    add_backup(job, datetime.fromisoformat("9000-01-01T00:00:00+00:00"))
    assert "would move" in tried(client, keep_last="8")
