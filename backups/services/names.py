from __future__ import annotations

from backups.services.errors import refuse

MAX_NAME = 80


def clean_name(name: str) -> str:
    """A name fit for people, commands and log lines: trimmed, one line, printable, at most 80 characters.

    Raises ValidationError keyed `name`.
    """
    text = " ".join(name.split())
    if not text:
        raise refuse("name", "Give it a name.")
    if len(text) > MAX_NAME:
        raise refuse("name", f"The name has {len(text)} characters; {MAX_NAME} are the most.")
    if not text.isprintable():
        raise refuse("name", "The name holds characters that cannot be shown. Use letters, digits and punctuation.")
    return text
