"""The copies of many pairs at once, with what the planner reads of them and no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from django.db.models import Q

from backups.models import Backup, BackupJob, Storage
from backups.retention import Candidate
from backups.services.retention import DECIDING_COLUMNS, Pair, candidates_of

PairKey = tuple[int, int]


def rows_by_pair(
    pairs: Sequence[Pair], job: BackupJob | None, only: PairKey | None
) -> dict[PairKey, dict[str, Backup]]:
    """The copies of every pair, by uid, newest first; with a job, of its pairs and of those on the same storages."""
    wanted = Backup.objects.on_storage().filter(job__isnull=False, target__isnull=False)
    if only is not None:
        wanted = wanted.of_pair(*only)
    elif job is not None:
        storages = wanted.filter(job=job).order_by().values("storage")
        wanted = wanted.filter(Q(job=job) | Q(storage__in=storages))
    found: dict[PairKey, dict[str, Backup]] = {pair.key: {} for pair in pairs}
    # There are many copies and few storages: a join would make each storage anew for every copy.
    by_key = Storage.objects.in_bulk()
    for row in wanted.only(*DECIDING_COLUMNS).order_by("-created_at", "-pk"):
        of_pair = found.get((row.job_id or 0, row.target_id or 0))
        if of_pair is not None:
            row.storage = by_key[row.storage_id]
            of_pair[row.uid] = row
    return {key: of_pair for key, of_pair in found.items() if of_pair}


def candidates_by_pair(rows: Mapping[PairKey, Mapping[str, Backup]], now: datetime) -> dict[PairKey, list[Candidate]]:
    # All at once: what protects copies is read in two queries, however many pairs there are.
    everything = [row for of_pair in rows.values() for row in of_pair.values()]
    seen = iter(candidates_of(everything, now=now))
    return {key: [next(seen) for _ in of_pair] for key, of_pair in rows.items()}
