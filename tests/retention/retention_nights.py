"""A simulation without any cleverness: every cleanup is a plan, and every day is counted from scratch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from statistics import median
from zoneinfo import ZoneInfo

from hypothesis import strategies as st
from retention_samples import START, ZONES, policies, schedules

from backups.retention import Candidate, Guards, Plan, Policy, Schedule, plan
from backups.retention.policy import COUNT_RULES


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What is simulated, by either way."""

    copies: list[Candidate]
    policy: Policy
    schedule: Schedule
    now: datetime
    until: datetime
    guards: Guards
    size: int | None
    trash_hours: int

    def arguments(self) -> tuple[list[Candidate], Policy, Schedule, datetime, datetime, Guards]:
        return self.copies, self.policy, self.schedule, self.now, self.until, self.guards

    def options(self) -> dict[str, int | None]:
        return {"size": self.size, "trash_hours": self.trash_hours}


@dataclass
class Nights:
    """Who lived from when to when, by the uids that the slow way gives to expected copies too."""

    scene: Scene
    copies: dict[str, Candidate] = field(default_factory=dict)
    died: dict[str, datetime] = field(default_factory=dict)
    plans: dict[str, Plan] = field(default_factory=dict)
    approvals: list[datetime] = field(default_factory=list)

    def present_on(self, day: date) -> list[Candidate]:
        """The good copies at the end of a day, newest first."""
        there = [
            copy
            for uid, copy in self.copies.items()
            if not copy.flaw
            and copy.created <= self.scene.until
            and self.day_of(copy.created) <= day
            and (uid not in self.died or self.day_of(self.died[uid]) > day)
        ]
        there.sort(key=lambda copy: copy.uid)
        return sorted(there, key=lambda copy: copy.created, reverse=True)

    def day_of(self, moment: datetime) -> date:
        return moment.astimezone(ZoneInfo(self.scene.policy.timezone)).date()

    def trash_bytes_on(self, day: date) -> int:
        return sum(
            self.copies[uid].size
            for uid, died in self.died.items()
            if self.day_of(died) <= day and not self.emptied(died + timedelta(hours=self.scene.trash_hours), day)
        )

    def emptied(self, moment: datetime, day: date) -> bool:
        return moment <= self.scene.until and self.day_of(moment) <= day

    def end_of(self, day: date) -> datetime:
        """The first moment of the next day, found by halving; never after the end."""
        before = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(days=1)
        after = before + timedelta(days=4)
        while after - before > timedelta(microseconds=1):
            middle = before + (after - before) // 2
            before, after = (middle, after) if self.day_of(middle) <= day else (before, middle)
        return min(after, self.scene.until)


def play_nights(scene: Scene) -> Nights:
    nights = Nights(scene=scene, copies={copy.uid: copy for copy in scene.copies})
    good = [copy for copy in scene.copies if not copy.flaw and copy.created <= scene.now]
    recent = sorted(good, key=lambda copy: (copy.created, copy.size))[-5:]
    usual = int(median(copy.size for copy in recent)) if recent else 0
    size = usual if scene.size is None else scene.size
    for number, moment in enumerate(scene.schedule.backups):
        if scene.now <= moment <= scene.until:
            # A blank sorts before every other uid, as the blank uid of an expected copy does.
            uid = f" {number:05d}"
            nights.copies[uid] = Candidate(uid=uid, created=moment, size=size)

    since, arrivals = scene.now, scene.guards.arrivals
    arrivals += sum(1 for uid, copy in nights.copies.items() if uid[0] == " " and copy.created == scene.now)
    for moment in scene.schedule.cleanups:
        if not scene.now <= moment <= scene.until:
            continue
        there = [
            copy
            for uid, copy in nights.copies.items()
            if uid not in nights.died and (uid[0] != " " or copy.created <= moment)
        ]
        arrivals += sum(1 for copy in there if not copy.flaw and since < copy.created <= moment)
        values = {name: getattr(scene.guards, name) for name in Guards.__dataclass_fields__}
        made = plan(there, scene.policy, moment, Guards(**values | {"arrivals": arrivals}))
        if made.stops:
            nights.approvals.append(moment)
        for verdict in made.delete:
            nights.died[verdict.uid] = moment
            nights.plans[verdict.uid] = plan(
                there,
                scene.policy,
                moment,
                Guards(minimum_keep=scene.guards.minimum_keep, max_share=None, max_count=None),
            )
        since, arrivals = moment, 0
    return nights


def moments(start: datetime, gaps: Sequence[int]) -> list[datetime]:
    """Moments so many minutes apart."""
    found = []
    for gap in gaps:
        start += timedelta(minutes=gap)
        found.append(start)
    return found


tight = st.dictionaries(
    st.sampled_from([f"keep_{rule}" for rule in COUNT_RULES]), st.integers(1, 4), min_size=1, max_size=3
)
some_policies = st.one_of(
    st.builds(lambda rules, zone: Policy(timezone=zone, **rules), tight, st.sampled_from(ZONES)),
    policies(empty=True),
)


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """A pair at some moment of its history, and days or months to come, changes of the clock among them."""
    copies = draw(schedules(protected="ending", smallest=draw(st.sampled_from((0, 12))), largest=25))
    now = START + timedelta(minutes=draw(st.integers(0, 60 * 24 * 400)))
    if copies and draw(st.integers(0, 5)):
        now = copies[draw(st.integers(len(copies) // 2, len(copies) - 1))].created
    steps = st.one_of(st.integers(1, 60 * 30), st.just(60), st.just(60 * 24), st.just(60 * 24 * 10))
    start = now - timedelta(minutes=draw(st.sampled_from((0, 1, 60 * 24))))
    schedule = Schedule(
        backups=moments(start, draw(st.lists(steps, min_size=draw(st.sampled_from((0, 8))), max_size=25))),
        cleanups=moments(start, draw(st.lists(steps, min_size=draw(st.sampled_from((0, 4))), max_size=12))),
    )
    until = now + timedelta(minutes=draw(st.one_of(st.integers(0, 60 * 24 * 3), st.integers(0, 60 * 24 * 100))))
    if schedule.cleanups and draw(st.booleans()):
        until = max(now, schedule.cleanups[-1])
    limit = st.one_of(st.none(), st.integers(0, 30))
    return Scene(
        copies=copies,
        policy=draw(some_policies),
        schedule=schedule,
        now=now,
        until=until,
        guards=Guards(
            minimum_keep=draw(st.integers(0, 3)),
            max_share=draw(limit),
            max_count=draw(st.one_of(st.none(), st.integers(0, 4))),
            arrivals=draw(st.integers(0, 3)),
        ),
        size=draw(st.one_of(st.none(), st.integers(0, 9))),
        trash_hours=draw(st.sampled_from((0, 1, 24, 72))),
    )
