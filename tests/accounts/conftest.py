from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.contrib.auth.models import Group, User
from django.core.cache import cache


@pytest.fixture(autouse=True)
def _no_counted_failures() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def ann(db: None) -> User:
    """An active user without any role."""
    return User.objects.create_user("ann", password="a long enough one")


@pytest.fixture
def members(db: None) -> dict[str, User]:
    """One user in each role, by the role's name."""
    users = {}
    for name in ("viewer", "operator", "administrator"):
        users[name] = User.objects.create_user(f"the {name}", password=None)
        users[name].groups.add(Group.objects.get(name=name))
    return users
