"""Settings read from the environment, strictly: an unreadable value stops the start and says what is accepted.

An empty value counts as "not set", so that `KEEPWELL_URL=` in an environment file means the default.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from django.core.exceptions import ImproperlyConfigured

TRUE = ("1", "true", "yes", "on")
FALSE = ("0", "false", "no", "off")


def env_str(name: str, default: str = "", *, environ: Mapping[str, str] | None = None) -> str:
    """The variable without surrounding blanks, or the default when it is unset or empty."""
    source = os.environ if environ is None else environ
    return source.get(name, "").strip() or default


def env_bool(name: str, default: bool = False, *, environ: Mapping[str, str] | None = None) -> bool:
    """True or false, in either case; any other word raises ImproperlyConfigured instead of meaning "false"."""
    value = env_str(name, environ=environ)
    if not value:
        return default
    if value.lower() in TRUE:
        return True
    if value.lower() in FALSE:
        return False
    raise ImproperlyConfigured(f"{name} is {value!r}. Use one of: {', '.join(TRUE)} or {', '.join(FALSE)}.")


def env_int(
    name: str,
    default: int,
    *,
    minimum: int | None = None,
    maximum: int | None = None,
    environ: Mapping[str, str] | None = None,
) -> int:
    """A whole number within the bounds (both included); anything else raises ImproperlyConfigured."""
    value = env_str(name, environ=environ)
    if not value:
        return default
    try:
        number = int(value)
    except ValueError:
        raise ImproperlyConfigured(f"{name} is {value!r}. Use a whole number, for example {default}.") from None
    if minimum is not None and number < minimum:
        raise ImproperlyConfigured(f"{name} is {number}. Use {minimum} or more.")
    if maximum is not None and number > maximum:
        raise ImproperlyConfigured(f"{name} is {number}. Use {maximum} or less.")
    return number


def env_list(name: str, default: tuple[str, ...] = (), *, environ: Mapping[str, str] | None = None) -> list[str]:
    """Values separated by commas, without blanks and empty parts."""
    value = env_str(name, environ=environ)
    return [part.strip() for part in value.split(",") if part.strip()] if value else list(default)


def env_choice(name: str, default: str, choices: tuple[str, ...], *, environ: Mapping[str, str] | None = None) -> str:
    """One of the choices, in either case, as it is written in `choices`."""
    value = env_str(name, default, environ=environ)
    for choice in choices:
        if choice.lower() == value.lower():
            return choice
    raise ImproperlyConfigured(f"{name} is {value!r}. Use one of: {', '.join(choices)}.")


def env_path(name: str, default: Path, *, environ: Mapping[str, str] | None = None) -> Path:
    """An absolute path: `~` is expanded, and a relative one counts from the current folder."""
    value = env_str(name, environ=environ)
    return Path(value).expanduser().absolute() if value else default


def env_secret(name: str, *, environ: Mapping[str, str] | None = None) -> str:
    """The secret in NAME, or in the file that NAME_FILE points at; empty when neither is set.

    Setting both raises ImproperlyConfigured, as does an unreadable or empty file. No message repeats the value.
    """
    value = env_str(name, environ=environ)
    file_name = env_str(f"{name}_FILE", environ=environ)
    if not file_name:
        return value
    if value:
        raise ImproperlyConfigured(f"{name} and {name}_FILE are both set. Keep one of them.")
    try:
        value = Path(file_name).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ImproperlyConfigured(
            f"{name}_FILE points at {file_name}, which cannot be read: {reason}. Check the path and its permissions."
        ) from None
    if not value:
        raise ImproperlyConfigured(f"{name}_FILE points at {file_name}, which is empty. Write the secret into it.")
    return value


def env_url(name: str, *, environ: Mapping[str, str] | None = None) -> SplitResult | None:
    """An http or https address with a host, or None when it is not set."""
    value = env_str(name, environ=environ)
    if not value:
        return None
    message = f"{name} is {value!r}. Use a full address, for example https://backup.example.org."
    try:
        url = urlsplit(value)
        valid = url.scheme in ("http", "https") and bool(url.hostname) and (url.port is None or url.port > 0)
    except ValueError:
        raise ImproperlyConfigured(message) from None
    if not valid:
        raise ImproperlyConfigured(message)
    return url
