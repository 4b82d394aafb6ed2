"""How jobs of both kinds run, beyond their schedules: checked here once, whoever asks.

A job's settings are the fields of `scheduling.models.Job` that people choose; `DEFAULTS` names them all. Pausing is
not one of them: it is a passing state of the job, and has services of its own.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, time
from itertools import pairwise
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.utils import timezone

from scheduling.choices import Overlap
from scheduling.models import Host
from scheduling.models.job import MAX_RETRIES, MAX_RETRY_DELAY, MAX_TIME_LIMIT
from scheduling.moments import FIRST_YEAR, LAST_YEAR
from scheduling.registry import all_kinds
from scheduling.rules import RuleError, blackouts_parse

DEFAULTS: Final[Mapping[str, Any]] = {
    "overlap": Overlap.QUEUE,
    "retry_count": 0,
    "retry_delay": 10,
    "time_limit": None,
    "window_start": None,
    "window_end": None,
    "blackout_dates": [],
    "run_after": "",
    "queue": "",
}
NO_RETRIES: Final = (
    "What deletes is never tried again without a person, so this job has no retries. Its failed run says what to do."
)
MAX_QUEUE = 32
MAX_NAMED = 5

_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::00)?", re.ASCII)
_JOB_ID = re.compile(r"([a-z]{1,20}):([1-9]\d{0,17})", re.ASCII)
_QUEUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*", re.ASCII)
# Any number that nothing else here uses: who holds this lock decides alone about what runs after what.
_RUN_AFTER_LOCK = 0x4B57_0001


def job_id(job: Any) -> str:
    """The id by which others name the job, such as `backup:3`."""
    return f"{job.KIND}:{job.pk}"


def settings_of(job: Any) -> dict[str, Any]:
    """A job's settings as they are stored."""
    return {name: getattr(job, name) for name in DEFAULTS}


def settings_clean(values: Mapping[str, Any], *, job: Any, may_retry: bool = True) -> dict[str, Any]:
    """Those of a job's settings that `values` gives, in the form in which they are stored; None and "" are defaults.

    `job` may be a new one. Raises ValidationError keyed by field. Call it in the transaction that saves the job: what
    it finds out about `run_after` holds until that ends.
    """
    clean: dict[str, Any] = {}
    errors: dict[str, list[str]] = {}
    for name, value in values.items():
        if name not in DEFAULTS:
            errors[name] = [f"A job has no setting of this name. There are: {', '.join(DEFAULTS)}."]
            continue
        try:
            clean[name] = _default(name) if value in (None, "", []) else _CLEANERS[name](value)
        except (RuleError, ValueError) as error:
            errors[name] = [str(error)]
    if clean.get("retry_count") and not may_retry:
        errors["retry_count"] = [NO_RETRIES]
    if "window_start" in clean or "window_end" in clean:
        _check_window({**settings_of(job), **clean}, errors)
    if clean.get("run_after"):
        try:
            _check_run_after(job, clean["run_after"])
        except ValueError as error:
            errors["run_after"] = [str(error)]
    if errors:
        raise ValidationError(errors)
    return clean


def followers(job: Any) -> list[Any]:
    """The jobs of both kinds that run after this one, by name."""
    found = [follower for kind in all_kinds() for follower in kind.job_model.objects.filter(run_after=job_id(job))]
    return sorted(found, key=lambda follower: follower.name)


def followers_clear_way(job: Any) -> None:
    """Raise ValidationError when others run after a job that is about to be deleted: they would stop without a word.

    Call it in the transaction that deletes the job.
    """
    _run_after_lock()
    if found := followers(job):
        raise ValidationError(
            f"{_names(found)} {'runs' if len(found) == 1 else 'run'} after {job.name}. "
            "Choose another job or none there, under “More about how it runs”, then delete this one."
        )


