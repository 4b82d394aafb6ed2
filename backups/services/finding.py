"""Which backup a person means by a few words."""

from __future__ import annotations

import difflib
import re

from django.db.models import Q

from backups.choices import BackupState
from backups.models import Backup
from backups.querysets import BackupQuerySet
from scheduling.printable import printable

LATEST = "@latest"
MINIMUM_PREFIX = 6
MAX_LISTED = 10
_UID = re.compile(r"[0-9a-f]{1,16}", re.ASCII | re.IGNORECASE)


class BackupNotFoundError(LookupError):
    """No backup, or more than one, is meant; the text lists what there is."""


def backup_find(text: str) -> Backup:
    """The backup that `text` names: a uid, at least six digits of one, `TARGET@latest` or `JOB/TARGET@latest`.

    Latest is the newest copy that counts as good, or the newest suspect one when there is no good one. Raises
    `BackupNotFoundError`.
    """
    text = text.strip()
    if text.endswith(LATEST):
        return _latest(text.removesuffix(LATEST))
    if _UID.fullmatch(text) is None:
        raise BackupNotFoundError(
            f"“{printable(text[:100])}” names no backup. Give a uid, its first {MINIMUM_PREFIX} digits or more, "
            f"TARGET{LATEST} or JOB/TARGET{LATEST}. {_some()}"
        )
    if len(text) < MINIMUM_PREFIX:
        raise BackupNotFoundError(f"“{text}” is too short. Give at least {MINIMUM_PREFIX} digits of the uid.")
    found = list(Backup.objects.filter(uid__startswith=text.lower()).select_related("storage")[: MAX_LISTED + 1])
    if len(found) == 1:
        return found[0]
    if not found:
        raise BackupNotFoundError(f"There is no backup whose uid starts with {text.lower()}. {_some()}")
    listed = "; ".join(str(backup) for backup in found[:MAX_LISTED])
    raise BackupNotFoundError(f"Several backups start with {text.lower()}: {listed}. Give more digits.")


def newer_copies(backup: Backup) -> int:
    """How many newer copies of the same pair are there but do not count as good."""
    pair = Backup.objects.filter(job=backup.job, target=backup.target, target_name=backup.target_name)
    return pair.on_storage().filter(created_at__gt=backup.created_at).exclude(pk__in=pair.good().values("pk")).count()


def _latest(name: str) -> Backup:
    readings = [copies for copies in _readings(name) if copies.exists()]
    if not readings:
        raise BackupNotFoundError(f"There is no copy of “{printable(name[:100])}” to restore. {_some_targets(name)}")
    if len(readings) > 1:
        raise BackupNotFoundError(
            f"“{name}” can mean several targets here. Give the uid of the copy instead. {_some()}"
        )
    copies = readings[0].select_related("storage").order_by("-created_at", "-pk")
    backup = copies.good().first() or copies.available().first() or copies.first()
    if backup is None:
        raise BackupNotFoundError(f"The copies of “{name}” were deleted just now. {_some()}")
    return backup


def _readings(name: str) -> list[BackupQuerySet]:
    """The copies under each way to read `name`: a target, or a job and a target around one of its slashes."""
    copies: BackupQuerySet = Backup.objects.on_storage()
    readings = [copies.filter(_target(name))]
    for place in (index for index, character in enumerate(name) if character == "/"):
        job, target = name[:place], name[place + 1 :]
        readings.append(copies.filter(_target(target), Q(job__name=job) | Q(job__isnull=True, job_name=job)))
    return readings


def _target(name: str) -> Q:
    return Q(target__name=name) | Q(target__isnull=True, target_name=name)


def _some() -> str:
    newest = list(Backup.objects.exclude(state=BackupState.DELETED).order_by("-created_at")[:MAX_LISTED])
    if not newest:
        return "There are no backups yet."
    return f"The newest are: {'; '.join(str(backup) for backup in newest)}."


def _some_targets(name: str) -> str:
    names = sorted(set(Backup.objects.on_storage().order_by().values_list("target_name", flat=True).distinct()))
    if not names:
        return "There are no backups yet."
    close = difflib.get_close_matches(name.rpartition("/")[2], names, n=1)
    hint = f"Did you mean {close[0]}{LATEST}? " if close else ""
    more = f", and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return f"{hint}There are copies of: {', '.join(names[:MAX_LISTED])}{more}."
