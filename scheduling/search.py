"""Finding ended runs by their words and facets, in the order of time (`scheduling.search_index` keeps the index)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import connections
from django.db.models import Exists, OuterRef, Q
from django.db.models.expressions import RawSQL

from scheduling.choices import OPEN
from scheduling.cursor import Cursor, microseconds
from scheduling.querysets import RunQuerySet
from scheduling.registry import RunKind
from scheduling.search_index import KEY_EPOCH, KEY_ID_BITS, MARK

MAX_WORDS = 20
MAX_WORD_LENGTH = 60
_LIMIT = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class Search:
    """The runs of one kind that have all these words and facets, ended or not.

    `runs` are the whole table. Those of them that are not over are few, have no text yet, and are looked through one
    by one for what `open_ones` says, unless `ended_only`; `target` is the id of a target that a run worked on.
    """

    kind: RunKind
    runs: RunQuerySet[Any]
    words: tuple[str, ...] = ()
    facets: tuple[str, ...] = ()
    open_ones: Q = field(default_factory=Q)
    target: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    ended_only: bool = False

    def near(self, kind: str, place: Cursor | None, *, newer: bool, limit: int) -> RunQuerySet[Any]:
        """The `limit` runs nearest to a place on one side of it; from the place outward."""
        vendor = connections[self.runs.db].vendor
        above, below = self._keys(kind, place, newer)
        make = _on_postgresql if vendor == "postgresql" else _on_sqlite
        texts: Any = self.runs.model._meta.get_field("text").related_model
        statement, values = make(texts._meta.db_table, self.words, self._facets(vendor), above, below, newer, limit)
        if not self.ended_only:
            waiting = self._open(kind, place, newer=newer).values("pk").query
            more, more_values = waiting.get_compiler(self.runs.db).as_sql()
            statement, values = f"{statement} UNION ALL {more}", [*values, *more_values]
        # Nothing else is asked of these rows: SQLite would walk the index of a job or a time that stood beside it.
        found = self.runs.filter(pk__in=RawSQL(statement, values))  # noqa: S611 - values are parameters
        return found.near(kind, None, newer=newer, limit=limit)

    def open_runs(self) -> RunQuerySet[Any]:
        """Those that are not over."""
        return self.runs.filter(pk__in=self._open("", None, newer=False).values("pk"))

    def _facets(self, vendor: str) -> tuple[str, ...]:
        if self.target is None:
            return self.facets
        target = facet("t", str(self.target))
        if vendor == "postgresql":
            return tuple(f"{target}{each}" for each in self.facets) or (target,)
        return (*self.facets, target)

    def _keys(self, kind: str, place: Cursor | None, newer: bool) -> tuple[int, int]:
        """The keys between which to look, themselves left out."""
        above = -_LIMIT if self.since is None else _key(self.since, 0) - 1
        below = _LIMIT if self.until is None else _key(self.until, 0)
        if place is not None and newer:
            above = max(above, _key_beside(place, kind, newer=True))
        elif place is not None:
            below = min(below, _key_beside(place, kind, newer=False))
        return above, below

    def _open(self, kind: str, place: Cursor | None, *, newer: bool) -> Any:
        """Runs that are not over, on one side of a place, in no order."""
        open_runs = self.kind.run_model._default_manager.filter(self.open_ones, status__in=OPEN)
        if place is not None:
            open_runs = open_runs.filter(place.newer(kind) if newer else place.older(kind))
        if self.target is not None:
            runs: Any = self.kind.run_model
            attempts = runs._meta.get_field("attempts").related_model
            open_runs = open_runs.filter(
                Exists(attempts.objects.filter(run_id=OuterRef("pk"), target_id=self.target).order_by())
            )
        log: Any = self.kind.log_model
        for word in self.words:
            lines = log.objects.filter(run_id=OuterRef("pk"), text__icontains=word).order_by()
            open_runs = open_runs.filter(
                Q(job_name__icontains=word)
                | Q(message__icontains=word)
                | Q(requested_by__icontains=word)
                | Exists(lines)
            )
        return open_runs.order_by()


def facet(letter: str, value: str) -> str:
    """A token as the index holds it: `letter` says of what."""
    if letter == "h":
        value = value.encode("utf-8", "replace").hex()
    return f"{MARK}{letter}{value.replace('_', '')}"


def words_of(text: str) -> tuple[str, ...]:
    """The words of a search text, each once: what stands between punctuation and spaces.

    Nothing in it has a meaning of its own: quotes, stars, AND and OR are punctuation and words like any others.
    """
    clean = unicodedata.normalize("NFC", text)
    spaced = "".join(letter if unicodedata.category(letter)[0] in "LN" else " " for letter in clean)
    return tuple(dict.fromkeys(word[:MAX_WORD_LENGTH] for word in spaced.split()[:MAX_WORDS]))


def excerpt(body: str, words: Iterable[str], length: int = 160) -> str:
    """The line of an indexed body, after the first three, in which the first of the words stands; "" for none."""
    for word in words:
        pattern = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)
        for line in body.split("\n")[3:]:
            if (found := pattern.search(line)) is not None:
                start = max(0, found.start() - length // 3)
                cut = line[start : start + length].strip()
                return f"{'…' if start else ''}{cut}{'…' if start + length < len(line) else ''}"
    return ""


def _key(at: datetime, low: int) -> int:
    key = ((microseconds(at) - KEY_EPOCH * 1_000_000) << KEY_ID_BITS) + low
    return max(-_LIMIT + 1, min(_LIMIT - 1, key))


def _key_beside(place: Cursor, kind: str, *, newer: bool) -> int:
    """The last key on the place's own side that is not asked for."""
    if kind == place.kind:
        return _key(place.at, place.pk % 2**KEY_ID_BITS)
    first, last = _key(place.at, 0), _key(place.at, 2**KEY_ID_BITS - 1)
    if newer:
        return first - 1 if kind < place.kind else last
    return last + 1 if kind > place.kind else first


