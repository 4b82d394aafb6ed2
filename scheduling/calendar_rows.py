"""What the calendar reads: runs grouped or one by one, jobs with their timetables, and how long jobs take. Each is one
query over all kinds, and reads only what the page can show.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from django.db.models import CharField, Count, DateTimeField, F, IntegerField, Max, Min, OuterRef, Q, Subquery, Value

from scheduling.choices import ACTIVE, RunOutcome, RunStatus
from scheduling.models import Pause
from scheduling.projection import Timetable
from scheduling.registry import RunKind
from scheduling.rules import rules_of
from scheduling.run_counts import span_case

MEASURED = 3
"""Runs of a job that say how long it takes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobRow:
    """A job with what is needed to project and to link it."""

    kind: RunKind
    pk: int
    name: str
    key: str
    table: Timetable
    is_scheduled: bool

    @property
    def url(self) -> str:
        # Only the name of a page is made of it: no row is read for that.
        values = {"pk": self.pk, **({"key": self.key} if self.key else {})}
        url: str = self.kind.job_model(**values).get_absolute_url()
        return url


@dataclass(frozen=True, kw_only=True, slots=True)
class RunGroup:
    """The runs of one job on one day that went one way; `pk` is that of the newest."""

    kind: str
    span: int
    job: int | None
    name: str
    word: str
    number: int
    first: datetime
    pk: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRow:
    """One run, for its bar."""

    kind: str
    pk: int
    job: int | None
    name: str
    word: str
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


def job_rows(kinds: Sequence[RunKind], *, job: int | None, default_zone: str, now: datetime) -> list[JobRow]:
    """The jobs that start by a schedule, by name; or, when one is asked for, that one whatever it does."""
    pause = Subquery(Pause.objects.filter(pk=1, until__gt=now).values("until")[:1], output_field=DateTimeField())
    parts = []
    for kind in kinds:
        columns = {field.name for field in kind.job_model._meta.concrete_fields}
        # Each kind has its own name for its schedule, and some are looked up by a key.
        schedule = "schedule" if "schedule" in columns else "schedule_cron"
        key = F("key") if "key" in columns else Value("", output_field=CharField())
        jobs = kind.job_model.objects.order_by()
        jobs = jobs.filter(enabled=True).exclude(**{schedule: ""}) if job is None else jobs.filter(pk=job)
        parts.append(
            jobs.annotate(of_kind=Value(kind.kind), cron=F(schedule), its_key=key, all_paused_until=pause).values_list(
                "of_kind",
                "pk",
                "name",
                "its_key",
                "cron",
                "timezone",
                "enabled",
                "window_start",
                "window_end",
                "blackout_dates",
                "paused_until",
                "all_paused_until",
            )
        )
    by_name = {kind.kind: kind for kind in kinds}
    tables: dict[tuple[Any, ...], Timetable] = {}
    found = []
    for of_kind, pk, name, its_key, cron, zone, enabled, start, end, dates, own_pause, all_paused in _union(parts):
        paused = max(filter(None, (own_pause, all_paused)), default=None)
        agreed = (cron, zone or default_zone, start, end, tuple(map(str, dates or ())), paused)
        if agreed not in tables:
            rules = rules_of(zone=agreed[1], start=start, end=end, blackouts=agreed[4])
            tables[agreed] = Timetable(schedule=cron, rules=rules, paused_until=paused)
        found.append(
            JobRow(
                kind=by_name[of_kind],
                pk=pk,
                name=name,
                key=its_key,
                table=tables[agreed],
                is_scheduled=enabled and bool(cron.strip()),
            )
        )
    return sorted(found, key=lambda row: (row.name, row.kind.kind, row.pk))


def run_groups(
    kinds: Sequence[RunKind], bounds: Sequence[datetime], spans: Iterable[int], *, job: int | None
) -> list[RunGroup]:
    """The runs recorded in some of the spans between `bounds`, by span, job and how they went."""
    within = _within(bounds, spans)
    if within is None:
        return []
    parts = [
        _of_job(kind, job)
        .filter(within)
        .annotate(of_kind=Value(kind.kind), span=span_case("queued_at", bounds))
        .values("of_kind", "span", "job_id", "job_name", "status", "outcome")
        .annotate(number=Count("*"), first=Min("queued_at"), newest=Max("pk"))
        .values_list("of_kind", "span", "job_id", "job_name", "status", "outcome", "number", "first", "newest")
        for kind in kinds
    ]
    return [
        RunGroup(
            kind=kind, span=span, job=pk, name=name, word=_word(status, outcome), number=number, first=first, pk=newest
        )
        for kind, span, pk, name, status, outcome, number, first, newest in _union(parts)
    ]


