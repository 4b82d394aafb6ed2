"""Which kinds of run a request may touch."""

from __future__ import annotations

from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.http import Http404

from scheduling.registry import RunKind, all_kinds, get_kind


def visible_kinds(user: User | AnonymousUser) -> list[RunKind]:
    """The kinds of run that the user may look at."""
    return [kind for kind in all_kinds() if user.has_perm(kind.view_permission)]


def kind_or_404(name: str) -> RunKind:
    """The kind that an address names."""
    try:
        return get_kind(name)
    except LookupError as error:
        raise Http404(str(error)) from error


def visible_kind(name: str, user: User | AnonymousUser) -> RunKind:
    """The kind that an address names, for a user who may look at its runs; 404 and 403 else."""
    kind = kind_or_404(name)
    if not user.has_perm(kind.view_permission):
        raise PermissionDenied(
            f"This needs the permission {kind.view_permission}. Ask an administrator for a role that has it."
        )
    return kind
