from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.urls import reverse

from backups.choices import StorageKind
from backups.storage.names import new_uid


class Storage(models.Model):
    """A place where copies live.

    `uid` is what its sentinel file must say, so that another disk at the same path is noticed. `epoch` counts the
    changes of its content, and the storage keeps the same count: one that is ahead of this row has seen changes that
    the database has not.
    """

    uid = models.CharField(max_length=16, unique=True, default=new_uid, editable=False)
    name = models.CharField(max_length=80, unique=True)
    kind = models.CharField(max_length=16, choices=StorageKind, default=StorageKind.LOCAL)
    path = models.CharField(max_length=1000, help_text="An absolute folder on this machine, such as /srv/backups.")
    epoch = models.PositiveBigIntegerField(default=0, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("name",)
        constraints = [
            models.CheckConstraint(condition=~Q(name=""), name="storage_has_a_name"),
            models.CheckConstraint(condition=Q(kind__in=StorageKind.values), name="storage_kind_known"),
            models.UniqueConstraint(
                fields=["path"], condition=Q(kind=StorageKind.LOCAL), name="storage_one_per_local_path"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("backups:storage_detail", kwargs={"pk": self.pk})
