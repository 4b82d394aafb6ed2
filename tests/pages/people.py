"""People who use the pages."""

from __future__ import annotations

from django.contrib.auth.models import Group, User
from django.test import Client


def sign_in(role: str = "administrator") -> Client:
    """A browser in which somebody with this role is signed in."""
    user, created = User.objects.get_or_create(username=f"the {role}")
    if created:
        user.groups.add(Group.objects.get(name=role))
    client = Client()
    client.force_login(user)
    return client


HTMX = {"HX-Request": "true"}
