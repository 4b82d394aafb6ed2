from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta

from django.contrib.auth.models import Group, User
from django.db import transaction
from django.db.models import Q

from accounts.models import ApiToken
from accounts.roles import ADMINISTRATOR

TOKEN_START = "kw_"  # noqa: S105 (the part that every token begins with, for secret scanners)
PREFIX_LENGTH = 11
# A token used a thousand times a minute costs one write a minute.
LAST_USED_STEP = timedelta(minutes=1)


def token_digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def token_create(*, user: User, name: str, now: datetime, expires_at: datetime | None = None) -> tuple[ApiToken, str]:
    """The new token's record and its secret, which exists nowhere else and cannot be had again."""
    secret = TOKEN_START + secrets.token_urlsafe(32)
    token = ApiToken.objects.create(
        user=user,
        name=name,
        prefix=secret[:PREFIX_LENGTH],
        digest=token_digest(secret),
        created_at=now,
        expires_at=expires_at,
    )
    return token, secret


def token_revoke(*, token: ApiToken, now: datetime) -> None:
    """Refuse the token from now on; revoking it again keeps the first time."""
    ApiToken.objects.filter(pk=token.pk, revoked_at__isnull=True).update(revoked_at=now)


def token_use(*, secret: str, now: datetime) -> User | None:
    """The active owner of a usable token, or None. Notes the use, at most once a minute."""
    token = ApiToken.objects.usable(now).select_related("user").filter(digest=token_digest(secret)).first()
    if token is None:
        return None
    stale = Q(last_used_at__isnull=True) | Q(last_used_at__lte=now - LAST_USED_STEP)
    if token.last_used_at is None or token.last_used_at <= now - LAST_USED_STEP:
        ApiToken.objects.filter(stale, pk=token.pk).update(last_used_at=now)
    return token.user


def administrator_exists() -> bool:
    """Whether some active superuser can sign in."""
    return User.objects.filter(is_superuser=True, is_active=True).exists()


@transaction.atomic
def administrator_create_first(*, username: str, password: str) -> User | None:
    """The first administrator, or None when there is one already, also when two calls race."""
    # SQLite transactions take the write lock when they begin; PostgreSQL queues callers on this row.
    group, _ = Group.objects.get_or_create(name=ADMINISTRATOR)
    Group.objects.select_for_update().get(pk=group.pk)
    if administrator_exists():
        return None
    user = User.objects.create_superuser(username, password=password)
    user.groups.add(group)
    return user
