from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Q
from django.urls import reverse

from backups.choices import SourceKindName


class Target(models.Model):
    """Something to protect. `config` belongs to the source kind: for files, `{"paths": [...], "exclude": [...]}`."""

    name = models.CharField(max_length=80, unique=True)
    source = models.CharField(max_length=16, choices=SourceKindName, default=SourceKindName.FILES)
    config = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("name",)
        constraints = [
            models.CheckConstraint(condition=~Q(name=""), name="target_has_a_name"),
            models.CheckConstraint(condition=Q(source__in=SourceKindName.values), name="target_source_known"),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("backups:target_detail", kwargs={"pk": self.pk})

    @property
    def paths(self) -> list[str]:
        return list(self._config_list("paths"))

    @property
    def exclude(self) -> list[str]:
        return list(self._config_list("exclude"))

    def _config_list(self, key: str) -> list[Any]:
        value = self.config.get(key, []) if isinstance(self.config, dict) else []
        return value if isinstance(value, list) else []
