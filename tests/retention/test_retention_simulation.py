from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from retention_nights import Nights, Scene, play_nights, scenes
from retention_samples import copy_at, daily_copies

from backups.retention import Candidate, Duration, Guards, Policy, Protection, Reason, Schedule, Timeline, simulate

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
NEVER = Schedule(backups=[], cleanups=[])


def nightly(days: int, start: datetime = NOW) -> Schedule:
    """A backup at 02:30 and a cleanup at 03:00, as long as the first night is after `start`."""
    first = start.replace(hour=2, minute=30) + DAY
    return Schedule(
        backups=[first + number * DAY for number in range(days)],
        cleanups=[first + number * DAY + HOUR / 2 for number in range(days)],
    )


def history(number: int) -> list[Candidate]:
    """One copy a night up to this one."""
    return daily_copies(number, NOW.replace(hour=2, minute=30) - (number - 1) * DAY)


# Exactness


def visible(uid: str) -> str:
    """The uid as a simulation has it: expected copies have none."""
    return "" if uid.startswith(" ") else uid


def as_simulated(reason: Reason) -> Reason:
    values = {name: getattr(reason, name) for name in Reason.__dataclass_fields__}
    return Reason(**values | {"by": visible(reason.by)})


def assert_same_fates(timeline: Timeline, nights: Nights) -> None:
    assert list(timeline.fates) == [copy.uid for copy in nights.scene.copies]
    for copy in nights.scene.copies:
        fate = timeline.fates[copy.uid]
        assert (fate.created, fate.size, fate.deleted_at) == (copy.created, copy.size, nights.died.get(copy.uid))
        if fate.deleted_at is None:
            assert (fate.reasons, fate.by, fate.by_at) == ((), "", None)
            continue
        verdict = next(verdict for verdict in nights.plans[copy.uid].delete if verdict.uid == copy.uid)
        assert fate.reasons == tuple(map(as_simulated, verdict.reasons))
        named = [reason.by for kind in ("replaced", "exhausted") for reason in verdict.reasons if reason.kind == kind]
        by = named[0] if named else ""
        assert fate.by == visible(by)
        assert fate.by_at == (nights.copies[by].created if by else None)


def assert_same_days(timeline: Timeline, nights: Nights) -> None:
    scene = nights.scene
    first, last = nights.day_of(scene.now), nights.day_of(scene.until)
    assert [day.day for day in timeline.days] == [first + n * DAY for n in range((last - first).days + 1)]
    for day in timeline.days:
        there = nights.present_on(day.day)
        shown = [(copy.created, copy.size, copy.uid) for copy in timeline.copies_on(day.day)]
        assert shown == [(copy.created, copy.size, visible(copy.uid)) for copy in there]
        times = [nights.end_of(day.day), *(copy.created for copy in there)]
        gaps = [newer - older for newer, older in pairwise(times)]
        made = [uid for uid, copy in nights.copies.items() if uid[0] == " " and nights.day_of(copy.created) == day.day]
        assert day.copies == len(there)
        assert day.bytes == sum(copy.size for copy in there)
        assert day.trash_bytes == nights.trash_bytes_on(day.day)
        assert day.made == len(made)
        assert day.deleted == sum(1 for died in nights.died.values() if nights.day_of(died) == day.day)
        assert day.oldest == (there[-1].created if there else None)
        assert day.worst_gap == (max(gaps) if there else None)


# Every fourth scene has something to delete.
@settings(max_examples=400)
@given(scenes())
def test_a_simulation_is_the_plans_of_all_nights_one_by_one(scene: Scene) -> None:
    timeline = simulate(*scene.arguments(), **scene.options())
    nights = play_nights(scene)

    assert_same_fates(timeline, nights)
    assert_same_days(timeline, nights)
    assert list(timeline.approvals) == nights.approvals
    assert (timeline.start, timeline.until, timeline.zone.key) == (scene.now, scene.until, scene.policy.timezone)
    gaps = [day.worst_gap for day in timeline.days if day.worst_gap is not None]
    assert timeline.worst_gap == max(gaps, default=None)
    assert timeline.oldest == timeline.days[-1].oldest


# One by one


