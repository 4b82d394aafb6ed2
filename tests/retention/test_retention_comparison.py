from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from retention_nights import Scene, scenes, some_policies
from retention_samples import copy_at, daily_copies, deleted, kept

from backups.retention import Candidate, Guards, Policy, Schedule, compare, plan, simulate

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
NIGHTS = Schedule(
    backups=[NOW.replace(hour=2, minute=30) + number * DAY for number in range(1, 60)],
    cleanups=[NOW.replace(hour=3) + number * DAY for number in range(1, 60)],
)
NEVER = Schedule(backups=[], cleanups=[])


def history(number: int) -> list[Candidate]:
    """One copy a night up to this one."""
    return daily_copies(number, NOW.replace(hour=2, minute=30) - (number - 1) * DAY)


def test_a_comparison_says_what_a_tighter_policy_deletes_tonight_and_later() -> None:
    copies = history(10)

    compared = compare(copies, Policy(keep_daily=10), Policy(keep_daily=4), NIGHTS, NOW, NOW + 5 * DAY)

    # With the copy that is expected before tonight's cleanup there are eleven.
    assert deleted(compared.old_plan) == {copies[0].uid}
    assert deleted(compared.new_plan) == {copy.uid for copy in copies[:7]}
    assert [verdict.uid for verdict in compared.tonight_deletes] == [copy.uid for copy in reversed(copies[1:7])]
    assert compared.tonight_bytes == 6000
    assert {fate.uid for fate in compared.by_until_deletes} == {copy.uid for copy in copies[5:]}
    assert compared.by_until_bytes == 5000
    assert [day.copies for day in compared.old.days] == [10] * 6
    assert [day.copies for day in compared.new.days] == [10, *[4] * 5]


def test_tonight_is_the_first_cleanup_with_the_copies_expected_until_then() -> None:
    compared = compare(history(2), Policy(), Policy(keep_last=2), NIGHTS, NOW, NOW + 5 * DAY)

    assert compared.new_plan.now == NIGHTS.cleanups[0]
    assert compared.new_plan.verdicts[0].uid == ""
    assert compared.new_plan.guards == Guards(arrivals=1)
    assert [verdict.uid for verdict in compared.tonight_deletes] == [history(2)[0].uid]


def test_without_a_cleanup_to_come_tonight_is_now() -> None:
    compared = compare(history(3), Policy(), Policy(keep_last=1), NEVER, NOW, NOW + DAY)

    assert compared.new_plan.now == NOW
    assert len(compared.tonight_deletes) == 2
    assert compared.by_until_deletes == ()


def test_expected_copies_are_in_no_list_of_deletions() -> None:
    schedule = Schedule(backups=[NOW + number * HOUR for number in (1, 2, 3)], cleanups=[NOW + 4 * HOUR])

    compared = compare(history(1), Policy(), Policy(keep_last=1), schedule, NOW, NOW + DAY)

    assert len(compared.new_plan.delete) == 3
    assert [verdict.uid for verdict in compared.tonight_deletes] == [history(1)[0].uid]


def test_months_that_would_hold_no_copy_after_tonight_are_named() -> None:
    copies = history(120)  # from 11 November on

    compared = compare(copies, Policy(keep_monthly=4), Policy(keep_monthly=2), NIGHTS, NOW, NOW + DAY)
    windows = compare(copies, Policy(), Policy(keep_daily=20), NIGHTS, NOW, NOW + DAY)

    assert compared.months_lost == ("2025-12", "2026-01")
    assert windows.months_lost == ("2025-11", "2025-12", "2026-01")


def test_months_are_those_of_the_new_policys_zone() -> None:
    # 23:30 on the last day of January in UTC is February in Berlin.
    copies = [copy_at(datetime(2026, 1, 31, 23, 30, tzinfo=UTC), "old"), *history(1)]

    def lost(zone: str) -> tuple[str, ...]:
        return compare(copies, Policy(), Policy(keep_last=1, timezone=zone), NEVER, NOW, NOW + DAY).months_lost

    assert (lost("UTC"), lost("Europe/Berlin")) == (("2026-01",), ("2026-02",))


def test_a_flawed_copy_does_not_hold_a_month() -> None:
    old = copy_at(NOW - 40 * DAY, "old")
    flawed = copy_at(NOW - 41 * DAY, "bad", flaw="suspect")

    compared = compare([old, flawed, *history(1)], Policy(), Policy(keep_last=1), NEVER, NOW, NOW + DAY)

    assert compared.months_lost == ("2026-01",)


def test_a_month_that_holds_no_copy_yet_cannot_be_lost() -> None:
    schedule = Schedule(backups=[NOW + 20 * DAY, NOW + 30 * DAY], cleanups=[NOW + 31 * DAY])
    copy = copy_at(NOW - 20 * DAY, "old")  # of February; the expected ones are of March and April

    compared = compare([copy], Policy(), Policy(keep_last=1), schedule, NOW, NOW + 40 * DAY)

    assert compared.months_lost == ("2026-02",)


def test_a_copy_dated_before_tonight_counts_as_an_arrival() -> None:
    late = copy_at(NOW + HOUR, "late")

    compared = compare([late, *history(1)], Policy(), Policy(keep_last=1), NIGHTS, NOW, NOW + DAY)

    assert compared.new_plan.guards.arrivals == 2


@given(scenes(), some_policies)
def test_a_comparison_is_two_simulations_and_two_plans(scene: Scene, other: Policy) -> None:
    copies, new_policy, schedule, now, until, guards = scene.arguments()

    compared = compare(copies, other, new_policy, schedule, now, until, guards, **scene.options())

    old = simulate(copies, other, schedule, now, until, guards, **scene.options())
    new = simulate(copies, new_policy, schedule, now, until, guards, **scene.options())
    assert (compared.old, compared.new) == (old, new)
    later = {uid for uid, fate in new.fates.items() if fate.deleted_at and not old.fates[uid].deleted_at}
    assert {fate.uid for fate in compared.by_until_deletes} == later
    assert compared.by_until_bytes == sum(copy.size for copy in copies if copy.uid in later)

    cleanups = [moment for moment in schedule.cleanups if now <= moment <= until]
    tonight = cleanups[0] if cleanups else now
    for timeline, made in ((old, compared.old_plan), (new, compared.new_plan)):
        assert made.now == tonight
        if cleanups:
            gone = {uid for uid, fate in timeline.fates.items() if fate.deleted_at == tonight}
            assert deleted(made) - {""} == gone
            assert bool(made.stops) == (tonight in timeline.approvals)
    lost = deleted(compared.new_plan) - deleted(compared.old_plan) - {""}
    assert {verdict.uid for verdict in compared.tonight_deletes} == lost
    assert compared.tonight_bytes == sum(copy.size for copy in copies if copy.uid in lost)


@given(scenes(), some_policies)
def test_a_month_is_lost_when_only_the_old_policy_leaves_a_copy_of_it(scene: Scene, other: Policy) -> None:
    copies, new_policy, _, now, until, _ = scene.arguments()
    zone = ZoneInfo(new_policy.timezone)
    good = [copy for copy in copies if not copy.flaw and copy.created <= now]

    def months(uids: set[str]) -> set[str]:
        return {f"{copy.created.astimezone(zone):%Y-%m}" for copy in good if copy.uid in uids}

    compared = compare(copies, other, new_policy, NEVER, now, until)

    old, new = (months(kept(plan(copies, policy, now))) for policy in (other, new_policy))
    assert set(compared.months_lost) == (months({copy.uid for copy in good}) & old) - new
    assert list(compared.months_lost) == sorted(compared.months_lost)
