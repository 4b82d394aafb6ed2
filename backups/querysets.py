from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from django.db.models import Q, QuerySet

from backups.choices import ON_STORAGE, BackupState

if TYPE_CHECKING:
    from backups.models.backup import Backup
else:
    Backup = Any


# Available, and not an unaccepted suspect.
GOOD = Q(state=BackupState.AVAILABLE) & (Q(suspect_reason="") | Q(accepted_at__isnull=False))


class BackupQuerySet(QuerySet["Backup"]):
    def available(self) -> Self:
        return self.filter(state=BackupState.AVAILABLE)

    def on_storage(self) -> Self:
        """Rows that stand for a copy people still count on: available, missing or quarantined."""
        return self.filter(state__in=ON_STORAGE)

    def trashed(self) -> Self:
        return self.filter(state=BackupState.TRASHED)

    def good(self) -> Self:
        """The copies that retention counts."""
        return self.filter(GOOD)

    def of_pair(self, job_id: int, target_id: int) -> Self:
        return self.filter(job_id=job_id, target_id=target_id)
