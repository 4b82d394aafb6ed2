from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.forms.boundfield import BoundField
from django.utils.text import slugify

from backups.forms.retention import RetentionFields, SizeField
from backups.models import Options
from backups.models.options import GUARD_FIELDS
from backups.services.names import MAX_NAME
from backups.services.options import MAX_GUARD_COUNT, MAX_MINIMUM_KEEP, MAX_SHARE, MAX_TRASH_HOURS
from maintenance import services
from maintenance.choices import JobType
from maintenance.example import HABITS, MAX_NIGHTS
from maintenance.models import MaintenanceJob
from scheduling.job_forms import JobSettingsFields, settings_shown
from scheduling.schedule_editor import ScheduleButtons

_GENERAL = ("timezone", "minimum_keep", "trash_hours")
_NO_LIMIT = {"placeholder": "no limit"}


def _limit(label: str, highest: int, help_text: str = "") -> forms.IntegerField:
    message = f"Use a whole number from 1 to {highest}; blank is no limit."
    return forms.IntegerField(
        label=label,
        help_text=help_text,
        required=False,
        min_value=0,
        max_value=highest,
        error_messages={"invalid": message, "min_value": message, "max_value": message},
        widget=forms.NumberInput(attrs={"inputmode": "numeric", **_NO_LIMIT}),
    )


def _size_limit(label: str, help_text: str = "") -> SizeField:
    return SizeField(
        label=label,
        help_text=help_text,
        required=False,
        max_length=40,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false", **_NO_LIMIT}),
    )


class MaintenanceJobForm(ScheduleButtons, JobSettingsFields):
    """A maintenance job that there is; `values()` gives what `job_update` takes."""

    name = forms.CharField(max_length=MAX_NAME)
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
        required=False, label="Start by itself", help_text="Off: it still runs when you press Run now."
    )

    plain: ClassVar[tuple[str, ...]] = ("name", "schedule_cron", "timezone", "enabled")
    schedule_field = "schedule_cron"

    def __init__(self, *args: Any, job: MaintenanceJob | None = None, **kwargs: Any) -> None:
        if job is not None:
            kwargs["initial"] = {field: getattr(job, field) for field in self.plain}
        super().__init__(*args, job=job, **kwargs)
        types = JobType.values if job is None else [job.job_type]
        self.may_retry = any(services.may_retry(job_type) for job_type in types)

    def values(self) -> dict[str, Any]:
        """What the service takes; needs a form that was validated."""
        return {**{field: self.cleaned_data[field] for field in self.plain}, **self.settings_values()}


class NewMaintenanceJobForm(MaintenanceJobForm):
    """A maintenance job to be added, perhaps `like` another; `values()` gives what `job_create` takes."""

    job_type = forms.ChoiceField(label="What it does", choices=JobType.choices, widget=forms.RadioSelect)
    key = forms.CharField(
        required=False,
        max_length=services.MAX_KEY,
        widget=forms.TextInput(attrs={"class": "mono", "autocomplete": "off", "spellcheck": "false"}),
        help_text="What commands, the API and configuration files call it. Blank: made from its name.",
    )

    plain = (*MaintenanceJobForm.plain, "job_type", "key")

    def __init__(self, *args: Any, like: MaintenanceJob | None = None, **kwargs: Any) -> None:
        first: dict[str, Any] = {"enabled": True, "schedule_cron": "0 4 * * 0", "job_type": JobType.values[0]}
        if like is not None:
            names = {"name": services.job_copy_name(like), "key": services.job_copy_key(like), "enabled": False}
            alike = {field: getattr(like, field) for field in ("schedule_cron", "timezone", "job_type")}
            first = {**settings_shown(like), **alike, **names}
        super().__init__(*args, initial=first, **kwargs)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if "key" in cleaned and not cleaned["key"] and cleaned.get("name"):
            cleaned["key"] = slugify(cleaned["name"])[: services.MAX_KEY].replace("-", "_")
            if not cleaned["key"]:
                self.add_error("key", "No key can be made from this name. Use letters, digits and underscores here.")
        return cleaned


