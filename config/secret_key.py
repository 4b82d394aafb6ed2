"""The data folder and the key that signs sessions, made on the first start."""

from __future__ import annotations

import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured


def data_folder(path: Path) -> Path:
    """Make the folder (mode 0700) when it is not there; an existing one keeps its mode.

    Raises ImproperlyConfigured when it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ImproperlyConfigured(
            f"The data folder {path} cannot be used: {error.strerror}. "
            "Set KEEPWELL_DATA to a folder that this user may write to."
        ) from None
    return path


def write_once(path: Path, text: str) -> str:
    """Publish the text at `path` (mode 0600) unless something is there already, and return what is there.

    The name appears with its whole content or not at all, so of several processes that start together one wins and
    all of them return its text.
    """
    # NamedTemporaryFile makes its file with mode 0600; a link never replaces an existing name.
    with tempfile.NamedTemporaryFile("w", encoding="ascii", dir=path.parent, prefix=f".{path.name}-") as draft:
        draft.write(f"{text}\n")
        draft.flush()
        with suppress(FileExistsError):
            path.hardlink_to(draft.name)
    return path.read_text(encoding="ascii").strip()


def secret_key(path: Path) -> str:
    """The key kept in the file, which is made on the first call. Raises ImproperlyConfigured when it cannot be read."""
    try:
        key = path.read_text(encoding="ascii").strip() if path.exists() else write_once(path, secrets.token_urlsafe(64))
    except OSError as error:
        raise ImproperlyConfigured(
            f"The secret key {path} cannot be used: {error.strerror}. "
            "Keepwell must run as the user that owns the data folder."
        ) from None
    if len(key) < 32:
        raise ImproperlyConfigured(
            f"The secret key {path} is too short to be one. "
            "Remove the file to have a new key made; that signs everyone out."
        )
    return key
