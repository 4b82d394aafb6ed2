from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tzlocal
from django.core.exceptions import ValidationError
from django.db import transaction

from backups.models import Options
from backups.retention.policy import Policy, PolicyError
from scheduling.cron import ScheduleError, load_zone

MAX_TRASH_HOURS = 24 * 365
MAX_MINIMUM_KEEP = 1000


def options_update(
    *,
    timezone: str | None = None,
    retention: Mapping[str, Any] | None = None,
    minimum_keep: int | None = None,
    trash_hours: int | None = None,
) -> Options:
    """Change what is given and return the row.

    Raises ValidationError keyed by field; a policy's errors are keyed `retention.<rule>`.
    """
    values = options_clean(timezone=timezone, retention=retention, minimum_keep=minimum_keep, trash_hours=trash_hours)
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
    if errors:
        raise ValidationError(errors)
    return values


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
