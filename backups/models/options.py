from __future__ import annotations

from typing import Self

from django.db import models
from django.db.models import Q

DEFAULT_TRASH_HOURS = 72
DEFAULT_SHARE = 25
DEFAULT_COUNT = 50
GUARD_FIELDS = (
    "guard_pair_share",
    "guard_pair_count",
    "guard_pair_bytes",
    "guard_storage_share",
    "guard_storage_count",
    "guard_storage_bytes",
)


class Options(models.Model):
    """The settings that people change in pages: one row (pk 1).

    `retention` is the policy for jobs without one of their own. The `guard_*` are the blast radius: what a cleanup may
    delete before it stops and asks; null is no limit.
    """

    timezone = models.CharField(
        max_length=64, default="UTC", help_text="The IANA time zone of schedules and of retention's days and weeks."
    )
    retention = models.JSONField(default=dict, blank=True)
    minimum_keep = models.PositiveIntegerField(
        default=1, help_text="Good copies that every target of every job keeps, whatever the policy says."
    )
    trash_hours = models.PositiveIntegerField(
        default=DEFAULT_TRASH_HOURS, help_text="Hours a deleted backup stays in the storage's trash."
    )
    guard_pair_share = models.PositiveSmallIntegerField(
        default=DEFAULT_SHARE,
        null=True,
        blank=True,
        help_text="Percent of the good copies of one target of one job that a cleanup may delete without approval.",
    )
    guard_pair_count = models.PositiveIntegerField(
        default=DEFAULT_COUNT,
        null=True,
        blank=True,
        help_text="Copies of one target of one job that a cleanup may delete without approval.",
    )
    guard_pair_bytes = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="Bytes of one target of one job that a cleanup may delete without approval."
    )
    guard_storage_share = models.PositiveSmallIntegerField(
        default=DEFAULT_SHARE,
        null=True,
        blank=True,
        help_text="Percent of the good copies in one storage that a cleanup may delete without approval.",
    )
    guard_storage_count = models.PositiveIntegerField(
        null=True, blank=True, help_text="Copies in one storage that a cleanup may delete without approval."
    )
    guard_storage_bytes = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="Bytes in one storage that a cleanup may delete without approval."
    )
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name_plural = "options"
        constraints = [
            models.CheckConstraint(condition=Q(pk=1), name="options_one_row"),
            models.CheckConstraint(condition=Q(minimum_keep__gte=1), name="options_minimum_keep_at_least_one"),
        ]

    def __str__(self) -> str:
        return "Options"

    @classmethod
    def load(cls) -> Self:
        """The one row, made with its defaults when it is not there."""
        return cls.objects.get_or_create(pk=1)[0]