def job_find(text: str) -> Any:
    """The job with an id such as `backup:3`; None when there is none."""
    match = _JOB_ID.fullmatch(text)
    kind = next((kind for kind in all_kinds() if match is not None and kind.kind == match[1]), None)
    return None if match is None or kind is None else kind.job_model.objects.filter(pk=int(match[2])).first()


def job_names(ids: Iterable[str]) -> dict[str, str]:
    """The names of the jobs with these ids, by id: at most one query a kind."""
    wanted: dict[str, list[int]] = defaultdict(list)
    for text in ids:
        if match := _JOB_ID.fullmatch(text):
            wanted[match[1]].append(int(match[2]))
    return {
        f"{kind.kind}:{pk}": name
        for kind in all_kinds()
        if wanted[kind.kind]
        for pk, name in kind.job_model.objects.filter(pk__in=wanted[kind.kind]).order_by().values_list("pk", "name")
    }


def job_choices(*, besides: Any = None) -> list[tuple[str, list[tuple[str, str]]]]:
    """Every job but `besides` as (id, name), by name, below the label of its kind."""
    groups = []
    for kind in all_kinds():
        jobs = kind.job_model.objects.order_by("name")
        if besides is not None and kind.kind == besides.KIND:
            jobs = jobs.exclude(pk=besides.pk)
        rows = [(f"{kind.kind}:{pk}", name) for pk, name in jobs.values_list("pk", "name")]
        if rows:
            groups.append((f"{kind.label} jobs", rows))
    return groups


def known_queues() -> list[str]:
    """The queues that this process or any host has said it serves."""
    said = {str(name) for queues in Host.objects.values_list("queues", flat=True) for name in queues or ()}
    return sorted({*said, *settings.KEEPWELL_QUEUES})


def copy_name(name: str, taken: Callable[[str], bool], *, longest: int, between: str = " ") -> str:
    """“nightly copy”, or “nightly copy 2” and so on while that is taken, cut so as to be no longer than `longest`."""
    number = 1
    while True:
        ending = f"{between}copy" if number == 1 else f"{between}copy{between}{number}"
        found = f"{name[: longest - len(ending)].rstrip()}{ending}"
        if not taken(found):
            return found
        number += 1


def job_pause(*, job: Any, until: datetime, by: str) -> Any:
    """Let the job start nothing by itself before `until`, and return it; runs by hand stay possible.

    Raises ValidationError keyed `until`, and the model's DoesNotExist.
    """
    until_clean(until)
    return _set_pause(job, until=until, by=by)


def job_resume(*, job: Any) -> Any:
    """End the job's pause, and return it. Raises the model's DoesNotExist."""
    return _set_pause(job, until=None, by="")


def until_clean(until: datetime) -> datetime:
    """The end of a pause, checked. Raises ValidationError keyed `until`."""
    # The years at the ends have no neighbours in every zone.
    if not FIRST_YEAR <= until.year <= LAST_YEAR:
        raise ValidationError({"until": [f"Choose a year from {FIRST_YEAR} to {LAST_YEAR}."]})
    if until <= timezone.now():
        raise ValidationError({"until": ["This moment has passed. Choose a later one."]})
    return until


def _set_pause(job: Any, *, until: datetime | None, by: str) -> Any:
    jobs = type(job)._default_manager
    with transaction.atomic():
        jobs.filter(pk=job.pk).update(paused_until=until, paused_by=by[:150], updated_at=timezone.now())
        return jobs.get(pk=job.pk)


def _default(name: str) -> Any:
    return [] if name == "blackout_dates" else DEFAULTS[name]


def _overlap(value: Any) -> str:
    if value not in Overlap.values:
        raise ValueError(f"“{_shown(value)}” is not one of the choices. There are: {', '.join(Overlap.values)}.")
    return str(value)


