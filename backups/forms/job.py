from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import QuerySet

from backups.forms.retention import RULE_FIELDS, RetentionFields
from backups.models import BackupJob, Storage, Target
from backups.services.jobs import job_copy_name
from backups.services.names import MAX_NAME
from scheduling.cron import MAX_LENGTH
from scheduling.job_forms import JobSettingsFields, settings_shown
from scheduling.schedule_editor import ScheduleButtons

MAX_DIGITS = 18
OPTIONS, OWN = "options", "own"
POLICIES = ((OPTIONS, "Use the policy in Options"), (OWN, "A policy of this job’s own"))


class TargetsField(forms.ModelMultipleChoiceField):  # type: ignore[type-arg]  # takes none when it runs
    """Targets by id; an id that no database can hold is no target, rather than an error of the database."""

    def clean(self, value: Any) -> QuerySet[Target]:
        for pk in value or ():
            if len(str(pk)) > MAX_DIGITS:
                message = self.error_messages["invalid_choice"]
                raise ValidationError(message, code="invalid_choice", params={"value": pk})
        found: QuerySet[Target] = super().clean(value)
        return found


class JobForm(ScheduleButtons, JobSettingsFields, RetentionFields):
    """A backup job. `retention()` and `values()` give what `job_create` and `job_update` take.

    `job` is the one that is edited, `like` one that a new one is a copy of.
    """

    name = forms.CharField(max_length=MAX_NAME, help_text="Such as “nightly”.")
    targets = TargetsField(
        queryset=Target.objects.all(),
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose at least one target to back up."},
    )
    storage = forms.ModelChoiceField(
        queryset=Storage.objects.all(),
        empty_label=None,
        help_text="Where its copies go.",
        error_messages={"required": "Choose where its copies go."},
    )
    schedule = forms.CharField(
        required=False,
        max_length=MAX_LENGTH,
        widget=forms.TextInput(attrs={"class": "mono", "spellcheck": "false", "autocomplete": "off"}),
        help_text=(
            "Five cron fields: minute, hour, day of month, month, day of week; or <code>@daily</code> and the like. "
            "Blank: only by hand."
        ),
    )
    timezone = forms.CharField(
        label="Time zone",
        required=False,
        max_length=64,
        widget=forms.TextInput(attrs={"list": "zones", "spellcheck": "false", "autocomplete": "off"}),
        help_text="Such as Europe/Berlin. Blank: the one in Options.",
    )
    enabled = forms.BooleanField(
        label="Start by itself",
        required=False,
        help_text="Without this it runs only by hand.",
    )
    policy = forms.ChoiceField(label="Which copies stay", choices=POLICIES, widget=forms.RadioSelect)

    def __init__(self, *args: Any, job: BackupJob | None = None, like: BackupJob | None = None, **kwargs: Any) -> None:
        shown = job or like
        self._stored_zone = (shown.retention or {}).get("timezone", "") if shown else ""
        if shown is not None:
            kwargs["initial"] = self._initial_of(shown)
        if like is not None:
            kwargs["initial"] |= {**settings_shown(like), "name": job_copy_name(like), "enabled": False}
        super().__init__(*args, job=job, **kwargs)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if cleaned.get("policy") == OPTIONS:
            # The rules are not in use, and not in sight either: what they hold must not stand in the way.
            for field in RULE_FIELDS:
                self.errors.pop(field, None)
        return cleaned

    @property
    def policy_errors(self) -> bool:
        """Whether something about the policy was refused, whatever the other fields hold."""
        return any(field in self.errors for field in ("policy", *RULE_FIELDS))

    def retention(self) -> dict[str, Any] | None:
        """The job's own policy, with the time zone that it was given elsewhere; None for the one in Options."""
        if self.cleaned_data["policy"] == OPTIONS:
            return None
        zone = {"timezone": self._stored_zone} if self._stored_zone else {}
        return {**self.policy_mapping(), **zone}

    def values(self) -> dict[str, Any]:
        """The keyword arguments of `job_create` and `job_update`; needs a form that was validated."""
        plain = ("name", "storage", "schedule", "timezone", "enabled")
        targets = list(self.cleaned_data["targets"])
        values = {**{key: self.cleaned_data[key] for key in plain}, "targets": targets, "retention": self.retention()}
        return {**values, **self.settings_values()}

    @staticmethod
    def _initial_of(job: BackupJob) -> dict[str, Any]:
        return {
            **RetentionFields.initial_from(job.retention),
            "name": job.name,
            "targets": list(job.targets.values_list("pk", flat=True)),
            "storage": job.storage_id,
            "schedule": job.schedule,
            "timezone": job.timezone,
            "enabled": job.enabled,
            "policy": OPTIONS if job.retention is None else OWN,
        }
