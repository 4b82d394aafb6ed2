"""A plan as pages, the API and commands show it: one that was just made, or one that a cleanup stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from django.urls import reverse

from backups.models import Backup, Storage
from backups.retention import Policy, PolicyError, Stop
from backups.retention.periods import moment_of
from backups.services.retention import PairPlan
from backups.verdict_words import delete_words, keep_words
from maintenance.choices import PlanStatus
from maintenance.models import CleanupPlan, CleanupPlanPair, MaintenanceRun
from maintenance.retention_plans import RetentionPlans

MAX_LISTED = 100
MAX_LABELS = 10


@dataclass(frozen=True, kw_only=True)
class Copy:
    """One copy with its verdict: `words` says why in one sentence, `reasons` all there is to say; `size` in bytes."""

    uid: str
    created: datetime
    size: int
    keep: bool
    words: str
    reasons: tuple[str, ...]

    @property
    def url(self) -> str:
        return reverse("backups:backup_detail", kwargs={"uid": self.uid})


@dataclass(frozen=True, kw_only=True)
class PairView:
    """One pair of a plan. `copies` are the first of those to delete; `moved` is None where nothing was carried out."""

    label: str
    job_id: int | None
    target_id: int | None
    kept: int
    deleting: int
    size: int
    policy: str
    stops: tuple[Stop, ...]
    notes: tuple[str, ...] = ()
    copies: tuple[Copy, ...] = ()
    pk: int | None = None
    moved: int = 0
    moved_size: int = 0

    @property
    def is_approvable(self) -> bool:
        """Whether someone's word is enough for it to go on."""
        return bool(self.stops) and all(stop.approvable for stop in self.stops)

    @property
    def left(self) -> int:
        """How many of the copies to delete are still where they were."""
        return self.deleting - self.moved


@dataclass(frozen=True, kw_only=True)
class StopView:
    """A guard that is in the way, and the pairs that it keeps from being carried out."""

    stop: Stop
    labels: tuple[str, ...]

    @property
    def text(self) -> str:
        """What, where, how much and the limit."""
        if len(self.labels) == 1 and not self.stop.kind.startswith("storage_"):
            return f"{self.labels[0]}: {self.stop.text}"
        shown = ", ".join(self.labels[:MAX_LABELS])
        more = f" and {len(self.labels) - MAX_LABELS} more" if len(self.labels) > MAX_LABELS else ""
        return f"{self.stop.text} Stopped by it: {shown}{more}."


@dataclass(frozen=True, kw_only=True)
class PlanView:
    """What a cleanup would do, or did, with every guard that stands in its way."""

    pairs: tuple[PairView, ...]
    stored: CleanupPlan | None = None

    @cached_property
    def blocked(self) -> tuple[PairView, ...]:
        """The pairs that a guard keeps from being carried out."""
        return tuple(pair for pair in self.pairs if pair.stops)

    @cached_property
    def stops(self) -> tuple[StopView, ...]:
        """Each guard once: those about one pair for each pair, the others with all pairs that they stop."""
        labels: dict[tuple[Stop, str], list[str]] = {}
        for pair in self.blocked:
            for stop in pair.stops:
                alone = pair.label if stop.kind.startswith("pair_") else ""
                labels.setdefault((stop, alone), []).append(pair.label)
        views = [StopView(stop=stop, labels=tuple(names)) for (stop, _), names in labels.items()]
        # What has changed is why the person who confirmed looks at it again.
        views.sort(key=lambda view: (view.stop.kind != "changed", not view.stop.kind.startswith("pair_")))
        return tuple(views)

    @property
    def kept(self) -> int:
        return sum(pair.kept for pair in self.pairs)

    @property
    def deleting(self) -> int:
        return sum(pair.deleting for pair in self.pairs)

    @property
    def size(self) -> int:
        return sum(pair.size for pair in self.pairs)

    @property
    def waiting(self) -> int:
        """How many copies the guards keep from being deleted."""
        return sum(pair.left for pair in self.blocked)

    @property
    def approvable(self) -> int:
        """How many copies someone's word is enough for."""
        return sum(pair.left for pair in self.blocked if pair.is_approvable)

    @property
    def free(self) -> int:
        """How many copies no guard is about."""
        return self.deleting - sum(pair.deleting for pair in self.blocked)

    @property
    def waiting_size(self) -> int:
        return sum(pair.size - pair.moved_size for pair in self.blocked)

    @property
    def moved(self) -> int:
        return sum(pair.moved for pair in self.pairs)

    @property
    def needs_approval(self) -> bool:
        """Whether someone has to decide: a backup under way is only waited for."""
        return any(view.stop.kind != "busy" for view in self.stops)

    @property
    def is_too_much(self) -> bool:
        """Whether it is over the blast radius, of a pair or of a storage."""
        return any(view.stop.kind.startswith(("pair_", "storage_")) for view in self.stops)

    @property
    def is_clock_stopped(self) -> bool:
        return any(view.stop.kind == "clock" for view in self.stops)

    @property
    def is_waiting(self) -> bool:
        return self.stored is not None and self.stored.status == PlanStatus.WAITING

    @cached_property
    def old_storages(self) -> list[Storage]:
        """The storages whose changes the database has not seen, as far as the plan was stopped for that."""
        pairs = [pair for pair in self.blocked if any(stop.kind == "epoch" for stop in pair.stops)]
        found = Storage.objects.none()
        for pair in pairs:
            backups = Backup.objects.filter(job=pair.job_id, target=pair.target_id).on_storage()
            found |= Storage.objects.filter(pk__in=backups.values("storage"))
        return list(found.distinct()) if pairs else []

    @cached_property
    def unlisted(self) -> int:
        """How many of the copies to delete are only counted."""
        listed = self.blocked if self.is_waiting else self.pairs
        return sum(pair.deleting - len(pair.copies) for pair in listed)