def test_each_night_the_copy_that_falls_out_goes_and_says_what_replaced_it() -> None:
    copies = history(3)

    timeline = simulate(copies, Policy(keep_daily=3), nightly(30), NOW, NOW + 5 * DAY)

    nights = [NOW.replace(hour=3) + number * DAY for number in (1, 2, 3)]
    assert [timeline.fates[copy.uid].deleted_at for copy in copies] == nights
    first = timeline.fates[copies[0].uid]
    assert [reason.text for reason in first.reasons] == [
        "daily: all 3 used, the oldest is day 2026-03-09",
        "would stay with keep_daily 4",
    ]
    assert (first.by, first.by_at) == (copies[1].uid, copies[1].created)
    last = timeline.fates[copies[2].uid]
    assert (last.by, last.by_at) == ("", NOW.replace(hour=2, minute=30) + DAY)
    assert [(day.copies, day.made, day.deleted, day.bytes, day.trash_bytes) for day in timeline.days] == [
        (3, 0, 0, 3000, 0),
        (3, 1, 1, 3000, 1000),
        (3, 1, 1, 3000, 2000),
        (3, 1, 1, 3000, 3000),
        (3, 1, 1, 3000, 3000),
        (3, 1, 1, 3000, 3000),
    ]
    assert [copy.expected for copy in timeline.copies_on(date(2026, 3, 12))] == [True, True, False]


def test_only_cleanups_delete() -> None:
    schedule = Schedule(backups=nightly(30).backups, cleanups=[])

    timeline = simulate(history(3), Policy(keep_last=1), schedule, NOW, NOW + 10 * DAY)

    assert timeline.days[-1].copies == 13
    assert not any(fate.deleted_at for fate in timeline.fates.values())


def test_what_is_due_before_now_or_after_the_end_is_not_played() -> None:
    schedule = nightly(60, NOW - 20 * DAY)

    timeline = simulate(history(1), Policy(keep_last=50), schedule, NOW, NOW + 2 * DAY)

    assert [day.made for day in timeline.days] == [0, 1, 1]


def test_a_backup_due_at_the_moment_of_a_cleanup_comes_first() -> None:
    (copy,) = history(1)
    schedule = Schedule(backups=[NOW + DAY], cleanups=[NOW + DAY])

    timeline = simulate([copy], Policy(keep_last=1), schedule, NOW, NOW + DAY)

    assert timeline.fates[copy.uid].deleted_at == NOW + DAY


def pinned_until(ends: datetime) -> list[Candidate]:
    """Two copies, of which the older one is pinned."""
    old, new = history(2)
    return [copy_at(old.created, "old", protections=(Protection(kind="pinned", text="by anna", until=ends),)), new]


def test_a_protection_that_ends_lets_its_copy_go_at_the_next_cleanup() -> None:
    schedule = Schedule(backups=[], cleanups=nightly(30).cleanups)
    ends = schedule.cleanups[3]

    def deleted_at(ends: datetime) -> datetime | None:
        timeline = simulate(pinned_until(ends), Policy(keep_last=1), schedule, NOW, NOW + 10 * DAY)
        assert [day.copies for day in timeline.days][:4] == [2, 2, 2, 2]
        return timeline.fates["old"].deleted_at

    assert deleted_at(ends) == ends
    assert deleted_at(ends + HOUR) == ends + DAY


def test_the_trash_holds_what_was_deleted_for_its_hours() -> None:
    midnight = NOW.replace(hour=0) + DAY
    schedule = Schedule(backups=[], cleanups=[midnight])

    def trash(hours: int) -> list[int]:
        timeline = simulate(history(2), Policy(keep_last=1), schedule, NOW, NOW + 4 * DAY, trash_hours=hours)
        return [day.trash_bytes for day in timeline.days]

    assert trash(48) == [0, 1000, 1000, 0, 0]
    assert trash(47) == [0, 1000, 0, 0, 0]
    assert trash(0) == [0, 0, 0, 0, 0]


def test_what_a_cleanup_at_midnight_deletes_is_there_at_the_end_of_the_day_before() -> None:
    schedule = Schedule(backups=[], cleanups=[NOW.replace(hour=0) + DAY])

    timeline = simulate(history(2), Policy(keep_last=1), schedule, NOW, NOW + DAY)

    assert [day.copies for day in timeline.days] == [2, 1]
    assert [len(timeline.copies_on(day.day)) for day in timeline.days] == [2, 1]


