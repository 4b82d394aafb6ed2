"""What somebody typed into a form that came too late: the session had ended, or another sign-in made the form stale.

It is kept on the server, in the browser's own session, for the same person only and not for long; it is shown in the
form again, and sent again by that person or by nobody. Only posts of Keepwell's own pages are kept: they have passed
the check against forged ones, or come with the origin that only its own pages have.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpRequest, QueryDict
from django.http.response import HttpResponseBase
from django.urls import reverse

from accounts.form_filling import SECRET_NAME

KEPT_SECONDS = 3600
MOST_BYTES = 64 * 1024
MOST_FIELDS = 500
# In the address of a page whose form is to be filled; a page knows nothing of it.
PARAMETER = "typed"
SESSION_KEY = "kept_form"

# Who was signed in with this browser last. It outlives the session, signs nobody in, and is only ever compared.
PERSON_COOKIE = "keepwell_person"
PERSON_SALT = "accounts.kept_forms.person"
PERSON_SECONDS = 90 * 24 * 3600


@dataclass(frozen=True, kw_only=True)
class KeptForm:
    """`page` is where the form is, `action` where it was sent; both are paths of this site."""

    id: str
    person: str
    page: str
    action: str
    values: dict[str, list[str]]
    at: float

    def is_fresh(self) -> bool:
        return 0 <= time.time() - self.at < KEPT_SECONDS


def person_remember(response: HttpResponseBase, user: User) -> None:
    response.set_signed_cookie(
        PERSON_COOKIE,
        str(user.pk),
        salt=PERSON_SALT,
        max_age=PERSON_SECONDS,
        httponly=True,
        samesite="Lax",
        secure=settings.SESSION_COOKIE_SECURE,
    )


def last_person(request: HttpRequest) -> str:
    """Who was signed in with this browser last; "" when that is not known."""
    return str(request.get_signed_cookie(PERSON_COOKIE, default="", salt=PERSON_SALT, max_age=PERSON_SECONDS) or "")


def form_keep(request: HttpRequest, *, person: str) -> str:
    """Keep what was posted for `person`; returns the address of its page that shows it again, "" when it is not kept.

    Not kept are files, secrets, what is longer than `MOST_BYTES`, and what nobody known has sent.
    """
    if request.method != "POST" or not person or _is_about_signing_in(request.path):
        return ""
    values = _typed(request.POST)
    if not values:
        return ""
    page = _page(request)
    kept = KeptForm(
        id=secrets.token_hex(8), person=person, page=page, action=request.path, values=values, at=time.time()
    )
    request.session[SESSION_KEY] = vars(kept)
    if not request.user.is_authenticated:
        # A session of nobody has nothing else to live for.
        request.session.set_expiry(KEPT_SECONDS)
    return f"{page}{'&' if '?' in page else '?'}{urlencode({PARAMETER: kept.id})}"


def kept_form(request: HttpRequest) -> KeptForm | None:
    """What this browser's session keeps, if it is not too old, whoever it belongs to."""
    found: Any = request.session.get(SESSION_KEY)
    try:
        kept = KeptForm(**found)
    except TypeError:
        return None
    return kept if kept.is_fresh() else None


def kept_form_of_page(request: HttpRequest) -> KeptForm | None:
    """What is to be filled into the page that the request asks for: its address names it, and it is this person's."""
    asked = request.GET.get(PARAMETER, "")
    if not asked or SESSION_KEY not in request.session:
        return None
    kept = kept_form(request)
    if kept is None or not secrets.compare_digest(kept.id.encode(), asked.encode("utf-8", "replace")):
        return None
    if kept.person != str(request.user.pk) or urlsplit(kept.page).path != request.path:
        return None
    return kept


def form_forget(request: HttpRequest) -> None:
    request.session.pop(SESSION_KEY, None)


def _typed(post: QueryDict) -> dict[str, list[str]]:
    values = {
        name: [str(value) for value in sent]
        for name, sent in post.lists()
        if name != "csrfmiddlewaretoken" and not SECRET_NAME.search(name)
    }
    size = sum(len(name.encode("utf-8", "replace")) for name in values)
    size += sum(len(value.encode("utf-8", "replace")) for sent in values.values() for value in sent)
    fields = sum(len(sent) for sent in values.values())
    return values if size <= MOST_BYTES and fields <= MOST_FIELDS else {}


def _page(request: HttpRequest) -> str:
    """The page that the form was on: what the browser says, if it is one of ours, else the address posted to."""
    try:
        said = urlsplit(request.headers.get("Referer", ""))
    except ValueError:
        return request.path
    if said.netloc != request.get_host() or _is_about_signing_in(said.path) or said.path[:2] in ("", "//"):
        return request.path
    query = QueryDict(said.query, mutable=True)
    query.pop(PARAMETER, None)
    return f"{said.path}?{query.urlencode()}" if query else said.path


def _is_about_signing_in(path: str) -> bool:
    return path in (reverse("accounts:login"), reverse("accounts:logout"), reverse("accounts:password_change"))
