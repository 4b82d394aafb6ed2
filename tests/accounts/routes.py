"""Every view that the URL configuration leads to, for tests that must hold for each of them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver


@dataclass(frozen=True, kw_only=True)
class Route:
    """One view: `name` with its namespaces, `path` as a template (`/targets/<int:pk>/`), and what is called."""

    name: str
    path: str
    callback: Callable[..., Any]

    @property
    def parameters(self) -> list[str]:
        return [part.rpartition(":")[2] for part in re.findall(r"<([^>]+)>", self.path)]

    def url(self, values: Mapping[str, object]) -> str:
        return re.sub(r"<(?:\w+:)?(\w+)>", lambda found: str(values[found[1]]), self.path)

    @property
    def is_public(self) -> bool:
        return bool(getattr(self.callback, "public", False))

    @property
    def required_permissions(self) -> tuple[str, ...] | None:
        """None when the view does not say."""
        return getattr(self.callback, "required_permissions", None)

    @property
    def is_api(self) -> bool:
        return self.name.startswith("api")

    @cached_property
    def operations(self) -> dict[str, Callable[..., Any]]:
        """The functions behind an API path, by method."""
        path_view = inspect.getclosurevars(self.callback).nonlocals["self"]
        return {method: operation.view_func for operation in path_view.operations for method in operation.methods}


def routes() -> list[Route]:
    """All views but those of the admin site and the API's own documentation."""
    left_out = ("admin:", "openapi-json", "openapi-view", "api-root")
    found = _walk(get_resolver().url_patterns, "/", "")
    return [route for route in found if not route.name.startswith("admin:") and not route.name.endswith(left_out[1:])]


def _walk(patterns: list[URLPattern | URLResolver], path: str, name: str) -> Iterator[Route]:
    for pattern in patterns:
        here = path + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            namespace = f"{name}{pattern.namespace}:" if pattern.namespace else name
            yield from _walk(pattern.url_patterns, here, namespace)
        else:
            yield Route(name=f"{name}{pattern.name or here}", path=here, callback=pattern.callback)
