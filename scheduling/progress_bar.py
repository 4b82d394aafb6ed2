"""What `scheduling.progress` wrote down of a run, as its page shows it. Pure.

The figures come from a row that another version may have written: what cannot be read is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from scheduling.units import binary_size, counted, spoken

NO_BREAK = "\u00a0"
# The last figures are older than this: the work has not said anything for a while, and the page says so.
SILENT = timedelta(seconds=30)
MOST = 2**63


@dataclass(frozen=True, kw_only=True)
class ProgressBar:
    """How far a run is: `percent` is None where there is no total, then the bar only says that it goes on."""

    step: str
    percent: int | None
    is_estimate: bool
    amounts: tuple[str, ...]
    rate: str
    left: str
    silent_for: str

    @property
    def words(self) -> str:
        """The bar read aloud."""
        share = "" if self.percent is None else f"{'about ' if self.is_estimate else ''}{self.percent} percent"
        return ", ".join(part for part in (share, *self.amounts) if part) or "no figures yet"


def progress_bar(figures: Any, now: datetime) -> ProgressBar | None:
    """None when the run has said nothing of how far it is."""
    if not isinstance(figures, dict) or not figures:
        return None
    estimated = figures.get("estimated") is True
    step = figures.get("step")
    shares = [
        share
        for unit in ("bytes", "items", "files")
        if (share := _share(_count(figures, unit), _count(figures, f"{unit}_total"), estimated)) is not None
    ]
    rate = _count(figures, "rate")
    left = _count(figures, "seconds_left")
    return ProgressBar(
        step=step if isinstance(step, str) else "",
        percent=shares[0] if shares else None,
        is_estimate=estimated,
        amounts=tuple(filter(None, (_amount(figures, unit, estimated) for unit in ("bytes", "items", "files")))),
        rate=_rate(rate, "bytes" in figures) if rate else "",
        left="" if left is None else f"{'about ' if estimated else ''}{spoken(left, space=NO_BREAK)} left",
        silent_for=_silence(figures.get("at"), now),
    )


def _count(figures: dict[str, Any], name: str) -> int | None:
    value = figures.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < MOST:
        return None
    return round(value)


def _share(done: int | None, total: int | None, estimated: bool) -> int | None:
    """Percent, rounded down: only what is done is 100. More than an estimate is no share of it any more."""
    if done is None or not total or (done > total and estimated):
        return None
    percent = min(100, done * 100 // total)
    return min(percent, 99) if estimated else percent


def _amount(figures: dict[str, Any], unit: str, estimated: bool) -> str:
    done, total = _count(figures, unit), _count(figures, f"{unit}_total")
    if done is None:
        return ""
    if unit == "bytes":
        return f"{_size(done)} of {'about ' if estimated else ''}{_size(total)}" if total else _size(done)
    noun = unit.removesuffix("s")
    if total:
        return f"{done:,} of {'about ' if estimated else ''}{counted(total, noun)}"
    return counted(done, noun)


def _size(size: float) -> str:
    return binary_size(size, space=NO_BREAK)


def _rate(rate: int, is_bytes: bool) -> str:
    return f"{_size(rate)}/s" if is_bytes else f"{rate:,} a second"


def _silence(at: Any, now: datetime) -> str:
    try:
        since = now - datetime.fromisoformat(at)
    except (TypeError, ValueError, OverflowError):
        return ""
    return spoken(since, space=NO_BREAK) if since >= SILENT else ""
