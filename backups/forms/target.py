from __future__ import annotations

from typing import Any

from django import forms

from backups.forms.lines import LinesField
from backups.models import Target
from backups.services.names import MAX_NAME
from scheduling.printable import printable

NAME_HELP = "What people, commands and log lines call it, such as “etc” or “photos”."
PATHS_HELP = "Absolute paths of folders or files on this machine, one a line."
EXCLUDE_HELP = (
    "Patterns, one a line, such as <code>*.tmp</code> or <code>node_modules</code>. A pattern that begins with a slash "
    "is matched from the root; any other against every name and what follows a slash."
)


class TargetForm(forms.Form):
    """A target of files and folders: its name, and the paths and patterns that its source kind reads."""

    name = forms.CharField(max_length=MAX_NAME, help_text=NAME_HELP)
    paths = LinesField(
        label="Folders and files",
        help_text=PATHS_HELP,
        error_messages={"required": "Give at least one absolute path, such as /etc."},
    )
    exclude = LinesField(label="Leave out", rows=2, required=False, help_text=EXCLUDE_HELP)

    def __init__(self, *args: Any, target: Target | None = None, **kwargs: Any) -> None:
        stored = {"paths": target.paths, "exclude": target.exclude} if target else {}
        shown = {field: [(printable(text), text) for text in texts] for field, texts in stored.items()}
        if target is not None:
            kwargs["initial"] = {"name": target.name, **{field: [line for line, _ in shown[field]] for field in shown}}
        self._stored = {field: dict(pairs) for field, pairs in shown.items()}
        super().__init__(*args, **kwargs)

    def config(self) -> dict[str, Any]:
        """The source kind's configuration; needs a form that was validated.

        A line that was shown escaped and left as it is means the text that is stored.
        """
        return {
            field: [self._stored.get(field, {}).get(line, line) for line in self.cleaned_data[field]]
            for field in ("paths", "exclude")
        }
