from __future__ import annotations

from typing import Any

from django import forms

from backups.forms.lines import LinesField
from backups.forms.target import EXCLUDE_HELP, NAME_HELP, PATHS_HELP
from backups.models import Storage
from backups.services.names import MAX_NAME
from scheduling.cron import MAX_LENGTH

CUSTOM = "custom"
PRESETS = (
    ("30 2 * * *", "Every night at 02:30"),
    ("0 * * * *", "Every hour"),
    ("30 2 * * 0", "Every Sunday at 02:30"),
    (CUSTOM, "Another schedule"),
)


class ProtectForm(forms.Form):
    """What to protect, where to and when: a target and the job that backs it up, asked for in one go."""

    paths = LinesField(
        label="What to protect",
        help_text=PATHS_HELP,
        error_messages={"required": "Give at least one absolute path, such as /etc."},
    )
    exclude = LinesField(label="Leave out", rows=2, required=False, help_text=EXCLUDE_HELP)
    name = forms.CharField(max_length=MAX_NAME, help_text=NAME_HELP)
    storage = forms.ModelChoiceField(
        queryset=Storage.objects.all(),
        empty_label=None,
        help_text="Where the copies go.",
        error_messages={"required": "Choose where the copies go."},
    )
    preset = forms.ChoiceField(label="When", choices=PRESETS, initial=PRESETS[0][0], widget=forms.RadioSelect)
    schedule = forms.CharField(
        label="Cron schedule",
        required=False,
        max_length=MAX_LENGTH,
        widget=forms.TextInput(attrs={"class": "mono", "spellcheck": "false", "autocomplete": "off"}),
        help_text="Minute, hour, day of month, month, day of week; or <code>@daily</code> and the like.",
    )
    anyway = forms.BooleanField(
        label="Save it all the same (the path is on another host, or not mounted now)", required=False
    )
    run_now = forms.BooleanField(label="Make the first backup now", required=False, initial=True)

    def __init__(self, *args: Any, zone: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["preset"].help_text = f"In {zone}, the time zone in Options."

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if cleaned.get("preset") == CUSTOM and not cleaned.get("schedule") and "schedule" not in self.errors:
            self.add_error("schedule", "Write five cron fields, for example “30 2 * * *” for every night at 02:30.")
        elif cleaned.get("preset") != CUSTOM:
            self.errors.pop("schedule", None)
        return cleaned

    def cron(self) -> str:
        """The schedule that was chosen or written; needs a form that was validated."""
        preset = self.cleaned_data["preset"]
        return str(self.cleaned_data["schedule"] if preset == CUSTOM else preset)
