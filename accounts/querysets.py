from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Self

from django.db.models import Q, QuerySet

if TYPE_CHECKING:
    from accounts.models import ApiToken  # noqa: F401 (names the type below)


class ApiTokenQuerySet(QuerySet["ApiToken"]):
    def usable(self, now: datetime) -> Self:
        """Tokens that open the API at `now`: neither revoked nor expired, and their owner is active."""
        return self.filter(Q(expires_at__isnull=True) | Q(expires_at__gt=now), revoked_at__isnull=True).filter(
            user__is_active=True
        )
