"""Lists and months as people write them in a sentence. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from itertools import pairwise

MAX_NAMED = 12
"""Of a list in a sentence, or of sentences about pairs, no more than this are written out."""

SPACE = "\u00a0"


def month_words(months: Sequence[str]) -> str:
    """`2025-11` and `2025-12` as “November and December 2025”; blank for none."""
    named = [date.fromisoformat(f"{month}-01") for month in months]
    ends = [here.year != after.year for here, after in pairwise(named)] + [True]
    words = [f"{month:%B %Y}" if end else f"{month:%B}" for month, end in zip(named, ends, strict=False)]
    return listed(words, "month")


def listed(words: Sequence[str], noun: str) -> str:
    """Words as people list them; of many only the first, and how many more there are."""
    if len(words) > MAX_NAMED:
        more = len(words) - MAX_NAMED + 1
        words = [*words[: MAX_NAMED - 1], f"{more} more {noun}s"]
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))