def _whole(value: Any, lowest: int, highest: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise ValueError(f"Use a whole number from {lowest} to {highest}.")
    return value


def _clock(value: Any) -> time:
    if isinstance(value, time):
        return value.replace(second=0, microsecond=0, tzinfo=None)
    match = _CLOCK.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or int(match[1]) > 23 or int(match[2]) > 59:
        raise ValueError(f"“{_shown(value)}” is not a time of day. Write 22:00.")
    return time(int(match[1]), int(match[2]))


def _blackouts(value: Any) -> list[str]:
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise ValueError("Give a list of dates, such as 2026-12-24.")
    if odd := next((item for item in value if len(item) > 40), None):
        raise ValueError(
            f"“{_shown(odd)}” is not a date. Write 2026-12-24, or 2026-12-24..2026-12-26 for several days."
        )
    return [str(days) for days in sorted(set(blackouts_parse(value)), key=lambda days: (days.first, days.last))]


def _queue(value: Any) -> str:
    name = value.strip() if isinstance(value, str) else ""
    if len(name) > MAX_QUEUE or not _QUEUE.fullmatch(name):
        raise ValueError(
            f"A queue's name has letters, digits, hyphens, dots and underscores, {MAX_QUEUE} at most, such as nas1."
        )
    return name


def _run_after(value: Any) -> str:
    if not isinstance(value, str) or not _JOB_ID.fullmatch(value):
        raise ValueError(f"“{_shown(value)}” is not a job. Name one by its id, such as backup:3.")
    return value


_CLEANERS: Final[dict[str, Callable[[Any], Any]]] = {
    "overlap": _overlap,
    "retry_count": lambda value: _whole(value, 0, MAX_RETRIES),
    "retry_delay": lambda value: _whole(value, 0, MAX_RETRY_DELAY),
    "time_limit": lambda value: _whole(value, 1, MAX_TIME_LIMIT),
    "window_start": _clock,
    "window_end": _clock,
    "blackout_dates": _blackouts,
    "run_after": _run_after,
    "queue": _queue,
}


def _check_window(merged: Mapping[str, Any], errors: dict[str, list[str]]) -> None:
    """A window has both ends or none, and they differ."""
    if errors.keys() & {"window_start", "window_end"}:
        return
    start, end = merged["window_start"], merged["window_end"]
    if (start is None) != (end is None):
        missing, what = ("window_start", "starts") if start is None else ("window_end", "ends")
        errors[missing] = [f"Say when the window {what} too, or leave both blank."]
    elif start is not None and start == end:
        errors["window_end"] = ["The window ends when it starts. Leave both blank to let the job start at any time."]


def _check_run_after(job: Any, text: str) -> None:
    """Raise ValueError when the job cannot run after the one that `text` names."""
    _run_after_lock()
    # The id of a job that has no row yet fits none.
    own = job_id(job)
    if text == own:
        raise ValueError(f"{job.name} cannot run after itself. Choose another job.")
    before = job_find(text)
    if before is None:
        raise ValueError(f"There is no job {text}. It may have been deleted a moment ago: choose another, or none.")
    chain, seen = [before], {text}
    while chain[-1].run_after and chain[-1].run_after not in seen:
        if chain[-1].run_after == own:
            raise ValueError(f"{job.name} would run after itself: {_chain_words(job, chain)}. Choose another job.")
        seen.add(chain[-1].run_after)
        further = job_find(chain[-1].run_after)
        if further is None:
            return
        chain.append(further)


def _chain_words(job: Any, chain: list[Any]) -> str:
    """“cleanup runs after nightly, nightly after weekly, weekly after cleanup”."""
    names = [job.name, *(found.name for found in chain), job.name]
    first, *more = [f"{name} after {before}" for name, before in pairwise(names)]
    return ", ".join([first.replace(" after ", " runs after ", 1), *more])


def _run_after_lock() -> None:
    """Let nobody else decide what runs after what until this transaction ends. On SQLite nobody else writes anyway."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_RUN_AFTER_LOCK])


def _names(jobs: list[Any]) -> str:
    names = [job.name for job in jobs[:MAX_NAMED]]
    more = len(jobs) - len(names)
    if more:
        return f"{', '.join(names)} and {more} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