def _on_sqlite(
    texts: str, words: Iterable[str], facets: Iterable[str], above: int, below: int, newer: bool, limit: int
) -> tuple[str, list[Any]]:
    index = f"{texts.removesuffix('text')}words"
    tokens = " AND ".join(f'"{token}"' for token in facets)
    match = " AND ".join(f'"{word}"' for word in words)
    if match and tokens:
        # Kept together by an OR with nothing, the words are looked for first: side by side with them, a facet that
        # nearly every run has would be read along for each place where only one of the words stands.
        match = f'(({match}) OR "{MARK}nothing") AND {tokens}'
    match = match or tokens
    order = "ASC" if newer else "DESC"
    statement = (
        f"SELECT run_id FROM (SELECT t.run_id AS run_id FROM {index} w JOIN {texts} t ON t.key = w.rowid "  # noqa: S608 - our own tables
        f"WHERE {index} MATCH %s AND w.rowid > %s AND w.rowid < %s ORDER BY w.rowid {order} LIMIT %s)"
    )
    return statement.replace(f"WHERE {index} MATCH", f"WHERE w.{index} MATCH"), [match, above, below, limit]


def _on_postgresql(
    texts: str, words: Iterable[str], facets: Iterable[str], above: int, below: int, newer: bool, limit: int
) -> tuple[str, list[Any]]:
    tokens = " & ".join(f"'{token}'" for token in facets)
    query, values = {
        (True, True): ("plainto_tsquery('simple', %s) && %s::tsquery", [" ".join(words), tokens]),
        (True, False): ("plainto_tsquery('simple', %s)", [" ".join(words)]),
        (False, True): ("%s::tsquery", [tokens]),
    }[bool(words), bool(tokens)]
    return f"SELECT {texts}_search({query}, %s, %s, %s, %s)", [*values, above, below, newer, limit]