def test_cleanups_over_the_blast_radius_are_listed_and_taken_as_approved() -> None:
    copies = history(40)

    timeline = simulate(copies, Policy(keep_last=10), nightly(30), NOW, NOW + 5 * DAY)

    assert timeline.approvals == (NOW.replace(hour=3) + DAY,)
    assert timeline.days[1].deleted == 31


def test_copies_that_come_in_before_a_cleanup_each_replace_one() -> None:
    hours = [NOW + number * HOUR for number in range(1, 24 * 10)]
    schedule = Schedule(backups=hours, cleanups=hours[23::24])

    kept = simulate(history(1), Policy(keep_last=1), schedule, NOW, NOW + 10 * DAY, Guards(max_count=0))
    one_less = simulate(history(2), Policy(keep_last=1), schedule, NOW, NOW + 10 * DAY, Guards(max_count=0))
    before = Guards(max_count=0, arrivals=1)
    made_up_for = simulate(history(2), Policy(keep_last=1), schedule, NOW, NOW + 10 * DAY, before)

    assert kept.approvals == ()
    assert one_less.approvals == (hours[23],)
    assert made_up_for.approvals == ()


def test_what_came_in_before_an_earlier_cleanup_makes_up_for_nothing() -> None:
    first, second = nightly(2).cleanups
    schedule = Schedule(backups=[first - HOUR], cleanups=[first, second])
    copies = pinned_until(second)

    timeline = simulate(copies, Policy(keep_last=2), schedule, NOW, NOW + 3 * DAY, Guards(max_count=0))

    assert timeline.fates["old"].deleted_at == second
    assert timeline.approvals == (second,)


def test_expected_copies_have_the_median_size_of_the_last_five_good_ones() -> None:
    sizes = [900, 10, 20, 30, 40, 50]
    copies = [copy_at(NOW - (7 - n) * DAY, f"c{n}", size=size) for n, size in enumerate(sizes)]
    copies.append(copy_at(NOW - HOUR, "bad", size=10**9, flaw="suspect"))
    copies.append(copy_at(NOW + 300 * DAY, "late", size=10**9))

    def size_of(made: list[Candidate], size: int | None = None) -> int:
        timeline = simulate(made, Policy(keep_last=9), nightly(1), NOW, NOW + DAY, size=size)
        return timeline.copies_on(timeline.days[-1].day)[0].size

    assert size_of(copies) == 30
    assert size_of(copies, 7) == 7
    assert size_of(copies[:2]) == 455
    assert size_of([]) == 0


def test_flawed_copies_stay_and_are_on_no_day() -> None:
    flawed = copy_at(NOW - DAY, "bad", flaw="suspect")

    timeline = simulate([flawed, *history(1)], Policy(keep_last=1), nightly(9), NOW, NOW + 5 * DAY)

    assert timeline.fates["bad"].deleted_at is None
    assert {day.copies for day in timeline.days} == {1}


def test_a_copy_from_the_future_counts_from_its_own_date_on() -> None:
    late = copy_at(NOW + 2 * DAY, "late")
    schedule = Schedule(backups=[], cleanups=nightly(30).cleanups)

    timeline = simulate([late, *history(1)], Policy(keep_last=1), schedule, NOW, NOW + 5 * DAY)

    assert [day.copies for day in timeline.days] == [1, 1, 2, 1, 1, 1]
    assert timeline.fates[history(1)[0].uid].by == "late"


def test_without_backups_nothing_goes_after_the_first_cleanup() -> None:
    copies = history(60)
    policy = Policy(keep_daily=7, keep_weekly=4, keep_within_monthly=Duration(years=1))
    schedule = Schedule(backups=[], cleanups=nightly(400).cleanups)

    timeline = simulate(copies, policy, schedule, NOW, NOW + 400 * DAY)

    assert [day.day for day in timeline.days if day.deleted] == [(NOW + DAY).date()]
    assert timeline.worst_gap == timeline.days[-1].worst_gap == NOW + 400 * DAY - copies[-1].created


def test_without_copies_there_is_no_oldest_and_no_gap() -> None:
    timeline = simulate([], Policy(keep_last=1), NEVER, NOW, NOW + DAY)

    assert (timeline.oldest, timeline.worst_gap, timeline.fates) == (None, None, {})
    assert [(day.copies, day.worst_gap) for day in timeline.days] == [(0, None), (0, None)]


# Days


