"""What the views share in reading a request and answering it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.utils.cache import patch_vary_headers


def posted(request: HttpRequest) -> QueryDict | None:
    """What a form is bound to: an empty POST as well, which is an incomplete form and not a new one."""
    return request.POST if request.method == "POST" else None


def wants_region(request: HttpRequest) -> bool:
    """Whether htmx asks, and so only for the region that it swaps."""
    return request.headers.get("HX-Request") == "true"


def render_region(request: HttpRequest, template: str, region: str, context: Mapping[str, Any]) -> HttpResponse:
    """The page, or its partial called `region` when htmx asks for it."""
    response = render(request, f"{template}#{region}" if wants_region(request) else template, dict(context))
    patch_vary_headers(response, ["HX-Request"])
    return response
