"""Text of anybody's making, fit to be shown. Pure."""

from __future__ import annotations


def printable(text: str | bytes) -> str:
    """`text` with control and undecodable characters escaped, so that a file name cannot forge a log line or a
    terminal sequence.

    A byte that is not UTF-8 shows as `\\xff`, whether it comes in bytes or as the surrogate that Python makes of it.
    """
    decoded = text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else text
    return decoded if decoded.isprintable() else "".join(map(_shown, decoded))


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
