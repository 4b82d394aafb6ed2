from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from backups.models import Target
from backups.services.errors import refuse
from backups.services.names import clean_name
from backups.services.protections import holds_clear_way
from backups.sources import SOURCES, SourceConfigError
from scheduling.printable import printable


def target_clean(*, name: str, source: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a target, checked and normalised. Raises ValidationError keyed by field."""
    if source not in SOURCES:
        raise refuse("source", f"“{source}” is not a kind of source. There are: {', '.join(SOURCES)}.")
    try:
        cleaned = SOURCES[source].clean(config)
    except SourceConfigError as error:
        raise ValidationError({field: [message] for field, message in error.errors.items()}) from error
    _refuse_undecodable(cleaned)
    return {"name": clean_name(name), "source": source, "config": cleaned}


def _refuse_undecodable(config: Mapping[str, Any]) -> None:
    """Refuse text that is not UTF-8 (it arrives as lone surrogates): no database can store it."""
    for field, values in config.items():
        for text in values if isinstance(values, list) else [values]:
            try:
                str(text).encode()
            except UnicodeEncodeError as error:
                raise refuse(
                    field,
                    f"“{printable(str(text))}” is not UTF-8 text, so it cannot be stored. "
                    "Name the folder above it instead.",
                ) from error


def target_create(*, name: str, source: str, config: Mapping[str, Any]) -> Target:
    """Add a target.

    Raises ValidationError keyed by field (`name`, `source`, or a field of the source's configuration).
    """
    return _save(Target(**target_clean(name=name, source=source, config=config)))


def target_update(*, target: Target, name: str, config: Mapping[str, Any]) -> Target:
    """Change a target; its source kind stays. Raises ValidationError keyed by field."""
    changed = Target.objects.get(pk=target.pk)
    for field, value in target_clean(name=name, source=changed.source, config=config).items():
        setattr(changed, field, value)
    return _save(changed)


def target_delete(*, target: Target) -> None:
    """Forget a target that no job names.

    Its backups and history stay. Raises ValidationError naming the jobs, or the hold, that need it.
    """
    try:
        with transaction.atomic():
            holds_clear_way(target=target)
            target.delete()
    except ProtectedError as error:
        jobs = ", ".join(sorted(target.jobs.values_list("name", flat=True)))
        raise ValidationError(f"{target.name} is protected by {jobs}. Take it out of these jobs first.") from error


def target_problems(target: Target) -> list[str]:
    """What would keep this target from being backed up right now; empty when nothing would."""
    return SOURCES[target.source].check(target.config)


def _save(target: Target) -> Target:
    taken = f"There is a target called “{target.name}” already."
    if Target.objects.exclude(pk=target.pk).filter(name=target.name).exists():
        raise refuse("name", taken)
    try:
        with transaction.atomic():
            target.save()
    except IntegrityError as error:
        raise refuse("name", taken) from error
    return target
