"""Secrets out of text that is kept and shown: those that a run names, and what looks like one. Pure."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, quote_plus

from scheduling.printable import printable

MASK = "***"
# What is shorter would be found inside ordinary words.
MIN_SECRET_LENGTH = 4
# No figures go deeper; what contains itself would have no end.
MAX_DEPTH = 50

_NAMES = (
    r"pass(?:word|wd|phrase)|mysql_pwd|secret|token|credentials?|signature"
    r"|(?:api|access|account|private|secret|encryption)[-_]?key(?:[-_]id)?"
)
# A name starts a word: "/etc/password=old" and "/srv/tokens" are paths.
_WORD = r"(?<![^\s\"'`&?;,(){}\[\]<>|])"
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        # postgres://anna:hunter2@db/shop
        (r"(\b[a-z][a-z0-9+.-]{0,30}://[^\s/:@\"']*:)[^\s/\"']+@", rf"\g<1>{MASK}@"),
        # PGPASSWORD=…, --password=…, ?access_token=…, password = "…"
        (rf"({_WORD}[\w.-]*(?:{_NAMES})\s?=\s?)(?:\"[^\"]*\"|'[^']*'|[^\s&]+)", rf"\g<1>{MASK}"),
        # --password …
        (rf"({_WORD}--?[\w-]{{0,40}}(?:{_NAMES})\s+)[^\s-][^\s]*", rf"\g<1>{MASK}"),
        # In JSON, and in what Python makes of a mapping.
        (rf"((?P<q>[\"'])[\w.-]*(?:{_NAMES})(?P=q)\s*:\s*)(?:\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')", rf"\g<1>{MASK}"),
        # password: … as a line of YAML; "password: Cannot open" is a file.
        (rf"^(\s*(?:- )?[\w.-]*(?:{_NAMES}):\s+)\S+$", rf"\g<1>{MASK}"),
        (
            # Headers: all of the line that follows, but for the scheme.
            rf"({_WORD}(?:(?:proxy-)?authorization|(?:set-)?cookie|x-[\w-]{{0,40}}(?:key|token|secret|auth))"
            r"[\"']?\s*[:=]\s*[\"']?(?:(?:basic|bearer|digest|token|negotiate|apikey|aws4-hmac-sha256)\s+)?)[^\s\"'][^\"'\r\n]*",
            rf"\g<1>{MASK}",
        ),
        (r"(\b(?:bearer|basic)\s+)(?=[\w+/.~-]*[\d+/=_.])[\w+/.~-]{16,}=*", rf"\g<1>{MASK}"),
        # Tokens that say what they are: Keepwell's own, GitHub's, GitLab's, Slack's, age's, a JSON Web Token.
        (r"\bkw_[\w-]{43}", f"kw_{MASK}"),
        (r"\b(gh[pousr]_|github_pat_|glpat-|xox[abeprs]-|AGE-SECRET-KEY-1)[\w-]{16,}", rf"\g<1>{MASK}"),
        (r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}", MASK),
    )
)
# One of them is in whatever a pattern would find: a cheap look, since most lines hold none.
_HINTS = (
    "://", "pass", "pwd", "secret", "token", "key", "credential", "signature", "authorization", "cookie", "x-",
    "bearer", "basic", "kw_", "gh", "glpat-", "xox", "eyj",
)  # fmt: skip
_KEY_BLOCK = re.compile(r"(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_SECRET_NAME = re.compile(rf"[\w.-]*(?:{_NAMES}|authorization)", re.IGNORECASE)


def mask_patterns(text: str) -> str:
    """`text` with what looks like a password, a key or a token replaced by `***`; paths stay as they are."""
    lowered = text.lower()
    if not any(hint in lowered for hint in _HINTS):
        return text
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def mask_key_blocks(text: str) -> str:
    """`text` with private keys in PEM form, which take many lines, replaced by their first and last lines."""
    return _KEY_BLOCK.sub(rf"\1{MASK}\2", text) if "PRIVATE KEY-----" in text else text


class Mask:
    """What one run hides: its secrets, however they are written, and everything that looks like one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forms: set[str] = set()
        self._secrets: re.Pattern[str] | None = None

    def hide(self, secret: str) -> None:
        """Replace this text from now on, and each of its lines, also as a URL, JSON or a log would write it.

        Not what has fewer than four characters.
        """
        lines = [line.strip() for line in (secret, *secret.splitlines())]
        forms = {form for line in lines if len(line) >= MIN_SECRET_LENGTH for form in _forms(line)}
        with self._lock:
            self._forms |= forms
            if self._forms:
                # The longest first: one secret may begin like another.
                longest_first = sorted(self._forms, key=len, reverse=True)
                self._secrets = re.compile("|".join(map(re.escape, longest_first)))

    def text(self, text: str) -> str:
        secrets = self._secrets
        return mask_patterns(text if secrets is None else secrets.sub(MASK, text))

    def value(self, value: Any, depth: int = 0) -> Any:
        """A value as JSON knows them, with every text in it masked, and what is named like a secret."""
        if depth > MAX_DEPTH:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {
                self.value(key, depth + 1): MASK
                if isinstance(key, str) and isinstance(item, str) and item and _SECRET_NAME.fullmatch(key)
                else self.value(item, depth + 1)
                for key, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.value(item, depth + 1) for item in value]
        return value


def _forms(secret: str) -> tuple[str, ...]:
    """How a secret may come to be written in a log."""
    return (
        secret,
        quote(secret, safe=""),
        quote(secret),
        quote_plus(secret),
        json.dumps(secret)[1:-1],
        printable(secret),
    )
