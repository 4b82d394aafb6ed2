"""What the page of a job of either kind says of its past and of what comes: a few queries, whatever there is of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from itertools import pairwise
from statistics import median
from typing import Any
from urllib.parse import urlencode

from django.db.models import Count
from django.db.models.fields.json import KeyTransform
from django.urls import reverse

from scheduling.choices import FAILING, RunStatus
from scheduling.cron import ScheduleError, parse_cron
from scheduling.curves import Measured, RunCurve, duration_curve, quantile, size_curve
from scheduling.day_counts import MISSED, Rate, StripDay, rank, success_rate, worst_first
from scheduling.days import day_bounds, day_of, days_from
from scheduling.items import ScheduledItem
from scheduling.job_rules import pause_in_force
from scheduling.job_words import SettingsInWords, settings_in_words, start_note
from scheduling.projection import Start, Timetable, fires_count, next_starts
from scheduling.registry import RunKind
from scheduling.rules import rules_of
from scheduling.run_counts import counts_by_span, span_case
from scheduling.upcoming import schedule_words

DAYS = 30
RUNS = 100
LISTED = 8
AHEAD = 5
# A run that is due is recorded within seconds of its time, once the scheduler lives.
GRACE = timedelta(minutes=10)


@dataclass(frozen=True, kw_only=True)
class LinkedDay:
    """A day of the strip; `url` leads to its runs, and is "" when there are none."""

    day: StripDay
    url: str


@dataclass(frozen=True, kw_only=True)
class NotedStart:
    """A coming time of the schedule, and what there is to say of it."""

    start: Start
    note: str


@dataclass(frozen=True, kw_only=True)
class JobHistory:
    """The past of one job.

    `judged_from` is the day from which missed times are told, which is when the job was `judged_since`: before it, it
    had another schedule perhaps, or none. It is None when the job starts nothing by its schedule. `typical` and `slow`
    (the 95th percentile) are in seconds.
    """

    days: tuple[LinkedDay, ...]
    judged_from: date | None
    judged_since: str
    missed: int
    rate: Rate
    rate_of_last: Rate
    typical: float | None
    slow: float | None
    measured: int
    durations: RunCurve | None
    sizes: RunCurve | None
    size_noun: str
    runs: tuple[Any, ...]
    starts: tuple[NotedStart, ...]
    problem: str
    words: str
    zone: str
    paused_until: datetime | None
    settings: SettingsInWords
    runs_url: str
    calendar_url: str

    @property
    def words_shown(self) -> list[str]:
        """The words of the days in the strip, the worst first: what a legend has to explain."""
        return sorted({linked.day.status for linked in self.days}, key=rank)

    @property
    def judged_late(self) -> bool:
        """Whether there are days in the strip of which missed times are not told."""
        return self.judged_from is not None and self.judged_from > self.days[0].day.day

    @property
    def is_short(self) -> bool:
        """Whether the job has fewer runs than are looked at."""
        return self.rate_of_last.counted < RUNS

    @property
    def last(self) -> Any:
        """The newest run, or None."""
        return self.runs[0] if self.runs else None

    @property
    def next_at(self) -> datetime | None:
        """When the next run starts by the schedule, as far as it is told."""
        return next((noted.start.at for noted in self.starts if not noted.start.held), None)


def job_history(
    *, kind: RunKind, job: Any, item: ScheduledItem, now: datetime, viewer: tzinfo, size: tuple[str, str]
) -> JobHistory:
    """The history of one job, its days by the clocks of `viewer`; `size` is the noun and key of the figure in bytes."""
    days = days_from(day_of(now, viewer) - timedelta(days=DAYS - 1), day_of(now, viewer))
    bounds = day_bounds(days, viewer)
    counts = counts_by_span([kind], bounds, job=job.pk)
    due_from = _judged_from(job, item, bounds[0])
    missed = [0] * len(days) if due_from is None else _missed(kind, job, item, bounds, due_from, now)
    runs = _last_runs(kind, job, size[1])
    seconds = [run.duration.total_seconds() for run in runs if run.status == RunStatus.SUCCEEDED and run.duration]
    pause = pause_in_force(now)
    paused = max((until for until in (job.paused_until, pause and pause.until) if until and until > now), default=None)
    starts, problem = _starts(job, item, now, paused)
    place = {"kind": kind.kind, "job": job.pk}
    runs_url = f"{reverse('scheduling:run_list')}?{urlencode(place)}"
    return JobHistory(
        days=tuple(
            _linked(day, found, miss, start, due_from, runs_url)
            for day, found, miss, start in zip(days, counts, missed, bounds, strict=False)
        ),
        judged_from=None if due_from is None else day_of(due_from, viewer),
        judged_since="added" if job.created_at == due_from else "last changed",
        missed=sum(missed),
        rate=success_rate(_summed(counts)),
        rate_of_last=success_rate(_summed({run.badge: 1} for run in runs)),
        typical=median(seconds) if seconds else None,
        slow=quantile(seconds, 0.95) if seconds else None,
        measured=len(seconds),
        durations=duration_curve(_measured(runs, _seconds), viewer),
        sizes=size_curve(_measured(runs, _bytes), viewer, noun=size[0]),
        size_noun=size[0],
        runs=tuple(runs[:LISTED]),
        starts=tuple(NotedStart(start=start, note=start_note(start, viewer, item.timezone)) for start in starts),
        problem=problem,
        words=schedule_words(item.schedule),
        zone=item.timezone,
        paused_until=paused,
        settings=settings_in_words(job),
        runs_url=runs_url,
        calendar_url=f"{reverse('scheduling:calendar')}?{urlencode(place)}",
    )


def _judged_from(job: Any, item: ScheduledItem, since: datetime) -> datetime | None:
    """From when on the job is known to have had this schedule, switched on; None when it has none now.

    A row does not say what it was before its last change, so what was due before then is not judged.
    """
    if not item.is_scheduled:
        return None
    # The two are set a moment apart when a row is made.
    changed: datetime = job.updated_at if job.updated_at - job.created_at > timedelta(seconds=1) else job.created_at
    created: datetime = job.created_at
    return max(created, changed, since)


def _missed(
    kind: RunKind, job: Any, item: ScheduledItem, bounds: list[datetime], since: datetime, now: datetime
) -> list[int]:
    """How many times of the schedule passed without any run, skipped ones included, in each span."""
    until = now - GRACE
    slots: dict[int, int] = {}
    model: Any = kind.run_model
    if since < until:
        rows = model.objects.filter(job=job.pk, slot__gte=since, slot__lt=min(until, bounds[-1])).order_by()
        slots = dict(
            rows.annotate(span=span_case("slot", bounds)).values("span").annotate(n=Count("*")).values_list("span", "n")
        )
    try:
        cron = parse_cron(item.schedule)
        due = [
            fires_count(cron, item.timezone, max(start, since), min(end, until)) if end > since and start < until else 0
            for start, end in pairwise(bounds)
        ]
    except ScheduleError:
        return [0] * (len(bounds) - 1)
    return [max(0, number - slots.get(span, 0)) for span, number in enumerate(due)]


def _linked(
    day: date, counts: Mapping[str, int], missed: int, start: datetime, due_from: datetime | None, runs_url: str
) -> LinkedDay:
    judged = due_from is not None and start + timedelta(days=1) > due_from
    quiet = "nothing due" if judged or due_from is None else "no run recorded"
    found = StripDay(day=day, counts=worst_first({**counts, MISSED: missed}), quiet=quiet)
    return LinkedDay(day=found, url=f"{runs_url}&from={day}&to={day}" if found.has_runs else "")


def _last_runs(kind: RunKind, job: Any, figure: str) -> list[Any]:
    """The newest runs, without their long figures."""
    model: Any = kind.run_model
    rows = model.objects.filter(job=job.pk).defer("result_json", "params", "progress").newest_first()
    runs = list(rows.annotate(figure=KeyTransform(figure, "result_json"))[:RUNS])
    for run in runs:
        if isinstance(run.figure, bool) or not isinstance(run.figure, int | float):
            run.figure = None
    return runs


def _measured(runs: list[Any], value: Any) -> list[Measured]:
    """The runs that have ended, oldest first, with what is measured of them."""
    return [
        Measured(at=run.started_at, value=value(run), failed=run.status in FAILING, url=run.get_absolute_url())
        for run in reversed(runs)
        if run.started_at and run.finished_at and (run.status == RunStatus.SUCCEEDED or run.status in FAILING)
    ]


def _seconds(run: Any) -> float | None:
    return float(run.duration.total_seconds()) if run.duration is not None else None


def _bytes(run: Any) -> float | None:
    return float(run.figure) if run.figure is not None and run.status == RunStatus.SUCCEEDED else None


def _summed(counts: Any) -> dict[str, int]:
    total: dict[str, int] = {}
    for found in counts:
        for word, number in found.items():
            total[word] = total.get(word, 0) + number
    return total


def _starts(job: Any, item: ScheduledItem, now: datetime, paused: datetime | None) -> tuple[list[Start], str]:
    """The next times of the schedule, or why there are none that can be told."""
    if not item.is_scheduled:
        return [], ""
    rules = rules_of(zone=item.timezone, start=job.window_start, end=job.window_end, blackouts=job.blackout_dates or ())
    try:
        return next_starts(Timetable(schedule=item.schedule, rules=rules, paused_until=paused), now, AHEAD), ""
    except (ScheduleError, OverflowError) as error:
        return [], str(error)
