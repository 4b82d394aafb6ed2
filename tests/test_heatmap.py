from __future__ import annotations

import itertools
from datetime import date, timedelta

import pytest

from backups.heatmap import (
    DELETED,
    FAILED,
    FLAWED,
    KEPT,
    LEAVING,
    LEFT,
    MISSED,
    PAST_KINDS,
    PITCH,
    TOP,
    TRASHED,
    AheadDay,
    PastDay,
    day_words,
    months,
    picture,
    year_before,
)

TODAY = date(2026, 11, 24)
LAST = date(2027, 2, 22)


def past(*kinds: str, protected: int = 0) -> PastDay:
    day = PastDay()
    for number, kind in enumerate(kinds):
        day.add(kind, protected=number < protected)
    return day


@pytest.mark.parametrize("kind", PAST_KINDS)
def test_a_day_shows_the_strongest_of_what_it_holds(kind: str) -> None:
    weaker = PAST_KINDS[PAST_KINDS.index(kind) :]
    assert past(*reversed(weaker)).kind == kind


def test_a_day_counts_only_what_it_shows() -> None:
    day = past(KEPT, DELETED, DELETED, KEPT, DELETED, FAILED)
    assert (day.kind, day.count) == (KEPT, 2)


@pytest.mark.parametrize(
    ("day", "words"),
    [
        pytest.param(past(KEPT), "1 copy kept", id="one"),
        pytest.param(past(KEPT, KEPT, protected=1), "2 copies kept, 1 protected", id="protected"),
        pytest.param(
            past(LEAVING, TRASHED, FAILED),
            "1 copy that the next cleanup moves to the trash, 1 copy in the trash, 1 run failed",
            id="several kinds",
        ),
        pytest.param(past(FLAWED), "1 copy that does not count as good", id="flawed"),
        pytest.param(past(MISSED), "no run, though one was due", id="missed"),
    ],
)
def test_a_past_day_says_all_that_it_holds(day: PastDay, words: str) -> None:
    assert day.words == words


@pytest.mark.parametrize(
    ("day", "kind", "words"),
    [
        (AheadDay(due=1, last=LAST), "expected", "1 copy due, gone again by 22 Feb 2027"),
        (AheadDay(due=1, staying=1, last=LAST), "staying", "1 copy due, still there on 22 Feb 2027"),
        (AheadDay(due=24, staying=1, last=LAST), "staying", "24 copies due, 1 of them still there on 22 Feb 2027"),
        (AheadDay(going=2, last=LAST), "losing", "2 copies go to the trash"),
        (AheadDay(asks=True, last=LAST), "quiet", "the cleanup would stop and ask"),
        (AheadDay(last=LAST), "", ""),
    ],
)
def test_a_day_ahead_says_what_is_expected(day: AheadDay, kind: str, words: str) -> None:
    assert (day.kind, day.words) == (kind, words)


def test_weekdays_are_rows_and_iso_weeks_columns() -> None:
    first = year_before(TODAY)
    days = {day: past(KEPT) for day in (first, first + timedelta(days=6), first + timedelta(days=7), TODAY)}
    drawn = picture(days, first=first, last=TODAY, today=TODAY)
    places = {cell.day: ((cell.x - LEFT) // PITCH, (cell.y - TOP) // PITCH) for cell in drawn.cells}
    assert first.isoweekday() == 1
    assert places == {
        first: (0, 0),
        first + timedelta(days=6): (0, 6),
        first + timedelta(days=7): (1, 0),
        TODAY: (52, 1),
    }
    assert drawn.width == LEFT + 53 * PITCH


def test_days_without_anything_are_one_path_and_no_cell() -> None:
    drawn = picture(
        {TODAY: past(KEPT), TODAY - timedelta(days=1): PastDay()},
        first=TODAY - timedelta(days=9),
        last=TODAY,
        today=TODAY,
    )
    assert [cell.day for cell in drawn.cells] == [TODAY]
    assert drawn.blanks.count("M") == 9


def test_a_picture_that_begins_within_a_week_leaves_the_days_before_out() -> None:
    friday = date(2026, 11, 27)
    drawn = picture({}, first=friday, last=friday + timedelta(days=3), today=TODAY)
    assert drawn.blanks.count("M") == 4
    assert drawn.today is None


def test_only_a_day_of_the_picture_is_chosen() -> None:
    first = TODAY - timedelta(days=10)
    inside, outside = (
        picture({}, first=first, last=TODAY, today=TODAY, chosen=day).chosen
        for day in (first, first - timedelta(days=1))
    )
    assert inside is not None
    assert inside.text == "Sat 14 Nov 2026"
    assert outside is None


def test_months_are_named_once_each_with_the_year_where_it_changes() -> None:
    drawn = picture({}, first=year_before(TODAY), last=TODAY, today=TODAY)
    assert [label.text for label in drawn.months] == [
        "Dec 2025",
        "Jan 2026",
        *("Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov"),
    ]
    places = [label.x for label in drawn.months]
    assert all(later - earlier >= 4 * PITCH for earlier, later in itertools.pairwise(places))


@pytest.mark.parametrize("start", [date(2026, 1, 1) + timedelta(days=number) for number in range(0, 365, 13)], ids=str)
def test_month_names_never_overlap(start: date) -> None:
    drawn = picture({}, first=start, last=start + timedelta(days=89), today=start)
    places = [label.x for label in drawn.months]
    assert places
    assert all(later - earlier >= 4 * PITCH for earlier, later in itertools.pairwise(places))


@pytest.mark.parametrize(
    ("day", "number"),
    [
        (past(KEPT), ""),
        (past(*[KEPT] * 24), "24"),
        (past(*[KEPT] * 120), "99+"),
        (past(FAILED, FAILED), ""),
    ],
    ids=["one", "24", "more than fit", "runs"],
)
def test_a_mark_carries_the_number_of_copies_when_there_are_several(day: PastDay, number: str) -> None:
    [cell] = picture({TODAY: day}, first=TODAY, last=TODAY, today=TODAY).cells
    assert cell.number == number


def test_the_table_sums_up_by_month_newest_first() -> None:
    days = {
        date(2026, 10, 30): past(KEPT, DELETED),
        date(2026, 11, 1): past(MISSED),
        date(2026, 11, 2): past(KEPT, KEPT, protected=2),
    }
    rows = months(days)
    assert [row.first for row in rows] == [date(2026, 11, 1), date(2026, 10, 1)]
    assert [dict(zip(PAST_KINDS, row.counts, strict=True))[KEPT] for row in rows] == [2, 1]
    assert rows[0].protected == 2
    assert dict(zip(PAST_KINDS, rows[0].counts, strict=True))[MISSED] == 1


def test_a_day_in_words() -> None:
    assert day_words(date(2026, 11, 3)) == "Tue 3 Nov 2026"
    assert day_words(date(2026, 11, 3), weekday=False) == "3 Nov 2026"
