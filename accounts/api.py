"""How callers of the JSON API say who they are: `auth=[BearerToken(), SessionUser()]`."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.http import HttpRequest
from django.utils import timezone
from ninja.security import HttpBearer, SessionAuth

from accounts.services import token_use


class BearerToken(HttpBearer):
    """`Authorization: Bearer kw_…`. The request then acts as the token's owner."""

    def authenticate(self, request: HttpRequest, token: str) -> User | None:
        user = token_use(secret=token, now=timezone.now())
        if user is not None:
            request.user = user
        return user


class SessionUser(SessionAuth):
    """The signed-in user of a page. Requests that change something need the CSRF token, as forms do."""

    def __call__(self, request: HttpRequest) -> Any | None:
        # Without a session the answer is 401, not a complaint about a missing CSRF token.
        if not request.user.is_authenticated:
            return None
        return super().__call__(request)