def run_rows(
    kinds: Sequence[RunKind],
    bounds: Sequence[datetime],
    spans: Iterable[int],
    *,
    job: int | None,
    measured: Iterable[JobRow],
) -> tuple[list[RunRow], dict[tuple[str, int], timedelta]]:
    """The runs recorded in some of the spans between `bounds`, with those that reach into the first of all from the
    day before it; and how long the `measured` jobs take: the median of their last few successful runs.
    """
    within = _within(bounds, spans)
    start = bounds[0]
    reaching = Q(queued_at__gte=start - timedelta(days=1), queued_at__lt=start, started_at__isnull=False) & (
        Q(finished_at__gt=start) | Q(status__in=ACTIVE)
    )
    within = reaching if within is None else within | reaching
    pks: dict[str, set[int]] = {}
    for row in measured:
        pks.setdefault(row.kind.kind, set()).add(row.pk)
    parts = [_rows(kind, _of_job(kind, job).filter(within), measures=False) for kind in kinds]
    parts += [_rows(kind, _last_good(kind, pks[kind.kind]), measures=True) for kind in kinds if kind.kind in pks]
    rows: list[RunRow] = []
    took: dict[tuple[str, int], list[float]] = {}
    for measures, kind_name, pk, of_job, name, status, outcome, queued, started, finished in _union(parts):
        if measures:
            took.setdefault((kind_name, of_job), []).append((finished - started).total_seconds())
            continue
        rows.append(
            RunRow(
                kind=kind_name,
                pk=pk,
                job=of_job,
                name=name,
                word=_word(status, outcome),
                queued_at=queued,
                started_at=started,
                finished_at=finished,
            )
        )
    return rows, {key: timedelta(seconds=median(seconds)) for key, seconds in took.items()}


def _rows(kind: RunKind, runs: Any, *, measures: bool) -> Any:
    return runs.annotate(
        measures=Value(int(measures), output_field=IntegerField()), of_kind=Value(kind.kind)
    ).values_list(
        "measures",
        "of_kind",
        "pk",
        "job_id",
        "job_name",
        "status",
        "outcome",
        "queued_at",
        "started_at",
        "finished_at",
    )


def _last_good(kind: RunKind, jobs: set[int]) -> Any:
    """The last few runs of each of these jobs that succeeded."""
    model: Any = kind.run_model
    good = model.objects.filter(job=OuterRef("pk"), status=RunStatus.SUCCEEDED).order_by("-queued_at").values("pk")
    wanted = Q()
    for number in range(MEASURED):
        last = kind.job_model.objects.filter(pk__in=jobs).order_by().annotate(last=Subquery(good[number : number + 1]))
        wanted |= Q(pk__in=last.values("last"))
    return model.objects.filter(wanted, started_at__isnull=False).order_by()


def jobs_by_table(jobs: Iterable[JobRow]) -> list[tuple[Timetable, list[JobRow]]]:
    """The jobs that start by a schedule, together when their timetables agree."""
    found: dict[int, tuple[Timetable, list[JobRow]]] = {}
    for job in jobs:
        if job.is_scheduled:
            # `job_rows` makes one timetable for all that agree.
            found.setdefault(id(job.table), (job.table, []))[1].append(job)
    return list(found.values())


def _of_job(kind: RunKind, job: int | None) -> Any:
    model: Any = kind.run_model
    runs = model.objects.order_by()
    return runs if job is None else runs.filter(job=job)


def _within(bounds: Sequence[datetime], spans: Iterable[int]) -> Q | None:
    """The times in some of the spans, neighbours together; None for no span."""
    found: list[tuple[int, int]] = []
    for span in sorted(spans):
        if found and found[-1][1] == span:
            found[-1] = (found[-1][0], span + 1)
        else:
            found.append((span, span + 1))
    if not found:
        return None
    condition = Q()
    for first, end in found:
        condition |= Q(queued_at__gte=bounds[first], queued_at__lt=bounds[end])
    return condition


def _word(status: str, outcome: str) -> str:
    return outcome if status == RunStatus.SUCCEEDED and outcome not in ("", RunOutcome.OK) else status


def _union(parts: list[Any]) -> Iterable[Any]:
    if not parts:
        return []
    rows: Iterable[Any] = parts[0].union(*parts[1:], all=True).order_by()
    return rows
