"""The one-time link by which the first administrator is made.

Its token is kept in the data folder: who can read that folder owns this Keepwell anyway.
"""

from __future__ import annotations

import hmac
import secrets
from pathlib import Path

from django.conf import settings
from django.urls import reverse

from accounts.services import administrator_exists
from config.secret_key import write_once


def _token_file() -> Path:
    return Path(settings.KEEPWELL_DATA) / "setup-token"


def ensure_setup_link() -> str | None:
    """The address of the set-up page, the same one until it is used; None once an active administrator exists."""
    if administrator_exists():
        discard_setup_token()
        return None
    token = write_once(_token_file(), secrets.token_urlsafe(32))
    return f"{settings.KEEPWELL_URL}{reverse('accounts:setup', args=[token])}"


def setup_token_is_valid(token: str) -> bool:
    """Whether this is the token handed out and there is no administrator yet; equally slow for every wrong token."""
    try:
        expected = _token_file().read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return False
    return hmac.compare_digest(token.encode(), expected.encode()) and not administrator_exists()


def discard_setup_token() -> None:
    _token_file().unlink(missing_ok=True)
