"""The calendar: what ran, from the ledger, and what is to run, from the schedules, day by day.

Whatever there is of both, it asks four questions of the database and shows a bounded number of names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any

from django.urls import reverse

from scheduling.calendar_days import (
    JOB_CHIPS,
    MONTH,
    PASSES,
    PLANNED,
    WEEK,
    Asked,
    Calendar,
    CalendarDay,
    Line,
    LinkedCount,
    runs_url,
    week_url,
)
from scheduling.calendar_rows import JobRow, RunGroup, RunRow, job_rows, jobs_by_table, run_groups, run_rows
from scheduling.day_counts import RUN_FILTERS, rank, worst_first
from scheduling.days import (
    clock_change,
    day_bounds,
    day_of,
    day_words,
    days_from,
    month_after,
    month_before,
    month_weeks,
    week_start,
)
from scheduling.outlook import Coming, Span, project
from scheduling.projection import Start, Timetable, starts_between
from scheduling.run_counts import counts_by_span
from scheduling.units import counted
from scheduling.week_rows import MOST_BARS, Happening, Hour, bar_row, column_row, hour_bounds

# Names in one day of a month and of a week; runs of a day up to which they are told apart by job.
LINES = {MONTH: 4, WEEK: 12}
TOLD_APART = 200
_BAD = ("failed", "lost")
_HELD_WORDS = {"paused": "paused", "blackout": "blackout date"}


def calendar(asked: Asked, *, zone: tzinfo, zone_name: str, now: datetime) -> Calendar:
    """The month or week around the day that is asked for."""
    weeks = month_weeks(asked.day) if asked.view == MONTH else [days_from(*_week(asked.day))]
    days = [day for week in weeks for day in week]
    edges = day_bounds(days, zone)
    spans = edges if asked.view == MONTH else hour_bounds(days, zone)
    owner = [day_of(start, zone) for start in spans[:-1]]
    counts = counts_by_span(asked.kinds, spans, job=asked.job)
    jobs = job_rows(asked.kinds, job=asked.job, default_zone=zone_name, now=now) if edges[-1] > now or asked.job else []
    tables = jobs_by_table(jobs)
    keep = LINES[asked.view] + 2
    ahead = project([(table, len(of_table)) for table, of_table in tables], spans, now, keep=keep)
    made = {
        day: CalendarDay(
            day=day,
            is_today=day == day_of(now, zone),
            is_outside=asked.view == MONTH and day.month != asked.day.month,
            change=_change(day, zone),
            runs_url=runs_url(asked, day),
            week_url=week_url(asked, day),
        )
        for day in days
    }
    page = _Page(asked=asked, zone=zone, now=now, days=days, edges=edges, made=made)
    page.add_counts(owner, counts)
    page.add_coming(owner, ahead, tables)
    if asked.view == MONTH:
        page.add_groups(run_groups(asked.kinds, edges, page.told_apart(TOLD_APART), job=asked.job))
    else:
        page.add_rows(spans, owner, counts, ahead, tables)
    return Calendar(
        title=_title(asked, days),
        weeks=[[made[day] for day in week] for week in weeks],
        previous=month_before(asked.day) if asked.view == MONTH else asked.day - timedelta(days=7),
        following=month_after(asked.day) if asked.view == MONTH else asked.day + timedelta(days=7),
        jobs=page.jobs(jobs),
        names_all=page.names_all,
    )


@dataclass(kw_only=True)
class _Page:
    """The days while they are filled."""

    asked: Asked
    zone: tzinfo
    now: datetime
    days: list[date]
    edges: list[datetime]
    made: dict[date, CalendarDay]
    seen: dict[tuple[str, int], str] = field(default_factory=dict)
    names_all: bool = True

    def add_counts(self, owner: Sequence[date], counts: Sequence[dict[str, int]]) -> None:
        sums: dict[date, dict[str, int]] = defaultdict(dict)
        for day, found in zip(owner, counts, strict=True):
            for word, number in found.items():
                sums[day][word] = sums[day].get(word, 0) + number
        for day, total in sums.items():
            ordered = worst_first(total)
            # Those with a warning are succeeded ones to the list of runs as well.
            plain = "ok" if {"warning", "needs_approval"} & total.keys() else ""
            self.made[day].counts = tuple(
                LinkedCount(
                    count=count,
                    url=runs_url(
                        self.asked,
                        day,
                        status=RUN_FILTERS.get(count.word, count.word),
                        outcome=plain if count.word == "succeeded" else "",
                    ),
                )
                for count in ordered
            )

    def add_coming(
        self, owner: Sequence[date], ahead: Sequence[Span], tables: Sequence[tuple[Timetable, list[JobRow]]]
    ) -> None:
        """What is to come, the earliest of each day by name."""
        earliest: dict[date, dict[tuple[int, str], Coming]] = defaultdict(dict)
        for day, span in zip(owner, ahead, strict=True):
            self.made[day].starts += span.starts
            self.made[day].held += span.held
            self.names_all = self.names_all and len(span.earliest) < LINES[self.asked.view] + 2
            for coming in span.earliest:
                known = earliest[day].get((coming.table, coming.held))
                count = coming.count + (known.count if known else 0)
                at = min(coming.at, known.at) if known else coming.at
                merged = Coming(at=at, table=coming.table, count=count, held=coming.held)
                earliest[day][coming.table, coming.held] = merged
        for day, found in earliest.items():
            made, room = self.made[day], LINES[self.asked.view]
            told = 0
            for coming in found.values():
                for job in tables[coming.table][1][: JOB_CHIPS + 1]:
                    self.seen.setdefault((job.kind.kind, job.pk), job.name)
            for coming in sorted(found.values(), key=lambda coming: coming.at):
                jobs = tables[coming.table][1]
                left = room - len(made.coming)
                if left <= 0:
                    break
                # One job more would not fit: then the first stands for all that start with it.
                some = jobs if len(jobs) <= left else jobs[:1]
                made.coming += [self._coming_line(job, coming, len(jobs) - len(some)) for job in some]
                told += len(jobs) * coming.count
            made.more_coming = made.starts + made.held - told

    def _coming_line(self, job: JobRow, coming: Coming, others: int) -> Line:
        at = datetime.fromtimestamp(coming.at, UTC).astimezone(self.zone)
        why = _HELD_WORDS.get(coming.held, "")
        notes = [
            f"{coming.count}×" if coming.count > 1 else "",
            f"+{others:,}".replace(",", "\u202f") if others else "",
        ]
        what = f"passes without a run: {why}" if why else "planned"
        return Line(
            status=PASSES if why else PLANNED,
            time=f"{at:%H:%M}" if coming.count == 1 else "",
            name=job.name,
            note=", ".join(filter(None, notes)),
            url=job.url,
            title=f"{job.name}, {day_words(at.date())} {at:%H:%M}: {what}"
            + (f", the first of {coming.count} that day" if coming.count > 1 else "")
            + (f", with {counted(others, 'other job')}" if others else ""),
        )

    def told_apart(self, most: int) -> list[int]:
        """The days, by number, whose runs are few enough to be told apart."""
        return [number for number, day in enumerate(self.days) if 0 < self.made[day].total <= most]

    def add_groups(self, groups: Iterable[RunGroup]) -> None:
        """The runs of each day by job, the worst first."""
        of_day: dict[int, dict[tuple[str, Any], list[RunGroup]]] = defaultdict(lambda: defaultdict(list))
        for group in groups:
            of_day[group.span][group.kind, group.job or group.name].append(group)
            if group.job is not None:
                self.seen.setdefault((group.kind, group.job), group.name)
        self.names_all = self.names_all and all(
            number in of_day for number, day in enumerate(self.days) if self.made[day].total
        )
        for number, of_job in of_day.items():
            made, room = self.made[self.days[number]], LINES[self.asked.view]
            found = sorted(
                of_job.values(), key=lambda some: (min(rank(g.word) for g in some), min(g.first for g in some))
            )
            made.lines = [self._run_line(made.day, some) for some in found[:room]]
            made.more = sum(group.number for some in found[room:] for group in some)

    def _run_line(self, day: date, groups: list[RunGroup]) -> Line:
        worst = min(groups, key=lambda group: rank(group.word))
        first, number = min(group.first for group in groups), sum(group.number for group in groups)
        counts = worst_first({group.word: sum(g.number for g in groups if g.word == group.word) for group in groups})
        if number == 1:
            url = reverse("scheduling:run_detail", kwargs={"kind": worst.kind, "pk": worst.pk})
        else:
            url = runs_url(self.asked, day, kind=worst.kind, job=worst.job)
        at = first.astimezone(self.zone)
        words = ", ".join(count.words for count in counts)
        return Line(
            status=worst.word,
            time=f"{at:%H:%M}" if number == 1 else "",
            name=worst.name,
            note=f"{number}×" if number > 1 else "",
            url=url,
            title=f"{worst.name}, {day_words(day)}{f' {at:%H:%M}' if number == 1 else ''}: {words}",
        )

    def add_rows(
        self,
        spans: Sequence[datetime],
        owner: Sequence[date],
        counts: Sequence[dict[str, int]],
        ahead: Sequence[Span],
        tables: Sequence[tuple[Timetable, list[JobRow]]],
    ) -> None:
        """The picture of each day of a week, and its runs by job where there are few enough."""
        few = [n for n, day in enumerate(self.days) if self.made[day].total + self.made[day].starts <= MOST_BARS]
        coming = self._starts(tables, few)
        runs, took = run_rows(
            self.asked.kinds,
            self.edges,
            [number for number in few if self.made[self.days[number]].total],
            job=self.asked.job,
            measured=[job for job, _ in coming],
        )
        self.add_groups(self._grouped(runs, few))
        happenings = [self._of_run(run) for run in runs]
        happenings += [self._of_start(job, start, took.get((job.kind.kind, job.pk))) for job, start in coming]
        most = max(
            (max(sum(found.values()), span.starts) for found, span in zip(counts, ahead, strict=True)), default=1
        )
        for number, day in enumerate(self.days):
            if number in few:
                self.made[day].row = bar_row(day, self.zone, happenings, self.now)
                continue
            hours = [
                _hour(spans[n].astimezone(self.zone), spans[n], counts[n], ahead[n])
                for n, of_day in enumerate(owner)
                if of_day == day and (counts[n] or ahead[n].starts)
            ]
            self.made[day].row = column_row(day, self.zone, hours, most, self.now)

    def _grouped(self, runs: Iterable[RunRow], few: Sequence[int]) -> Iterable[RunGroup]:
        place = {self.days[number]: number for number in few}
        for run in runs:
            number = place.get(day_of(run.queued_at, self.zone))
            if number is not None:
                yield RunGroup(
                    kind=run.kind,
                    span=number,
                    job=run.job,
                    name=run.name,
                    word=run.word,
                    number=1,
                    first=run.queued_at,
                    pk=run.pk,
                )

    def _of_run(self, run: RunRow) -> Happening:
        start = run.started_at or run.queued_at
        end = max(run.finished_at or (self.now if run.started_at else start), start)
        at, until = start.astimezone(self.zone), end.astimezone(self.zone)
        [count] = worst_first({run.word: 1})
        word = count.words.removeprefix("1 ")
        span = f"{at:%H:%M}" if at.strftime("%H:%M") == until.strftime("%H:%M") else f"{at:%H:%M} to {until:%H:%M}"
        return Happening(
            start=start,
            end=end,
            name=run.name,
            status=run.word,
            url=reverse("scheduling:run_detail", kwargs={"kind": run.kind, "pk": run.pk}),
            title=f"{run.name}, {day_words(at.date())} {span}: {word}",
        )

    def _starts(
        self, tables: Sequence[tuple[Timetable, list[JobRow]]], few: Sequence[int]
    ) -> list[tuple[JobRow, Start]]:
        """The times to come on the days that have few."""
        found = []
        for number in few:
            made = self.made[self.days[number]]
            if not made.starts + made.held:
                continue
            begin = max(self.edges[number], self.now + timedelta(seconds=1))
            # Times that pass without a run may be many: those are told by their number.
            with_held = made.held <= MOST_BARS
            for table, jobs in tables:
                for start in starts_between(table, begin, self.edges[number + 1]):
                    if with_held or not start.held:
                        found += [(job, start) for job in jobs]
        return found

    def _of_start(self, job: JobRow, start: Start, took: timedelta | None) -> Happening:
        """A time to come, as long as its job usually takes."""
        usual = timedelta() if start.held or took is None else took
        at = start.at.astimezone(self.zone)
        what = f"passes without a run: {_HELD_WORDS[start.held]}" if start.held else "planned"
        if start.waits:
            what += f", waits for its window since {start.due.astimezone(self.zone):%H:%M}"
        if usual:
            what += f", usually until {(start.at + usual).astimezone(self.zone):%H:%M}"
        return Happening(
            start=start.at,
            end=start.at + usual,
            name=job.name,
            status=PASSES if start.held else PLANNED,
            url=job.url,
            title=f"{job.name}, {day_words(at.date())} {at:%H:%M}: {what}",
        )

    def jobs(self, rows: Sequence[JobRow]) -> tuple[tuple[str, int, str], ...]:
        """Jobs of the days, as kind, id and name, for the filter; the one that is asked for among them."""
        found = dict(self.seen)
        if self.asked.job is not None:
            known = next((row.name for row in rows if row.pk == self.asked.job), "This job")
            found = {(self.asked.kind, self.asked.job): found.get((self.asked.kind, self.asked.job), known)}
        named = [(kind, pk, name) for (kind, pk), name in found.items()]
        return tuple(sorted(named, key=lambda job: (job[2], job[0], job[1])))


def _hour(local: datetime, start: datetime, counts: dict[str, int], span: Span) -> Hour:
    found = worst_first(counts)
    said = [count.words for count in found]
    if span.starts:
        said.append(f"{span.starts:,} planned")
    return Hour(
        start=start,
        total=sum(counts.values()),
        bad=sum(counts.get(word, 0) for word in _BAD),
        planned=span.starts,
        status="failed" if counts.get("failed") else "lost" if counts.get("lost") else "succeeded",
        title=f"{day_words(local.date())}, from {local:%H:%M}: {', '.join(said)}",
    )


def _week(day: date) -> tuple[date, date]:
    return week_start(day), week_start(day) + timedelta(days=6)


def _title(asked: Asked, days: Sequence[date]) -> str:
    if asked.view == MONTH:
        return f"{asked.day:%B} {asked.day.year}"
    first, last = days[0], days[-1]
    year = first.year != last.year
    start = day_words(first, weekday=False, year=year) if first.month != last.month or year else str(first.day)
    return f"{start} to {day_words(last, weekday=False)}, week {first.isocalendar().week}"


def _change(day: date, zone: tzinfo) -> str:
    change = clock_change(day, zone)
    return change.words if change else ""
