from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tzlocal
from django.core.exceptions import ValidationError
from django.db import transaction

from backups.models import Options
from backups.models.options import GUARD_FIELDS
from backups.retention.policy import Policy, PolicyError
from scheduling.cron import ScheduleError, load_zone

MAX_TRASH_HOURS = 24 * 365
MAX_MINIMUM_KEEP = 1000
MAX_SHARE = 100
MAX_GUARD_COUNT = 1_000_000
MAX_GUARD_BYTES = 2**60

_GUARD_LIMITS = {"share": MAX_SHARE, "count": MAX_GUARD_COUNT, "bytes": MAX_GUARD_BYTES}


def options_update(
    *,
    timezone: str | None = None,
    retention: Mapping[str, Any] | None = None,
    minimum_keep: int | None = None,
    trash_hours: int | None = None,
    **guards: int | None,
) -> Options:
    """Change what is given and return the row.

    `guards` are some of `GUARD_FIELDS`: shares in percent, sizes in bytes, None or 0 for no limit. Raises
    ValidationError keyed by field; a policy's errors are keyed `retention.<rule>`.
    """
    values = options_clean(
        timezone=timezone, retention=retention, minimum_keep=minimum_keep, trash_hours=trash_hours, **guards
    )
    with transaction.atomic():
        Options.load()
        options = Options.objects.select_for_update().get(pk=1)
        for field, value in values.items():
            setattr(options, field, value)
        options.save()
    return options


def options_adopt_machine_zone() -> None:
    """Let a new installation's schedules mean the machine's own time.

    A zone that was chosen stays, and so does UTC where the machine's zone has no name.
    """
    if Options.load().timezone != "UTC":
        return
    try:
        name = tzlocal.get_localzone_name() or ""
    except LookupError:
        return
    if name and name != "Etc/UTC":
        options_update(timezone=name)


def options_clean(
    *,
    timezone: str | None = None,
    retention: Mapping[str, Any] | None = None,
    minimum_keep: int | None = None,
    trash_hours: int | None = None,
    **guards: int | None,
) -> dict[str, Any]:
    """The given values, checked and normalised.

    Raises ValidationError keyed by field; a policy's errors are keyed `retention.<rule>`.
    """
    values: dict[str, Any] = {}
    errors: dict[str, list[str]] = {}
    if timezone is not None:
        try:
            load_zone(timezone)
            values["timezone"] = timezone
        except ScheduleError as error:
            errors["timezone"] = [str(error)]
    if retention is not None:
        try:
            values["retention"] = retention_clean(retention)
        except PolicyError as error:
            errors |= {f"retention.{field}": [message] for field, message in error.errors.items()}
    for field, value, lowest, highest in (
        ("minimum_keep", minimum_keep, 1, MAX_MINIMUM_KEEP),
        ("trash_hours", trash_hours, 0, MAX_TRASH_HOURS),
    ):
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            errors[field] = [f"Use a whole number from {lowest} to {highest}."]
        else:
            values[field] = value
    _clean_guards(guards, values, errors)
    if errors:
        raise ValidationError(errors)
    return values


def _clean_guards(guards: Mapping[str, Any], values: dict[str, Any], errors: dict[str, list[str]]) -> None:
    for field, value in guards.items():
        if field not in GUARD_FIELDS:
            raise TypeError(f"there is no option {field}")
        highest = _GUARD_LIMITS[field.rpartition("_")[2]]
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= highest):
            errors[field] = [f"Use a whole number from 1 to {highest}; blank or 0 is no limit."]
        else:
            values[field] = value or None


def retention_clean(retention: Mapping[str, Any]) -> dict[str, Any]:
    """A policy as it is stored: the rules that are on, and the time zone only where it was given.

    Raises `PolicyError`.
    """
    stored = Policy.from_mapping(retention).to_mapping()
    if not retention.get("timezone"):
        stored.pop("timezone", None)
    return stored


def effective_policy(*, override: Mapping[str, Any] | None, options: Options) -> Policy:
    """The policy of a pair: the job's own when it has one, else the one in Options; its zone defaults to that of
    Options.
    """
    mapping = dict(options.retention if override is None else override)
    mapping.setdefault("timezone", options.timezone)
    return Policy.from_mapping(mapping)
