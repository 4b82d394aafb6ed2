"""Who may call what. Every page and every API operation declares it with one of these decorators.

The declaration is also an attribute (`required_permissions` or `public`), which a generated test reads.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from ninja.errors import HttpError


def _missing(request: HttpRequest, permissions: tuple[str, ...]) -> str:
    """A sentence about the permissions that the caller lacks; empty when nothing is missing."""
    missing = [permission for permission in permissions if not request.user.has_perm(permission)]
    if not missing:
        return ""
    return f"This needs the permission {' and '.join(missing)}. Ask an administrator for a role that has it."


def requires(*permissions: str) -> Callable[[Callable[..., HttpResponseBase]], Callable[..., HttpResponseBase]]:
    """Let only people with all the permissions ("app.codename") call the view.

    Someone not signed in is sent to the sign-in page; without a permission PermissionDenied is raised: the 403 page.
    """

    def decorate(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not request.user.is_authenticated:
                return redirect_to_login(request.get_full_path())
            if message := _missing(request, permissions):
                raise PermissionDenied(message)
            return view(request, *args, **kwargs)

        guarded.required_permissions = permissions  # type: ignore[attr-defined]
        return guarded

    return decorate


def signed_in(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Let anybody who is signed in call the view: pages about one's own account."""
    return requires()(view)


def public[V: Callable[..., Any]](view: V) -> V:
    """Let anybody call the view, signed in or not."""
    login_not_required(view)
    view.public = True  # type: ignore[attr-defined]
    return view


def requires_api(*permissions: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let only callers with all the permissions use the API operation; goes below `@router.get(...)`.

    Answers 403 with a message that names what is missing. Who the caller is was settled by the operation's `auth`.
    """

    def decorate(operation: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(operation)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            if message := _missing(request, permissions):
                raise HttpError(403, message)
            return operation(request, *args, **kwargs)

        # Annotations are strings, and ninja would look them up in this module instead of the operation's own.
        guarded.__signature__ = inspect.signature(operation, eval_str=True)  # type: ignore[attr-defined]
        guarded.required_permissions = permissions  # type: ignore[attr-defined]
        return guarded

    return decorate