class OptionsForm(RetentionFields):
    """Everything on the Options page: the time zone, the safety nets with the blast radius, and the retention rules."""

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
        help_text="How long a deleted backup stays on its storage before it is removed for good: 72 is three days.",
        error_messages={"required": "Give a number of hours, such as 72."},
    )
    guard_pair_share = _limit("Percent", MAX_SHARE, "Of its good copies")
    guard_pair_count = _limit("Copies", MAX_GUARD_COUNT)
    guard_pair_bytes = _size_limit("Size", "Such as 50 GiB")
    guard_storage_share = _limit("Percent", MAX_SHARE, "Of its good copies")
    guard_storage_count = _limit("Copies", MAX_GUARD_COUNT)
    guard_storage_bytes = _size_limit("Size", "Such as 1 TiB")

    @staticmethod
    def initial_from_options(options: Options) -> dict[str, Any]:
        plain = {field: getattr(options, field) for field in (*_GENERAL, *GUARD_FIELDS)}
        return {**plain, **RetentionFields.initial_from(options.retention)}

    def values(self, options: Options) -> dict[str, Any]:
        """What the form says, as `options_update` takes it.

        What no field showed stays: a zone of the policy's own, and limits that were not sent at all.
        """
        own_zone = {"timezone": zone} if (zone := options.retention.get("timezone")) else {}
        general = {field: self.cleaned_data[field] for field in _GENERAL}
        sent = {field: self.cleaned_data[field] or None for field in GUARD_FIELDS if field in self.data}
        guards = {field: sent.get(field) if field in sent else getattr(options, field) for field in GUARD_FIELDS}
        return {**general, **guards, "retention": {**self.policy_mapping(), **own_zone}}

    @property
    def pair_limits(self) -> list[BoundField]:
        return [self[field] for field in GUARD_FIELDS if field.startswith("guard_pair")]

    @property
    def storage_limits(self) -> list[BoundField]:
        return [self[field] for field in GUARD_FIELDS if field.startswith("guard_storage")]

    @property
    def shows_limits(self) -> bool:
        """Whether the limits deserve to be open: one is not what it is at first, or was refused."""
        at_first = Options()
        shown = {field: self[field].value() for field in GUARD_FIELDS}
        changed = any(str(value or "") != str(getattr(at_first, field) or "") for field, value in shown.items())
        return changed or any(self[field].errors for field in GUARD_FIELDS)


class ExampleForm(RetentionFields):
    """The worked example on the page about retention. Anything that cannot be read is left at what it is at first."""

    habit = forms.ChoiceField(
        label="Backups are made", required=False, choices=[(key, habit.label) for key, habit in HABITS.items()]
    )
    minimum_keep = forms.IntegerField(
        label="At least", help_text="Good copies", required=False, min_value=1, max_value=50
    )
    nights = forms.IntegerField(
        label="Let nights pass",
        required=False,
        min_value=0,
        max_value=MAX_NIGHTS,
        widget=forms.NumberInput(attrs={"type": "range", "step": 1}),
    )
    special = forms.BooleanField(label="One copy is pinned, one is verified, one is suspect", required=False)
    stopped = forms.BooleanField(label="Backups have stopped; only the cleanups go on", required=False)

    @staticmethod
    def first() -> dict[str, Any]:
        """What stands in the form when somebody comes to the page."""
        rules = {"keep_last": 3, "keep_daily": 7, "keep_weekly": 4, "keep_monthly": 3}
        return {"habit": "daily", "minimum_keep": 1, "nights": 0, **rules}

    def value(self, field: str) -> Any:
        """What a field says; what it is at first when that cannot be read."""
        found = self.cleaned_data.get(field)
        return self.first().get(field) if found in (None, "") else found
