from __future__ import annotations

from typing import Any

from django import forms

from backups.forms.retention import RetentionFields
from backups.models import Options
from backups.services.options import MAX_MINIMUM_KEEP, MAX_TRASH_HOURS
from maintenance.models import MaintenanceJob


class MaintenanceJobForm(forms.Form):
    name = forms.CharField(max_length=80)
    schedule_cron = forms.CharField(
        label="Schedule",
        max_length=200,
        required=False,
        help_text="Five cron fields, such as <code>0 3 * * *</code> for every night at 03:00, or <code>@weekly</code>. "
        "Blank: only by hand.",
        widget=forms.TextInput(attrs={"class": "mono", "autocomplete": "off", "spellcheck": "false"}),
    )
    timezone = forms.CharField(
        label="Time zone",
        max_length=64,
        required=False,
        help_text="An IANA name such as <code>Europe/Berlin</code>. Blank: the one in Options.",
        widget=forms.TextInput(attrs={"list": "time-zones", "autocomplete": "off", "spellcheck": "false"}),
    )
    enabled = forms.BooleanField(
        required=False, label="Runs by its schedule", help_text="Off: it still runs when you press Run now."
    )

    @staticmethod
    def initial_from(job: MaintenanceJob) -> dict[str, Any]:
        return {field: getattr(job, field) for field in MaintenanceJobForm.base_fields}


class OptionsForm(RetentionFields):
    """Everything on the Options page: the time zone, the two safety nets, and one field for each retention rule."""

    timezone = forms.CharField(
        label="Time zone",
        max_length=64,
        help_text="An IANA name such as <code>Europe/Berlin</code>: for schedules, for retention's days and weeks, and "
        "for the times on these pages.",
        widget=forms.TextInput(attrs={"list": "time-zones", "autocomplete": "off", "spellcheck": "false"}),
    )
    minimum_keep = forms.IntegerField(
        label="Good copies to keep at least",
        min_value=1,
        max_value=MAX_MINIMUM_KEEP,
        help_text="Of each target of each job, whatever the rules say.",
        error_messages={"required": "Give a number, 1 or more. The last good copy is never deleted."},
    )
    trash_hours = forms.IntegerField(
        label="Hours in the trash",
        min_value=0,
        max_value=MAX_TRASH_HOURS,
        help_text="How long a deleted backup stays on its storage before a cleanup removes it for good: 72 is three "
        "days.",
        error_messages={"required": "Give a number of hours, such as 72."},
    )

    @staticmethod
    def initial_from_options(options: Options) -> dict[str, Any]:
        return {
            "timezone": options.timezone,
            "minimum_keep": options.minimum_keep,
            "trash_hours": options.trash_hours,
            **RetentionFields.initial_from(options.retention),
        }

    def values(self, options: Options) -> dict[str, Any]:
        """What the form says, as `options_update` takes it. A zone of the policy's own, which no field shows, stays."""
        own_zone = {"timezone": zone} if (zone := options.retention.get("timezone")) else {}
        general = {field: self.cleaned_data[field] for field in ("timezone", "minimum_keep", "trash_hours")}
        return {**general, "retention": {**self.policy_mapping(), **own_zone}}
