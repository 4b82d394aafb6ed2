"""What a list of runs is narrowed by: read from an address, checked, and turned into queries that an index answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any

from django.db import connections
from django.db.models import Q

from scheduling.choices import OPEN, RunOutcome, RunStatus, RunTrigger
from scheduling.filters import ACTIVE, STATUS_FILTERS, filtered, number
from scheduling.paging import Listing
from scheduling.registry import RunKind
from scheduling.search import Search, facet, words_of

MAX_TEXT = 200
MAX_NAME = 120
# Both of a status and an outcome: only a run that succeeded has one.
_WITH_OUTCOME = {"", "succeeded", *RunOutcome.values}
_DATE = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})(?:[T ](\d{1,2}):(\d{2})(?::\d{2}(?:\.\d*)?)?)?", re.ASCII)
_OF_JOB = re.compile(r"([a-z]{1,32}):([0-9]{1,18})", re.ASCII)
# They can be long, and no list shows them.
_DEFERRED = ("result_json", "params")


@dataclass(frozen=True, kw_only=True)
class RunFilter:
    """Which runs to show; a blank value leaves all.

    `job` and `target` are ids; a job's is one of `kind`. `since` and `until` bound the time at which a run was
    recorded, `until` itself left out. `text` is searched for in names, messages and logs, all words of it.
    """

    kind: str = ""
    job: int | None = None
    target: int | None = None
    host: str = ""
    status: str = ""
    outcome: str = ""
    trigger: str = ""
    since: datetime | None = None
    until: datetime | None = None
    text: str = ""

    @property
    def is_on(self) -> bool:
        return any(getattr(self, each.name) not in ("", None) for each in fields(self))

    @property
    def is_impossible(self) -> bool:
        """Whether no run can fit: a failed one with an outcome, words without a word, times that leave none."""
        return (
            (bool(self.outcome) and self.status not in _WITH_OUTCOME)
            or (bool(self.outcome) and self.status in RunOutcome.values and self.status != self.outcome)
            or (bool(self.text) and not words_of(self.text))
            or (self.since is not None and self.until is not None and self.since >= self.until)
        )

    def listings(self, kinds: list[RunKind], *, rows: Callable[[Any], Any] = lambda runs: runs) -> dict[str, Listing]:
        """Each kind with its runs that fit, for `run_page`; kinds that can have none are left out.

        `rows` may add to each kind's queryset what else its reader needs of a row.
        """
        if self.is_impossible:
            return {}
        return {
            kind.kind: self._listing(kind, rows)
            for kind in kinds
            if self.kind in ("", kind.kind) and (self.target is None or has_targets(kind))
        }

    def _listing(self, kind: RunKind, rows: Callable[[Any], Any]) -> Listing:
        model: Any = kind.run_model
        runs = rows(model.objects.defer(*_DEFERRED))
        narrow = Q()
        if self.since is not None:
            narrow &= Q(queued_at__gte=self.since)
        if self.until is not None:
            narrow &= Q(queued_at__lt=self.until)
        if self.outcome:
            narrow &= Q(outcome=self.outcome)
        status = "" if self.outcome else self.status
        if status in OPEN:
            narrow &= Q(status=status)
            status = ACTIVE
        by_own_index = connections[runs.db].vendor == "postgresql" or not (self.host or self.trigger)
        if by_own_index and not (self.text or self.target):
            # An index of the run table's own holds each of these pairs in the order of time.
            plain: Listing = filtered(runs.filter(narrow & self._columns()), status=status, job=self.job)
            return plain
        search = Search(
            kind=kind,
            runs=runs,
            words=words_of(self.text),
            facets=self._facets(),
            open_ones=narrow & self._columns(),
            target=self.target,
            since=self.since,
            until=self.until,
            ended_only=bool(self.outcome or (status and status != ACTIVE)),
        )
        return search.open_runs() if status == ACTIVE else search

    def _columns(self) -> Q:
        """What a run's own row says of these."""
        asked = {"host": self.host, "trigger": self.trigger, "job": self.job}
        return Q(**{name: value for name, value in asked.items() if value not in ("", None)})

    def _facets(self) -> tuple[str, ...]:
        outcome = self.outcome or (self.status if self.status in RunOutcome.values else "")
        asked = {
            "s": self.status if self.status in RunStatus.values else "",
            "o": outcome,
            "r": self.trigger,
            "h": self.host,
            "j": "" if self.job is None else str(self.job),
        }
        return tuple(facet(letter, value) for letter, value in asked.items() if value)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A filter as an address asks for it: what could be read, what was typed for a job or a target, and `problems`,
    sentences about the rest.
    """

    filter: RunFilter
    job_text: str = ""
    target_text: str = ""
    problems: list[str] = field(default_factory=list)


def has_targets(kind: RunKind) -> bool:
    """Whether runs of this kind say which targets they worked on."""
    return any(related.name == "attempts" for related in kind.run_model._meta.related_objects)


def read_filter(query: Mapping[str, Any], *, kinds: list[RunKind], zone: tzinfo) -> Asked:
    """What the address of a list asks for. Nothing in it can be wrong: what makes no sense is left out, and said."""
    problems: list[str] = []
    kind = _one_of(query, "kind", [each.kind for each in kinds], problems)
    status = _text(query, "status", 32)
    status = ACTIVE if status in OPEN else _one_of({"status": status}, "status", STATUS_FILTERS, problems)
    since, until = (_moment(query, name, zone, problems) for name in ("from", "to"))
    if since is not None and until is not None and since[0] > until[0]:
        problems.append("The dates were the wrong way round, and have been put in order.")
        since, until = until, since
    job_text, job = _text(query, "job", MAX_NAME), None
    found = _OF_JOB.fullmatch(job_text)
    if found is not None and found[1] in [each.kind for each in kinds] and kind in ("", found[1]):
        kind, job, job_text = found[1], int(found[2]), ""
    elif kind and (job := number(job_text)) is not None:
        job_text = ""
    target_text = _text(query, "target", MAX_NAME)
    target = number(target_text)
    return Asked(
        filter=RunFilter(
            kind=kind,
            job=job,
            target=target,
            host=_text(query, "host", 64),
            status=status,
            outcome=_one_of(query, "outcome", RunOutcome.values, problems),
            trigger=_one_of(query, "trigger", RunTrigger.values, problems),
            since=since[0] if since else None,
            until=until[1] if until else None,
            text=_text(query, "q", MAX_TEXT),
        ),
        job_text=job_text,
        target_text="" if target is not None else target_text,
        problems=problems,
    )


def _text(query: Mapping[str, Any], name: str, longest: int) -> str:
    """No database looks for NUL or for half a character."""
    text = str(query.get(name) or "").replace("\0", "")
    return " ".join(text.encode("utf-8", "ignore").decode().split())[:longest].strip()


def _one_of(query: Mapping[str, Any], name: str, known: Any, problems: list[str]) -> str:
    asked = _text(query, name, 32)
    if asked and asked not in known:
        problems.append(f"There is no {name} “{asked}”, so that filter was left out.")
        return ""
    return asked


def _moment(query: Mapping[str, Any], name: str, zone: tzinfo, problems: list[str]) -> tuple[datetime, datetime] | None:
    """The first moment of the day or the minute asked for, and the first after it."""
    asked = _text(query, name, 40)
    if not asked:
        return None
    try:
        return _stretch(asked, zone)
    except (OverflowError, ValueError):
        problems.append(f"“{asked}” is not a date such as 2026-11-24, so that filter was left out.")
        return None


def _stretch(text: str, zone: tzinfo) -> tuple[datetime, datetime]:
    found = _DATE.fullmatch(text)
    if found is None or not 1970 <= int(found[1]) <= 2200:
        raise ValueError(text)
    day = date(int(found[1]), int(found[2]), int(found[3]))
    if found[4] is None:
        first, last = (datetime.combine(each, time(), zone) for each in (day, day + timedelta(days=1)))
        return first.astimezone(UTC), last.astimezone(UTC)
    first = datetime.combine(day, time(int(found[4]), int(found[5])), zone).astimezone(UTC)
    return first, first + timedelta(minutes=1)
