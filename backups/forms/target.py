from __future__ import annotations

from typing import Any

from django import forms

from backups.forms.lines import LinesField
from backups.models import Target
from backups.services.names import MAX_NAME
from backups.services.storages import printable_path

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
        if target is not None:
            kwargs["initial"] = {
                "name": target.name,
                "paths": [printable_path(path) for path in target.paths],
                "exclude": [printable_path(pattern) for pattern in target.exclude],
            }
        super().__init__(*args, **kwargs)

    def config(self) -> dict[str, Any]:
        """The source kind's configuration; needs a form that was validated."""
        return {"paths": self.cleaned_data["paths"], "exclude": self.cleaned_data["exclude"]}
