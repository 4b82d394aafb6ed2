from __future__ import annotations

from datetime import date, datetime, time
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone

from backups.models import BackupJob, Storage, Target
from backups.services.protections import NOTE_LENGTH

LAST_YEAR = 9998


class LastDayField(forms.DateField):
    """A day; cleans to its last moment in the current time zone, so that what ends with it lasts all of it."""

    def __init__(self, **options: Any) -> None:
        widget = forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")
        messages = {"invalid": "Write the day as 2027-01-31."}
        super().__init__(widget=widget, input_formats=["%Y-%m-%d"], error_messages=messages, **options)

    def clean(self, value: Any) -> datetime | None:
        day: date | None = super().clean(value)
        if day is None:
            return None
        # The years at the ends have no neighbours in every zone.
        if not 1970 <= day.year <= LAST_YEAR:
            raise ValidationError(f"Choose a day before the end of {LAST_YEAR}.", code="year")
        return datetime.combine(day, time.max, tzinfo=timezone.get_current_timezone())


class PinForm(forms.Form):
    """Why a copy is pinned, and until when."""

    note = forms.CharField(
        label="Why",
        max_length=NOTE_LENGTH,
        required=False,
        help_text="For whoever wonders later, such as “tax records” or “before the move”.",
    )
    until = LastDayField(
        label="Until the end of", required=False, help_text="Leave it blank to pin the copy until someone unpins it."
    )


class HoldForm(forms.Form):
    """What a hold covers (all that is chosen together; nothing chosen covers everything), why, and until when."""

    target = forms.ModelChoiceField(Target.objects.none(), required=False, empty_label="Any target")
    job = forms.ModelChoiceField(
        BackupJob.objects.none(), label="Backup job", required=False, empty_label="Any backup job"
    )
    storage = forms.ModelChoiceField(Storage.objects.none(), required=False, empty_label="Any storage")
    note = forms.CharField(
        label="Why",
        max_length=NOTE_LENGTH,
        error_messages={"required": "Say why, so that whoever releases it knows whether it may go."},
        help_text="Such as “court case 12 O 7/26” or “until the new disk is in”.",
    )
    until = LastDayField(
        label="Until the end of", required=False, help_text="Leave it blank to hold until someone releases it."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, model in (("target", Target), ("job", BackupJob), ("storage", Storage)):
            self.fields[name].queryset = model._default_manager.order_by("name")  # type: ignore[attr-defined]
