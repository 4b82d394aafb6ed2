"""The tables and keys that a file may have, and their values with the right types."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from backups.models.options import GUARD_FIELDS
from config.configuration.problems import Problems

TEXT, SWITCH, NUMBER, TEXTS, RULES = "text", "true or false", "a whole number", "a list of texts", "a table of rules"

OPTIONS = "options"
STORAGES = "storages"
TARGETS = "targets"
BACKUP_JOBS = "backup_jobs"
MAINTENANCE_JOBS = "maintenance_jobs"


@dataclass(frozen=True, kw_only=True)
class Table:
    """An array of tables: `identity` is the key that an entry is known by."""

    identity: str
    keys: Mapping[str, str]
    required: tuple[str, ...] = ()


OPTION_KEYS = {
    "timezone": TEXT,
    "retention": RULES,
    "minimum_keep": NUMBER,
    "trash_hours": NUMBER,
    **dict.fromkeys(GUARD_FIELDS, NUMBER),
}

# How jobs of both kinds run; `config.configuration.job_settings` says what they mean.
SETTING_KEYS = {
    "overlap": TEXT,
    "retry_count": NUMBER,
    "retry_delay": NUMBER,
    "time_limit": NUMBER,
    "window": TEXT,
    "blackout_dates": TEXTS,
    "run_after": TEXT,
    "queue": TEXT,
}

TABLES = {
    STORAGES: Table(
        identity="name",
        keys={"name": TEXT, "kind": TEXT, "path": TEXT, "use_existing": SWITCH},
        required=("name", "path"),
    ),
    TARGETS: Table(
        identity="name",
        keys={"name": TEXT, "source": TEXT, "paths": TEXTS, "exclude": TEXTS},
        required=("name", "paths"),
    ),
    BACKUP_JOBS: Table(
        identity="name",
        keys={
            "name": TEXT,
            "targets": TEXTS,
            "storage": TEXT,
            "schedule": TEXT,
            "timezone": TEXT,
            "enabled": SWITCH,
            "retention": RULES,
            **SETTING_KEYS,
        },
        required=("name", "targets", "storage"),
    ),
    MAINTENANCE_JOBS: Table(
        identity="key",
        keys={
            "key": TEXT,
            "job_type": TEXT,
            "name": TEXT,
            "schedule": TEXT,
            "timezone": TEXT,
            "enabled": SWITCH,
            "visible_in_ui": SWITCH,
            **SETTING_KEYS,
        },
        required=("key",),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry of a table: `where` names it in messages, `identity` is its name or key, `values` are typed.

    `identity` is "" when the entry has none, which is among the problems then.
    """

    where: str
    identity: str
    values: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Document:
    """A file's entries by table, in the file's order."""

    options: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, tuple[Entry, ...]] = field(default_factory=dict)

    def entries(self, table: str) -> tuple[Entry, ...]:
        return self.tables.get(table, ())


def read_document(raw: Mapping[str, Any], problems: Problems) -> Document:
    """The entries of `raw`. Unknown tables and keys, wrong types, missing keys and duplicates go to `problems`."""
    known = (OPTIONS, *TABLES)
    for name in raw:
        if name not in known:
            problems.add("", name, f"There is no such table.{_close(name, known)} There are: {', '.join(known)}.")
    options = raw.get(OPTIONS, {})
    if isinstance(options, dict):
        options = _typed(OPTIONS, options, OPTION_KEYS, problems)
    else:
        problems.add(OPTIONS, "", "This must be one table. Write [options].")
        options = {}
    tables = {name: _entries(name, raw[name], problems) for name in TABLES if name in raw}
    return Document(options=options, tables=tables)


def _entries(name: str, raw: object, problems: Problems) -> tuple[Entry, ...]:
    if not isinstance(raw, list) or not all(isinstance(item, dict) for item in raw):
        problems.add(name, "", f"This must be a list of tables. Write [[{name}]] above each entry.")
        return ()
    table = TABLES[name]
    entries: list[Entry] = []
    first: dict[str, int] = {}
    for index, item in enumerate(raw):
        identity = item.get(table.identity)
        # Services trim names in this way; two that differ only in blanks are one.
        known_as = " ".join(identity.split()) if isinstance(identity, str) else ""
        where = f'{name}[{index}] "{known_as}"' if known_as else f"{name}[{index}]"
        values = _typed(where, item, table.keys, problems)
        for key in table.required:
            if key not in item:
                problems.add(where, key, "This key is missing.")
        if known_as and known_as in first:
            problems.add(where, table.identity, f"{name}[{first[known_as]}] has this {table.identity} already.")
        first.setdefault(known_as, index)
        entries.append(Entry(where=where, identity=known_as, values=values))
    return tuple(entries)


def _typed(where: str, raw: Mapping[str, Any], keys: Mapping[str, str], problems: Problems) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in raw.items():
        if key not in keys:
            problems.add(where, key, f"There is no such key.{_close(key, keys)} There are: {', '.join(keys)}.")
        elif not _has_type(value, keys[key]):
            problems.add(where, key, f"This must be {keys[key]}, not {_shown(value)}.")
        else:
            values[key] = value
    return values


def _has_type(value: object, kind: str) -> bool:
    match kind:
        case "text":
            return isinstance(value, str)
        case "true or false":
            return isinstance(value, bool)
        case "a whole number":
            return isinstance(value, int) and not isinstance(value, bool)
        case "a list of texts":
            return isinstance(value, list) and all(isinstance(item, str) for item in value)
        case _:
            return isinstance(value, dict)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _close(name: str, known: Mapping[str, str] | tuple[str, ...]) -> str:
    found = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {found[0]}?" if found else ""
