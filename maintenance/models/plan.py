from __future__ import annotations

import json
import zlib
from typing import Any

from django.db import models
from django.db.models import Q

from backups.models import BackupJob, Target
from backups.storage.names import new_uid
from maintenance.choices import PlanStatus
from maintenance.models.run import MaintenanceRun


class CleanupPlan(models.Model):
    """What one cleanup decided, pair by pair: the record that it can be asked for, approved by, and replayed from.

    previewed -> approved | executed                 shown to someone, who confirmed it; the run's own record is another
    executed                                         a run's record of what it did
    waiting -> approved | rejected | superseded      a run's record of what a guard stopped

    `digest` is over the digests of its pairs: what is executed has the digest that was shown. `params` names one pair,
    or none. A plan that was previewed has no pairs: it is worked out again, and must come out the same.
    """

    uid = models.CharField(max_length=16, unique=True, default=new_uid, editable=False)
    status = models.CharField(max_length=16, choices=PlanStatus)
    digest = models.CharField(max_length=64)
    params = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField()
    created_by = models.CharField(max_length=150, blank=True)
    run = models.ForeignKey(MaintenanceRun, null=True, blank=True, on_delete=models.PROTECT, related_name="plans")
    decided_by = models.CharField(max_length=150, blank=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    carried_out_by = models.ForeignKey(
        MaintenanceRun, null=True, blank=True, on_delete=models.PROTECT, related_name="approved_plans"
    )

    class Meta:
        ordering = ("-pk",)
        permissions = [("approve_cleanupplan", "Can approve or reject what a guard stopped")]
        constraints = [
            models.CheckConstraint(condition=Q(status__in=PlanStatus.values), name="cleanup_plan_status_known"),
            models.CheckConstraint(
                condition=~Q(status__in=[PlanStatus.APPROVED, PlanStatus.REJECTED])
                | (Q(decided_at__isnull=False) & ~Q(decided_by="")),
                name="cleanup_plan_decided_by_someone",
            ),
        ]
        indexes = [models.Index(fields=["status", "-id"], name="cleanup_plan_status")]

    def __str__(self) -> str:
        return f"plan {self.uid} ({self.status})"


class CleanupPlanPair(models.Model):
    """The plan for one pair within a cleanup, whole: `document` holds inputs and verdicts with their reasons.

    `stops` are the guards that kept it, or the rest of it, from being carried out; `moved` copies of `moved_bytes` went
    to the trash.
    """

    plan = models.ForeignKey(CleanupPlan, on_delete=models.CASCADE, related_name="pairs")
    job = models.ForeignKey(BackupJob, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    job_name = models.CharField(max_length=80)
    target = models.ForeignKey(Target, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    target_name = models.CharField(max_length=80)
    planned_at = models.DateTimeField()
    digest = models.CharField(max_length=64)
    policy = models.JSONField()
    policy_hash = models.CharField(max_length=64)
    kept = models.PositiveIntegerField()
    deleting = models.PositiveIntegerField()
    deleting_bytes = models.BigIntegerField()
    stops = models.JSONField(default=list)
    carried_out = models.BooleanField(
        default=False, help_text="Nothing stopped it, and it was gone through to its end."
    )
    moved = models.PositiveIntegerField(default=0)
    moved_bytes = models.BigIntegerField(default=0)
    packed = models.BinaryField()

    class Meta:
        ordering = ("pk",)
        constraints = [
            models.UniqueConstraint(fields=["plan", "job", "target"], name="cleanup_plan_pair_once"),
        ]
        indexes = [models.Index(fields=["job", "target", "-id"], name="cleanup_plan_of_pair")]

    def __str__(self) -> str:
        return f"{self.job_name} / {self.target_name}: {self.deleting} to delete"

    @property
    def label(self) -> str:
        return f"{self.job_name} / {self.target_name}"

    @property
    def document(self) -> dict[str, Any]:
        """`{"inputs": ..., "verdicts": [...]}`, as `backups.retention` writes them."""
        value: dict[str, Any] = json.loads(zlib.decompress(bytes(self.packed)))
        return value

    @staticmethod
    def pack(document: dict[str, Any]) -> bytes:
        return zlib.compress(json.dumps(document, separators=(",", ":")).encode(), level=6)
