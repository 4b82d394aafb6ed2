"""The page that explains retention, and its worked example."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta

import pytest
from django.test import Client
from django.utils.html import strip_tags

from backups.models import Options
from backups.retention import Candidate, Policy, plan
from backups.services.options import options_update
from maintenance.example import HABITS, Example, example
from tests.pages.people import HTMX, sign_in

URL = "/retention/"
TODAY = date(2026, 11, 24)


def shown(habit: str = "daily", nights: int = 0, stopped: bool = False, special: bool = False, **rules: int) -> Example:
    policy = Policy.from_mapping({**rules, "timezone": "Europe/Berlin"})
    return example(
        habit=habit, policy=policy, minimum_keep=1, nights=nights, today=TODAY, stopped=stopped, special=special
    )


def there(found: Example) -> list[datetime]:
    copies = [copy for row in found.rows for copy in row.copies if copy]
    return sorted(copy.created for copy in copies if copy.state != "gone")


def words(html: str) -> str:
    return " ".join(strip_tags(html).replace("\u00a0", " ").split())


# --- The example --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("habit", HABITS)
def test_the_example_decides_as_the_engine_does(habit: str) -> None:
    rules = {"keep_last": 2, "keep_daily": 3, "keep_weekly": 2, "keep_monthly": 3}
    found = shown(habit, **rules)
    policy = Policy.from_mapping({**rules, "timezone": "Europe/Berlin"})
    days = [TODAY - timedelta(days=number) for number in range(HABITS[habit].days)]
    now = datetime(2026, 11, 24, 3, tzinfo=policy.zone)
    moments = [moment for day in days for moment in HABITS[habit].on(day, policy.zone) if moment <= now]
    copies = [Candidate(uid=str(number), created=moment, size=1) for number, moment in enumerate(moments)]
    kept = [verdict.candidate.created for verdict in plan(copies, policy, now).keep]
    assert there(found) == sorted(kept)
    assert (found.made, found.there) == (len(copies), len(kept))


def test_after_some_nights_it_stands_where_cleaning_up_every_night_leads() -> None:
    found = shown(nights=30, keep_daily=5, keep_monthly=2)
    assert found.made == 90
    newest = max(there(found))
    assert newest.date() == TODAY + timedelta(days=30)
    gone = [copy for row in found.rows for copy in row.copies if copy and copy.gone]
    assert gone
    assert all(copy.reasons and 1 <= (copy.gone or 0) <= 30 for copy in gone)


def test_when_backups_stop_nothing_further_is_deleted() -> None:
    tonight, later = shown(keep_daily=4), shown(nights=60, stopped=True, keep_daily=4)
    assert there(later) == there(tonight)
    assert later.made == tonight.made


def test_the_special_copies_stay_each_for_its_own_reason() -> None:
    found = shown(special=True, keep_last=1)
    special = {copy.badge: copy for row in found.rows for copy in row.copies if copy and copy.badge}
    assert set(special) == {"pinned", "verified", "suspect"}
    assert {name: copy.state for name, copy in special.items()} == {
        "pinned": "keep",
        "verified": "keep",
        "suspect": "flawed",
    }
    assert "pinned by you: before the move" in special["pinned"].reasons
    assert "the newest verified copy always stays" in special["verified"].reasons


def test_rows_in_which_all_copies_are_gone_are_left_out_of_a_long_example() -> None:
    found = shown("weekly", keep_last=3)
    listed = sum(1 for row in found.rows for copy in row.copies if copy)
    assert found.hidden > 0
    assert listed + found.hidden == found.made
    assert all(any(copy and copy.state != "gone" for copy in row.copies) for row in found.rows)


def test_a_habit_with_gaps_has_nights_without_a_copy_that_use_nothing_up() -> None:
    found = shown("gaps", keep_daily=7)
    kept = there(found)
    assert len(kept) == 7
    assert kept[-1] - kept[0] > timedelta(days=7)


# --- The page -----------------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("role", ["viewer", "operator", "administrator"])
def test_everybody_can_read_how_retention_works(role: str) -> None:
    text = words(sign_in(role).get(URL).content.decode())
    assert "How retention works" in text
    assert "of 60 copies stay" in text


@pytest.mark.django_db
def test_the_words_go_by_what_stands_in_options() -> None:
    options_update(minimum_keep=4, trash_hours=24, guard_pair_share=10, guard_pair_count=None)
    text = words(sign_in().get(URL).content.decode())
    assert "The newest 4 good copies of every target" in text
    assert "For 24 h a deleted copy lies whole in the trash" in text
    assert "it takes at most 10 % of a target’s good copies." in text
    options_update(trash_hours=0, guard_pair_share=None)
    text = words(sign_in().get(URL).content.decode())
    assert "The trash is set to 0 hours" in text
    assert "There is no such limit in Options now." in text


@pytest.mark.django_db
def test_htmx_gets_the_example_alone_and_a_browser_the_same_in_its_page() -> None:
    query = {"habit": "hourly", "keep_last": "5", "nights": "0"}
    answer = sign_in().get(URL, query, headers=HTMX)
    html = answer.content.decode()
    assert html.strip().startswith('<div id="example"')
    assert "HX-Request" in answer["Vary"]
    assert "5 of 123 copies stay" in words(html)
    page = sign_in().get(URL, query).content.decode()
    assert "5 of 123 copies stay" in words(page)
    assert re.search(r'name="keep_last" value="5"', page)
    assert not re.search(r'name="keep_daily" value', page), "a rule that the address leaves out is off"


@pytest.mark.django_db
def test_every_copy_says_when_it_was_made_whether_it_stays_and_why() -> None:
    html = sign_in().get(URL, {"keep_last": "1"}, headers=HTMX).content.decode()
    buttons = re.findall(r'aria-describedby="(why-\d+-\d+)"', html)
    assert len(buttons) == 60
    assert all(f'id="{why}"' in html for why in buttons)
    text = words(html)
    assert text.count("goes tonight") == 59
    assert "Last: the one used" in text


@pytest.mark.django_db
@pytest.mark.parametrize(
    "query",
    [
        {"habit": "never"},
        {"nights": "-1"},
        {"nights": "9" * 30},
        {"keep_last": "x"},
        {"keep_daily": "-5"},
        {"keep_within": "a while"},
        {"minimum_keep": "0"},
        {"special": "\0"},
        {"keep_within": "\0"},
        {"habit": "\0"},
    ],
    ids=str,
)
def test_nonsense_in_the_address_is_no_error(query: dict[str, str]) -> None:
    assert sign_in().get(URL, query).status_code == 200


@pytest.mark.django_db
def test_a_rule_that_cannot_be_used_is_left_out_and_named() -> None:
    text = words(sign_in().get(URL, {"keep_last": "2", "keep_within": "a while"}, headers=HTMX).content.decode())
    assert "What cannot be used is left out: Everything within:" in text
    assert "2 of 60 copies stay" in text


@pytest.mark.django_db
def test_a_zone_of_no_use_in_options_does_not_lock_the_page() -> None:
    Options.objects.update_or_create(pk=1, defaults={"timezone": "Atlantis/Capital"})
    assert sign_in().get(URL).status_code == 200


@pytest.mark.django_db
@pytest.mark.parametrize("page", ["/options/", "/backup-jobs/new/"])
def test_the_page_is_linked_from_where_rules_are_written(page: str, client: Client) -> None:
    assert f'href="{URL}"' in sign_in().get(page).content.decode()
