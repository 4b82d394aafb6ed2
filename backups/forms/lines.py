from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError

MAX_LINES = 200
MAX_CHARACTERS = 20_000


class LinesField(forms.CharField):
    """A text area with one value a line; cleans to a list of them, without blank lines and the spaces around."""

    def __init__(self, *, rows: int = 4, **options: Any) -> None:
        attrs = {"class": "mono", "rows": rows, "spellcheck": "false", "autocapitalize": "off", "autocomplete": "off"}
        super().__init__(max_length=MAX_CHARACTERS, widget=forms.Textarea(attrs=attrs), **options)

    def clean(self, value: Any) -> list[str]:
        lines = [line.strip() for line in str(super().clean(value)).splitlines() if line.strip()]
        if len(lines) > MAX_LINES:
            raise ValidationError(f"There are {len(lines)} lines; {MAX_LINES} are the most.", code="max_lines")
        return lines

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list | tuple) else value
