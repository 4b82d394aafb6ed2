"""Puts what was typed back into the form of a page. Pure: HTML in, HTML out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from html.parser import HTMLParser
from typing import override
from urllib.parse import urljoin, urlsplit

# Never kept and never filled: secrets, and what the server itself says in a form.
SECRET_NAME = re.compile(r"pass|secret|token|credential|private", re.IGNORECASE)
UNFILLED_TYPES = frozenset({"hidden", "password", "file", "submit", "button", "reset", "image"})

Values = Mapping[str, Sequence[str]]


def fill_form(html: str, *, page: str, action: str, values: Values) -> str:
    """The page with the first form that posts to the path `action` filled in; unchanged when there is none.

    `page` is the page's own path, to which a form without an action posts. Every control of the form gets what was
    sent for it: a tick that was not sent is taken away. Hidden fields, secrets and files stay as the page has them.
    """
    filler = _Filler(html, page=page, action=urlsplit(action).path, values=values)
    filler.feed(html)
    filler.close()
    return filler.filled()


class _Filler(HTMLParser):
    """Copies the page piece by piece and rewrites the start tags of controls."""

    def __init__(self, html: str, *, page: str, action: str, values: Values) -> None:
        super().__init__(convert_charrefs=False)
        self._html = html
        self._lines = [0, *(match.end() for match in re.finditer("\n", html))]
        self._page = page
        self._action = action
        self._values = values
        self._used: dict[str, int] = {}
        self._inside = False
        self._done = False
        self._select: str | None = None
        self._edits: list[tuple[int, int, str]] = []
        self._text_from: tuple[int, str] | None = None

    def filled(self) -> str:
        parts, at = [], 0
        for start, end, text in self._edits:
            parts += [self._html[at:start], text]
            at = end
        return "".join([*parts, self._html[at:]])

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "form":
            self._inside = not self._done and self._is_ours(found)
        elif self._inside and tag == "option" and self._select is not None:
            self._option(found)
        elif self._inside and (name := self._name(found)):
            if tag == "input" and (found.get("type") or "text").lower() not in UNFILLED_TYPES:
                self._input(name, found)
            elif tag == "textarea" and name in self._values:
                self._text_from = (self._end_of_tag(), name)
            elif tag == "select" and (name in self._values or "multiple" in found):
                self._select = name

    @override
    def handle_endtag(self, tag: str) -> None:
        if tag == "form" and self._inside:
            self._inside, self._done = False, True
        elif tag == "select":
            self._select = None
        elif tag == "textarea" and self._text_from is not None:
            start, name = self._text_from
            # A line break right after the tag belongs to the markup.
            self._edits.append((start, self._position(), f"\n{escape(self._next(name))}"))
            self._text_from = None

    def _is_ours(self, found: Mapping[str, str | None]) -> bool:
        address = urlsplit(urljoin(self._page, found.get("action") or self._page))
        return (found.get("method") or "").lower() == "post" and address.path == self._action

    @staticmethod
    def _name(found: Mapping[str, str | None]) -> str:
        """The name of a control that a browser sends and that may be filled; "" for any other."""
        name = found.get("name") or ""
        return "" if "disabled" in found or SECRET_NAME.search(name) else name

    def _input(self, name: str, found: dict[str, str | None]) -> None:
        if (found.get("type") or "").lower() in ("checkbox", "radio"):
            on = (found.get("value") or "on") in self._values.get(name, ())
            self._rewrite("input", found, "checked", on)
        elif name in self._values:
            found["value"] = self._next(name)
            self._rewrite("input", found)

    def _option(self, found: dict[str, str | None]) -> None:
        assert self._select is not None  # noqa: S101 - asked by the caller
        if found.get("value") is not None:
            self._rewrite("option", found, "selected", found["value"] in self._values.get(self._select, ()))

    def _next(self, name: str) -> str:
        """The value for the next control of this name: several fields may share one."""
        sent = self._values.get(name, ())
        place = self._used.get(name, 0)
        self._used[name] = place + 1
        return sent[place] if place < len(sent) else ""

    def _rewrite(self, tag: str, found: dict[str, str | None], flag: str = "", on: bool = False) -> None:
        if flag:
            found.pop(flag, None)
            if on:
                found[flag] = None
        words = [tag, *(name if value is None else f'{name}="{escape(value)}"' for name, value in found.items())]
        self._edits.append((self._position(), self._end_of_tag(), f"<{' '.join(words)}>"))

    def _position(self) -> int:
        line, column = self.getpos()
        return self._lines[line - 1] + column

    def _end_of_tag(self) -> int:
        return self._position() + len(self.get_starttag_text() or "")
