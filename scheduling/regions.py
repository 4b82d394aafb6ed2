from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers


def wants_region(request: HttpRequest) -> bool:
    """Whether htmx asks, and so only for the region that it swaps."""
    return request.headers.get("HX-Request") == "true"


def render_region(request: HttpRequest, template: str, region: str, context: Mapping[str, Any]) -> HttpResponse:
    """The page, or its partial called `region` when htmx asks for it."""
    response = render(request, f"{template}#{region}" if wants_region(request) else template, dict(context))
    patch_vary_headers(response, ["HX-Request"])
    return response
