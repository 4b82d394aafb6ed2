from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils import timezone

from accounts.services import token_create


class JsonClient:
    """Calls the API with a token, as a program does."""

    def __init__(self, user: User) -> None:
        self.user = user
        _, secret = token_create(user=user, name="tests", now=timezone.now())
        self._client = Client(enforce_csrf_checks=True, headers={"Authorization": f"Bearer {secret}"})

    def __call__(self, method: str, address: str, body: Any = None, /) -> Any:
        address = f"/api/v1{address}"
        if body is None:
            return self._client.generic(method, address)
        return self._client.generic(method, address, body, content_type="application/json")

    def get(self, address: str, query: dict[str, Any] | None = None) -> Any:
        return self._client.get(f"/api/v1{address}", query)

    def send(self, method: str, address: str, /, **body: Any) -> Any:
        return self(method, address, json.dumps(body))


@pytest.fixture
def root(db: None) -> JsonClient:
    return JsonClient(User.objects.create_superuser("root"))


@pytest.fixture
def viewer(db: None) -> JsonClient:
    user = User.objects.create_user("vera")
    user.groups.add(Group.objects.get(name="viewer"))
    return JsonClient(user)
