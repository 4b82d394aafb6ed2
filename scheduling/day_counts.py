"""What a day of runs comes to: the worst of it, and all of it in words. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from scheduling.days import day_words

MISSED = "missed"
"""A scheduled time that has passed and of which there is no run, not even a skipped one."""
QUIET = "none"

# A day shows the first of these that it has. That some of many runs were cancelled or skipped is no news: both were
# somebody's wish.
WORST_FIRST = (
    "failed",
    "lost",
    MISSED,
    "needs_approval",
    "warning",
    "cancelling",
    "running",
    "queued",
    "succeeded",
    "cancelled",
    "skipped",
)
_RANK = {word: number for number, word in enumerate(WORST_FIRST)}
_WORDS = {
    "needs_approval": ("needs approval", "need approval"),
    "warning": ("succeeded with a warning", "succeeded with a warning"),
    "cancelling": ("being stopped", "being stopped"),
    "queued": ("waiting to start", "waiting to start"),
    "lost": ("lost", "lost"),
}
_SHORT = {
    "needs_approval": ("to approve", "to approve"),
    "warning": ("warning", "warnings"),
    "cancelling": ("stopping", "stopping"),
    "queued": ("waiting", "waiting"),
}
# What the list of runs calls them in its address; nothing can be listed of what was missed.
RUN_FILTERS = {"cancelling": "active", "running": "active", "queued": "active"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Count:
    """Runs of one day that went one way."""

    word: str
    number: int

    @property
    def words(self) -> str:
        """Such as “2 failed”."""
        return self._in(_WORDS)

    @property
    def short(self) -> str:
        """The same where there is little room."""
        return self._in(_SHORT)

    def _in(self, words: Mapping[str, tuple[str, str]]) -> str:
        one, more = words.get(self.word, (self.word, self.word))
        return f"{self.number:,} {one if self.number == 1 else more}".replace(",", "\u202f")


@dataclass(frozen=True, kw_only=True, slots=True)
class StripDay:
    """One day of a job: its counts, worst first, and what to say when there are none."""

    day: date
    counts: tuple[Count, ...]
    quiet: str = ""

    @property
    def status(self) -> str:
        """The word that the day shows: the worst of what happened, or that nothing did."""
        return self.counts[0].word if self.counts else QUIET

    @property
    def words(self) -> str:
        return ", ".join(count.words for count in self.counts) or self.quiet

    @property
    def label(self) -> str:
        """The day with everything that happened, such as “Tue 3 Nov 2026: 2 failed, 22 succeeded”."""
        return f"{day_words(self.day)}: {self.words}"

    @property
    def iso(self) -> str:
        return self.day.isoformat()

    @property
    def has_runs(self) -> bool:
        return any(count.word != MISSED for count in self.counts)


def rank(word: str) -> int:
    """The place of a word among `WORST_FIRST`; unknown ones come last."""
    return _RANK.get(word, len(_RANK))


def worst_first(counts: Mapping[str, int]) -> tuple[Count, ...]:
    """The counts that are not nothing, the worst first."""
    found = (Count(word=word, number=number) for word, number in counts.items() if number > 0)
    return tuple(sorted(found, key=lambda count: rank(count.word)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """How many of the runs that came to an end of their own succeeded, warnings included.

    Failed and lost runs count against it; cancelled, skipped and open ones count for nothing.
    """

    good: int
    counted: int

    @property
    def percent(self) -> str:
        """In percent, and 100 % only when none failed."""
        if not self.counted:
            return "–"
        share = 100 * self.good / self.counted
        shown = f"{share:.1f}" if 90 <= share < 100 else f"{share:.0f}"
        if self.good < self.counted and shown.startswith("100"):
            shown = "99.9"
        if self.good and shown == "0":
            shown = "<1"
        return f"{shown}\u00a0%"


def success_rate(counts: Mapping[str, int]) -> Rate:
    good = sum(counts.get(word, 0) for word in ("succeeded", "warning", "needs_approval"))
    return Rate(good=good, counted=good + counts.get("failed", 0) + counts.get("lost", 0))