@pytest.mark.parametrize(
    ("zone", "now", "until", "days", "gap"),
    [
        ("UTC", "2026-03-10T12:00", "2026-03-10T12:00", 1, 0),
        ("UTC", "2026-03-10T00:00", "2026-03-12T00:00", 3, 48),
        ("Europe/Berlin", "2026-03-10T22:59", "2026-03-10T23:01", 2, 0),
        ("Asia/Kolkata", "2026-03-10T18:00", "2026-03-10T19:00", 2, 1),
        # Over the day of 23 hours, and over that of 25.
        ("Europe/Berlin", "2026-03-28T12:00", "2026-03-30T12:00", 3, 48),
        ("Europe/Berlin", "2026-10-24T12:00", "2026-10-26T12:00", 3, 48),
        # Where the clock changes at midnight: it is skipped in Cairo, and comes twice in Havana.
        ("Africa/Cairo", "2026-04-22T12:00", "2026-04-25T12:00", 4, 72),
        ("America/Havana", "2026-10-31T12:00", "2026-11-02T12:00", 3, 48),
    ],
)
def test_every_date_in_the_zone_has_one_day(zone: str, now: str, until: str, days: int, gap: int) -> None:
    start, end = (datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (now, until))

    timeline = simulate([copy_at(start, "a")], Policy(keep_last=1, timezone=zone), NEVER, start, end)

    first = start.astimezone(ZoneInfo(zone)).date()
    assert [day.day for day in timeline.days] == [first + number * DAY for number in range(days)]
    assert timeline.worst_gap is not None
    assert timeline.worst_gap // HOUR == gap


@pytest.mark.parametrize(
    ("zone", "date_", "hours"),
    [
        ("Europe/Berlin", date(2026, 3, 29), 23),
        ("Europe/Berlin", date(2026, 10, 25), 25),
        ("Africa/Cairo", date(2026, 4, 24), 23),
        ("Africa/Cairo", date(2026, 10, 29), 25),
        ("America/Havana", date(2026, 3, 8), 23),
        ("America/Havana", date(2026, 11, 1), 25),
        ("Asia/Kolkata", date(2026, 3, 29), 24),
    ],
)
def test_a_day_has_the_hours_that_its_clock_shows(zone: str, date_: date, hours: int) -> None:
    start = datetime.combine(date_, datetime.min.time(), tzinfo=UTC) - 2 * DAY
    every_hour = [start + number * HOUR + HOUR / 2 for number in range(24 * 5)]
    schedule = Schedule(backups=every_hour, cleanups=[])

    timeline = simulate([], Policy(timezone=zone), schedule, start, start + 5 * DAY)

    (day,) = (day for day in timeline.days if day.day == date_)
    assert day.made == hours


def test_the_copies_of_a_day_that_is_not_simulated_cannot_be_had() -> None:
    timeline = simulate(history(1), Policy(), NEVER, NOW, NOW + DAY)

    for day in (date(2026, 3, 9), date(2026, 3, 12)):
        with pytest.raises(ValueError, match=f"{day} is not simulated; the days are 2026-03-10 to 2026-03-11"):
            timeline.copies_on(day)


# Arguments


def test_unusable_times_are_refused() -> None:
    naive = datetime(2026, 3, 10)
    with pytest.raises(ValueError, match="backups has no zone"):
        Schedule(backups=[naive], cleanups=[])
    with pytest.raises(ValueError, match="cleanups are not in order"):
        Schedule(backups=[], cleanups=[NOW, NOW - HOUR])
    with pytest.raises(ValueError, match="now or until has no time zone"):
        simulate([], Policy(), NEVER, naive, NOW)
    with pytest.raises(ValueError, match="now or until has no time zone"):
        simulate([], Policy(), NEVER, NOW, naive)
    with pytest.raises(ValueError, match="the simulation would end at"):
        simulate([], Policy(), NEVER, NOW, NOW - HOUR)


def test_a_schedule_is_in_order_by_its_moments_and_not_by_its_clock() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    first, second = datetime(2026, 10, 25, 2, 45, tzinfo=berlin), datetime(2026, 10, 25, 2, 15, fold=1, tzinfo=berlin)

    schedule = Schedule(backups=[first, second], cleanups=[])

    assert [moment.astimezone(UTC).hour for moment in schedule.between(first, second).backups] == [0, 1]
    with pytest.raises(ValueError, match="backups are not in order"):
        Schedule(backups=[second, first], cleanups=[])
