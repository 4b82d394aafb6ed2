"""One run beside the one before it: what took longer, what became more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scheduling.choices import RunStatus
from scheduling.units import binary_size, spoken

if TYPE_CHECKING:
    from scheduling.models import Run

NO_BREAK = "\u00a0"
MOST = 2**63


def _size(value: float) -> str:
    return binary_size(value, space=NO_BREAK)


def _time(value: float) -> str:
    return f"{value:.1f}{NO_BREAK}s" if value < 9.95 else spoken(round(value), space=NO_BREAK)


def _number(value: float) -> str:
    return f"{round(value):,}".replace(",", "\u202f")


# The figures of `result_json` that say something beside those of another run, of whichever kind.
FIGURES: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("source_bytes", "Read", _size),
    ("stored_bytes", "Stored", _size),
    ("files", "Files", _number),
    ("targets_processed", "Targets", _number),
    ("deleted_count", "Moved to trash", _number),
    ("deleted_bytes", "Size moved to trash", _size),
    ("kept_count", "Kept", _number),
    ("purged_count", "Removed for good", _number),
    ("freed_bytes", "Freed", _size),
    ("warning_count", "Warnings", _number),
    ("failed_count", "Failed", _number),
)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One figure of both runs. `change` is signed, `percent` blank where there is nothing to take it of."""

    name: str
    now: str
    before: str
    change: str
    percent: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    before: Run
    differences: list[Difference]


def run_comparison(run: Run) -> Comparison | None:
    """A succeeded or failed run beside the last one of its job that had succeeded before it; None without one."""
    job_id: int | None = getattr(run, "job_id", None)
    if job_id is None or run.status not in (RunStatus.SUCCEEDED, RunStatus.FAILED):
        return None
    model: Any = type(run)
    before = (
        model.objects.filter(job=job_id, status=RunStatus.SUCCEEDED, queued_at__lt=run.queued_at)
        .exclude(pk=run.pk)
        .newest_first()
        .first()
    )
    return None if before is None else Comparison(before=before, differences=differences(run, before))


def differences(run: Run, before: Run) -> list[Difference]:
    """The figures that both have, the time they took first."""
    found = []
    if run.duration is not None and before.duration is not None:
        found.append(_difference("Duration", run.duration.total_seconds(), before.duration.total_seconds(), _time))
    for key, name, shown in FIGURES:
        now, then = _figure(run, key), _figure(before, key)
        if now is not None and then is not None and (now or then):
            found.append(_difference(name, now, then, shown))
    return found


def _figure(run: Run, key: str) -> float | None:
    value = run.result(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < MOST else None


def _difference(name: str, now: float, before: float, shown: Callable[[float], str]) -> Difference:
    change = now - before
    sign = "−" if change < 0 else "+"
    percent = ""
    if before and now != before:
        share = round(abs(change) / before * 100)
        percent = f"{sign}{share:,}{NO_BREAK}%" if share else f"under 1{NO_BREAK}%"
    return Difference(
        name=name,
        now=shown(now),
        before=shown(before),
        change="the same" if shown(now) == shown(before) else f"{sign}{shown(abs(change))}",
        percent="" if shown(now) == shown(before) else percent,
    )
