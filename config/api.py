"""The JSON API's root: who may call it, what it reads, and how it says no."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, NoReturn

from django.conf import settings
from django.core.exceptions import ObjectDoesNotExist, RequestDataTooBig, ValidationError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.csp import CSP
from django.views.decorators.csp import csp_override
from django.views.decorators.csrf import csrf_exempt
from ninja import NinjaAPI, Swagger
from ninja.errors import AuthenticationError, HttpError
from ninja.errors import ValidationError as UnfitError
from ninja.parser import Parser

from accounts.api import BearerToken, SessionUser
from accounts.permissions import public
from backups.api import router as backups_router
from config import __version__
from config.hosts_api import hosts_router
from config.pause_api import router as pause_router
from maintenance.api import retention_router
from maintenance.api import router as maintenance_router
from scheduling.api import router as runs_router

MAX_DEPTH = 20


class BodyError(ValueError):
    """A body that cannot be read; the text says why."""


class StrictParser(Parser):
    """JSON as the databases can hold it: no NUL, no half of a surrogate pair, no NaN, no bottomless nesting."""

    def parse_body(self, request: HttpRequest) -> Any:
        try:
            document = json.loads(request.body.decode("utf-8"), parse_constant=_no_constant)
        except UnicodeDecodeError as error:
            raise BodyError("The body is not UTF-8 text.") from error
        except json.JSONDecodeError as error:
            raise BodyError(
                f"The body is not JSON: {error.msg.lower()} (line {error.lineno}, column {error.colno})."
            ) from error
        except RecursionError as error:
            raise BodyError("The body is nested too deeply.") from error
        _check(document, MAX_DEPTH)
        return document


def _no_constant(text: str) -> NoReturn:
    raise BodyError(f"The body holds {text}, which is not a JSON number.")


def _check(value: object, depth: int) -> None:
    if depth < 0:
        raise BodyError("The body is nested too deeply.")
    if isinstance(value, dict):
        for key, item in value.items():
            _check(key, depth)
            _check(item, depth - 1)
    elif isinstance(value, list):
        for item in value:
            _check(item, depth - 1)
    elif isinstance(value, str):
        if "\0" in value:
            raise BodyError("The body holds a NUL character.")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise BodyError("The body holds half of a surrogate pair, which is not a character.")


class Documentation(Swagger):
    """Swagger UI from our own origin. Its style sheet holds its icons as data: images, so this one page allows them."""

    def render_page(self, request: HttpRequest, api: NinjaAPI, **kwargs: Any) -> HttpResponse:
        policy: dict[str, Collection[str]] = {**settings.SECURE_CSP, "img-src": [CSP.SELF, "data:"]}
        return csp_override(policy)(super().render_page)(request, api, **kwargs)


api = NinjaAPI(
    title="Keepwell",
    version=__version__,
    description=(
        "Send `Authorization: Bearer kw_…` with a token from your account page, or use the session of a signed-in "
        "browser; every change then needs the CSRF token in `X-CSRFToken`. "
        'Refusals are `{"detail": …}`, with `errors` by field for 422.'
    ),
    urls_namespace="api",
    docs=Documentation({"docExpansion": "list", "defaultModelsExpandDepth": 0, "displayRequestDuration": True}),
    auth=[BearerToken(), SessionUser()],
    parser=StrictParser(),
)
api.add_router("/maintenance", maintenance_router)
api.add_router("/settings/retention", retention_router)
api.add_router("", backups_router)
api.add_router("", hosts_router)
api.add_router("", runs_router)
api.add_router("", pause_router)


def _answer(request: HttpRequest, status: int, detail: str, errors: dict[str, list[str]] | None = None) -> HttpResponse:
    body: dict[str, Any] = {"detail": detail}
    if errors:
        body["errors"] = errors
    return api.create_response(request, body, status=status)


@api.exception_handler(AuthenticationError)
def not_signed_in(request: HttpRequest, _error: AuthenticationError) -> HttpResponse:
    """401, with the two ways to say who one is."""
    detail = (
        "Sign in, or send a token from your account page as “Authorization: Bearer kw_…”. "
        "A token that was revoked or has expired is refused."
    )
    answer = _answer(request, 401, detail)
    answer["WWW-Authenticate"] = "Bearer"
    return answer


@api.exception_handler(HttpError)
def refused(request: HttpRequest, error: HttpError) -> HttpResponse:
    """What an operation refuses by itself, and bodies that cannot be read."""
    if isinstance(error.__cause__, BodyError):
        return _answer(request, 422, str(error.__cause__))
    if error.status_code == 403 and error.message == "CSRF check Failed":
        return _answer(
            request, 403, "The CSRF token is missing or wrong. Send the page's token in the header X-CSRFToken."
        )
    return _answer(request, error.status_code, error.message)


@api.exception_handler(UnfitError)
def unfit(request: HttpRequest, error: UnfitError) -> HttpResponse:
    """Parameters and bodies that are not of the described form."""
    errors: dict[str, list[str]] = {}
    for problem in error.errors:
        errors.setdefault(_field(problem["loc"]), []).append(_words(problem))
    return _answer(request, 422, _sentence(errors), errors)


@api.exception_handler(ValidationError)
def not_accepted(request: HttpRequest, error: ValidationError) -> HttpResponse:
    """What a service refused: 422 when a field is at fault, 409 when the state of things is."""
    if hasattr(error, "error_dict"):
        errors = {field: [str(message) for message in messages] for field, messages in error.message_dict.items()}
        return _answer(request, 422, _sentence(errors), errors)
    return _answer(request, 409, " ".join(str(message) for message in error.messages))


@api.exception_handler(ObjectDoesNotExist)
def gone(request: HttpRequest, _error: ObjectDoesNotExist) -> HttpResponse:
    """Something was deleted between being looked up and being changed."""
    return _answer(request, 404, "It was deleted just now.")


@api.exception_handler(RequestDataTooBig)
def too_big(request: HttpRequest, _error: RequestDataTooBig) -> HttpResponse:
    return _answer(request, 413, "The body is too big.")


def _field(loc: tuple[str | int, ...]) -> str:
    """The place as the caller wrote it: without the part of the request, and without our name for the body."""
    source, *path = loc
    if source == "body":
        path = path[1:]
    return ".".join(str(part) for part in path) or str(source)


def _words(problem: dict[str, Any]) -> str:
    known = {
        "missing": "This is required.",
        "extra_forbidden": "There is no such field.",
        "model_attributes_type": "A JSON object is expected.",
    }
    text = known.get(problem["type"]) or str(problem["msg"]).removeprefix("Value error, ")
    return text if text.endswith(".") else f"{text[:1].upper()}{text[1:]}."


def _sentence(errors: dict[str, list[str]]) -> str:
    return " ".join(f"{field}: {' '.join(messages)}" for field, messages in errors.items())


@public
@csrf_exempt
def unknown_address(request: HttpRequest, rest: str) -> JsonResponse:  # noqa: ARG001 - the path converter's
    """404 as the API says it, for an address below /api/ that leads nowhere."""
    detail = f"There is nothing at {request.path[:200]}. The addresses are listed at /api/v1/docs."
    return JsonResponse({"detail": detail}, status=404)