def view_of_plans(found: RetentionPlans, *, limit: int = MAX_LISTED) -> PlanView:
    """What was just planned; the first `limit` copies to delete with their reasons, those that a guard stops first."""
    views: dict[int, PairView] = {}
    left = limit
    for place, planned in sorted(enumerate(found.plans), key=lambda entry: not entry[1].plan.stops):
        plan = planned.plan
        copies = tuple(
            _copy(verdict.to_mapping(), verdict.candidate.created, verdict.candidate.size)
            for verdict in plan.delete[:left]
        )
        left -= len(copies)
        views[place] = _live(planned, copies)
    return PlanView(pairs=tuple(view for _, view in sorted(views.items())))


def view_of_record(stored: CleanupPlan, *, limit: int = MAX_LISTED) -> PlanView:
    """A stored plan; of one that waits only what waits is listed copy by copy."""
    views: list[PairView] = []
    left = limit
    for pair in stored.pairs.defer("packed"):
        copies: tuple[Copy, ...] = ()
        if left and pair.deleting and (pair.stops or stored.status != PlanStatus.WAITING):
            # Read only for the few that are listed: a plan may hold a hundred thousand verdicts.
            copies = tuple([copy for copy in pair_copies(pair) if not copy.keep][:left])
            left -= len(copies)
        views.append(_recorded(pair, copies))
    return PlanView(pairs=tuple(views), stored=stored)


def view_of_run(run: MaintenanceRun) -> PlanView | None:
    """The plan that a run went by, None for a run of a time or a type without one."""
    stored = run.plans.select_related("carried_out_by").order_by("pk").last()
    return view_of_record(stored) if stored else None


def pair_copies(pair: CleanupPlanPair) -> list[Copy]:
    """Every copy that the plan of a pair speaks of, newest first, from what was stored."""
    return [_copy(verdict, created, size) for verdict, created, size in pair_verdicts(pair)]


def pair_verdicts(pair: CleanupPlanPair) -> Iterator[tuple[Mapping[str, Any], datetime, int]]:
    """Each verdict of a stored plan, newest first, with when its copy was taken and its size in bytes."""
    document = pair.document
    inputs = document["inputs"]
    for verdict, created, size in zip(document["verdicts"], inputs["created"], inputs["size"], strict=True):
        yield verdict, moment_of(created), size


def _live(planned: PairPlan, copies: tuple[Copy, ...]) -> PairView:
    plan = planned.plan
    return PairView(
        label=planned.pair.label,
        job_id=planned.pair.job.pk,
        target_id=planned.pair.target_id,
        kept=len(plan.keep),
        deleting=len(plan.delete),
        size=planned.bytes_to_delete,
        policy=plan.policy.describe() if planned.pair.job.retention is not None else "",
        stops=plan.stops,
        notes=plan.notes,
        copies=copies,
    )


def _recorded(pair: CleanupPlanPair, copies: tuple[Copy, ...]) -> PairView:
    try:
        policy = Policy.from_mapping(pair.policy).describe()
    except PolicyError:  # of a later version
        policy = ""
    return PairView(
        pk=pair.pk,
        label=pair.label,
        job_id=pair.job_id,
        target_id=pair.target_id,
        kept=pair.kept,
        deleting=pair.deleting,
        size=pair.deleting_bytes,
        policy=policy,
        stops=tuple(Stop.from_mapping(stop) for stop in pair.stops),
        copies=copies,
        moved=pair.moved,
        moved_size=pair.moved_bytes,
    )


def _copy(verdict: Mapping[str, Any], created: datetime, size: int) -> Copy:
    # The guards are said once, for all copies.
    reasons = [reason for reason in verdict["reasons"] if reason["kind"] != "guard"]
    return Copy(
        uid=verdict["uid"],
        created=created,
        size=size,
        keep=verdict["keep"],
        words=keep_words(reasons) if verdict["keep"] else delete_words(reasons),
        reasons=tuple(str(reason["text"]) for reason in reasons),
    )
