from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from backups.retention.durations import MAXIMUM, Duration, DurationError

PERIODS = ("hourly", "daily", "weekly", "monthly", "yearly")
COUNT_RULES = ("last", *PERIODS)
WITHIN_RULES = ("within", *(f"within_{period}" for period in PERIODS))
RULES = (*COUNT_RULES, *WITHIN_RULES)
"""The rules in the order in which policies and reasons list them."""

COUNT_FIELDS = tuple(f"keep_{rule}" for rule in COUNT_RULES)
DURATION_FIELDS = tuple(f"keep_{rule}" for rule in WITHIN_RULES)
FIELDS = (*COUNT_FIELDS, *DURATION_FIELDS, "timezone")
"""The names of a policy's fields in the order of a form."""

UNLIMITED = -1

# Files of the zone database that are not zones, or that mean something else on every machine.
_NOT_ZONES = frozenset({"localtime", "posixrules", "Factory"})


class PolicyError(ValueError):
    """A policy that cannot be used; `errors` maps every bad field to what is wrong with it."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        self.errors: dict[str, str] = dict(errors)
        super().__init__("; ".join(f"{field}: {message}" for field, message in self.errors.items()))


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Which backups of a pair stay. 0 and None mean that a rule is off, -1 that a count has no limit.

    `timezone` is the IANA zone in which hours, days, weeks, months and years begin. Raises `PolicyError`.
    """

    keep_last: int = 0
    keep_hourly: int = 0
    keep_daily: int = 0
    keep_weekly: int = 0
    keep_monthly: int = 0
    keep_yearly: int = 0
    keep_within: Duration | None = None
    keep_within_hourly: Duration | None = None
    keep_within_daily: Duration | None = None
    keep_within_weekly: Duration | None = None
    keep_within_monthly: Duration | None = None
    keep_within_yearly: Duration | None = None
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        errors: dict[str, str] = {}
        for field in COUNT_FIELDS:
            if message := _count_problem(getattr(self, field)):
                errors[field] = message
        for field in DURATION_FIELDS:
            value = getattr(self, field)
            if value is not None and not isinstance(value, Duration):
                errors[field] = f"{value!r} is not a duration"
        if message := _zone_problem(self.timezone):
            errors["timezone"] = message
        if errors:
            raise PolicyError(errors)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, object]) -> Policy:
        """Read a policy from a form, a configuration file or JSON; missing, None, blank and 0 switch a rule off.

        Counts are whole numbers (never text), durations are text such as `1y5m7d2h`. Raises `PolicyError` naming every
        bad field at once.
        """
        if not isinstance(mapping, Mapping):
            raise PolicyError({"policy": f"a table of rules is expected, not {type(mapping).__name__}"})
        unknown = f"there is no such rule; the rules are {', '.join(FIELDS)}"
        errors = {str(key): unknown for key in mapping if key not in FIELDS}
        values: dict[str, Any] = {field: value for field in FIELDS if not _is_off(value := mapping.get(field))}
        for field in DURATION_FIELDS:
            if field in values:
                try:
                    values[field] = _duration(values[field]) or None
                except DurationError as error:
                    errors[field] = str(error)
                    del values[field]
        try:
            policy = cls(**values)
        except PolicyError as error:
            errors |= error.errors
        if errors:
            raise PolicyError({field: errors[field] for field in (*FIELDS, *errors) if field in errors})
        return policy

    def to_mapping(self) -> dict[str, int | str]:
        """The rules that are set, and the zone, as plain JSON values; `from_mapping` reads it back."""
        mapping: dict[str, int | str] = {f"keep_{rule}": self.count(rule) for rule in COUNT_RULES if self.count(rule)}
        for rule in WITHIN_RULES:
            if duration := self.duration(rule):
                mapping[f"keep_{rule}"] = str(duration)
        mapping["timezone"] = self.timezone
        return mapping

    def count(self, rule: str) -> int:
        """The count of one of `COUNT_RULES`."""
        value: int = getattr(self, f"keep_{rule}")
        return value

    def duration(self, rule: str) -> Duration | None:
        """The length of one of `WITHIN_RULES`; None when the rule is off, a length of zero included."""
        value: Duration | None = getattr(self, f"keep_{rule}")
        return value or None

    @property
    def is_empty(self) -> bool:
        """No rule is on. Such a policy keeps everything."""
        return not any(map(self.count, COUNT_RULES)) and not any(map(self.duration, WITHIN_RULES))

    @property
    def zone(self) -> ZoneInfo:
        """The zone that `timezone` names."""
        return ZoneInfo(self.timezone)

    def describe(self) -> str:
        """The policy in words, for a page or a log line."""
        if self.is_empty:
            return "no rule: everything is kept"
        words = []
        if self.keep_last:
            words.append("every backup" if self.keep_last == UNLIMITED else f"the last {self.keep_last}")
        counts = ((period, self.count(period)) for period in PERIODS)
        words += [f"{'every' if count == UNLIMITED else count} {period}" for period, count in counts if count]
        if window := self.duration("within"):
            words.append(f"all within {window} of the newest")
        windows = ((period, self.duration(f"within_{period}")) for period in PERIODS)
        words += [f"{period} within {window} of the newest" for period, window in windows if window]
        return f"{', '.join(words)}; periods in {self.timezone}"


def _is_off(value: object) -> bool:
    return value is None or value == "" or (type(value) is int and value == 0)


def _count_problem(value: object) -> str:
    # bool is an int to Python, but `keep_last = true` is somebody's mistake.
    if type(value) is not int:
        return f"{value!r} is not a whole number; 0 or blank switches the rule off, -1 keeps without limit"
    if value < UNLIMITED:
        return f"{value} is negative; 0 or blank switches the rule off, -1 keeps without limit"
    if value > MAXIMUM:
        return f"{value} is too big; the most is {MAXIMUM}, and -1 keeps without limit"
    return ""


def _duration(value: object) -> Duration:
    if isinstance(value, Duration):
        return value
    if not isinstance(value, str):
        raise DurationError(f"{value!r} is not a duration; write it as text, for example 30d or 1y5m7d2h")
    return Duration.parse(value)


def _zone_problem(value: object) -> str:
    if not isinstance(value, str):
        return f"{value!r} is not a time zone; write a name such as Europe/Berlin"
    try:
        known = value not in _NOT_ZONES and bool(ZoneInfo(value))
    except (KeyError, ValueError, OSError):
        known = False
    return "" if known else f"{value!r} is not a known time zone; write a name such as Europe/Berlin or UTC"
