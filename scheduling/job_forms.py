"""What the forms of jobs of both kinds share: how a job runs beyond its schedule, and until when it pauses."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, time
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone

from scheduling.choices import Overlap
from scheduling.job_settings import (
    DEFAULTS,
    MAX_QUEUE,
    NO_RETRIES,
    job_choices,
    known_queues,
    settings_of,
    until_clean,
)
from scheduling.models.job import MAX_RETRIES, MAX_RETRY_DELAY, MAX_TIME_LIMIT
from scheduling.moments import MomentError, tomorrow_morning, until_parse

MAX_BLACKOUT_TEXT = 4000
MAX_REASON = 200
AT = "at"


def _number(label: str, lowest: int, highest: int, help_text: str, **attrs: str) -> forms.IntegerField:
    message = f"Use a whole number from {lowest} to {highest}."
    return forms.IntegerField(
        label=label,
        help_text=help_text,
        required=False,
        min_value=lowest,
        max_value=highest,
        error_messages={"invalid": message, "min_value": message, "max_value": message},
        widget=forms.NumberInput(attrs={"inputmode": "numeric", **attrs}),
    )


def _clock(label: str, help_text: str) -> forms.TimeField:
    return forms.TimeField(
        label=label,
        help_text=help_text,
        required=False,
        input_formats=["%H:%M", "%H:%M:%S"],
        error_messages={"invalid": "Write a time of day such as 22:00."},
        widget=forms.TimeInput(attrs={"type": "time"}, format="%H:%M"),
    )


class JobSettingsFields(forms.Form):
    """The fields of `job_settings.DEFAULTS`; `settings_values()` gives what the services take.

    `job` is the one that is edited, or None; `may_retry` False says that retries are refused.
    """

    overlap = forms.ChoiceField(
        label="When it is due while it still runs",
        choices=Overlap.choices,
        initial=DEFAULTS["overlap"],
        required=False,
        widget=forms.RadioSelect,
    )
    retry_count = _number("Retries", 0, MAX_RETRIES, "After a run that failed; 0 is none")
    retry_delay = _number("Minutes before a retry", 0, MAX_RETRY_DELAY, "10 unless you say otherwise")
    time_limit = _number(
        "Time limit in minutes",
        1,
        MAX_TIME_LIMIT,
        "A run that takes longer is stopped, and counts as failed. Blank: none.",
        placeholder="no limit",
    )
    window_start = _clock("Start only from", "In the zone of its schedule")
    window_end = _clock("Until", "May be on the next day: 22:00 until 06:00")
    blackout_dates = forms.CharField(
        label="Days without runs",
        required=False,
        max_length=MAX_BLACKOUT_TEXT,
        widget=forms.Textarea(attrs={"class": "mono", "rows": 3, "spellcheck": "false", "autocomplete": "off"}),
        help_text="One a line: <code>2026-12-24</code>, or <code>2026-12-24..2026-12-26</code> for several days. "
        "Whatever would start by itself then is skipped.",
    )
    run_after = forms.ChoiceField(
        label="Run after",
        required=False,
        help_text="Starts each time that job has succeeded, besides any schedule of its own.",
        error_messages={"invalid_choice": "That job is not there any more. Choose another, or none."},
    )
    queue = forms.CharField(
        label="Runs on",
        required=False,
        max_length=MAX_QUEUE,
        widget=forms.TextInput(attrs={"list": "queues", "autocomplete": "off", "spellcheck": "false"}),
        help_text="The queue whose hosts run it. Blank: the default one.",
    )

    may_retry = True

    def __init__(self, *args: Any, job: Any = None, **kwargs: Any) -> None:
        if job is not None:
            kwargs["initial"] = {**settings_shown(job), **(kwargs.get("initial") or {})}
        super().__init__(*args, **kwargs)
        self.fields["run_after"].choices = [("", "No other job"), *job_choices(besides=job)]  # type: ignore[attr-defined]

    def clean_blackout_dates(self) -> list[str]:
        return [line.strip() for line in self.cleaned_data["blackout_dates"].splitlines() if line.strip()]

    def settings_values(self) -> dict[str, Any]:
        """What the form says; what no field of the page showed stays as it is."""
        return {name: self.cleaned_data.get(name) for name in DEFAULTS if name in self.data}

    @property
    def shows_settings(self) -> bool:
        """Whether the settings deserve to be open: one is not what it is at first, or was refused."""
        at_first = _shown(DEFAULTS)
        shown = {name: self[name].value() for name in DEFAULTS}
        changed = any(value not in (None, "", at_first[name], str(at_first[name])) for name, value in shown.items())
        return changed or any(name in self.errors for name in DEFAULTS)

    @property
    def shows_retries(self) -> bool:
        """Whether retries can be chosen; when they cannot, what was sent all the same is shown with its refusal."""
        return self.may_retry or any(name in self.errors for name in ("retry_count", "retry_delay"))

    @property
    def no_retries(self) -> str:
        return NO_RETRIES

    @property
    def queues(self) -> list[str]:
        """The queues that are known, to choose from."""
        return known_queues()


class PauseForm(forms.Form):
    """Until when; `moment` is that in UTC once the form is valid. Times that are typed are in the viewer's zone.

    `until` is one of the choices, or itself a moment such as “2h” or “2026-12-24 06:00”.
    """

    until = forms.CharField(label="Until", max_length=60, widget=forms.RadioSelect)
    at = forms.CharField(
        label="That day and time",
        required=False,
        max_length=60,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}),
    )

    moment: datetime

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        zone = timezone.get_current_timezone()
        morning = tomorrow_morning(timezone.now(), zone)
        self.fields["until"].widget.choices = [
            ("1h", "In one hour"),
            ("tomorrow", f"Tomorrow morning: {morning:%a} {morning.day} {morning:%b}, {morning:%H:%M}"),
            (AT, "A day and time"),
        ]
        self.fields["at"].help_text = f"In {zone}"
        self.initial.setdefault("until", "1h")

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        until = cleaned.get("until")
        if until:
            field, said = ("at", cleaned.get("at", "")) if until == AT else ("until", until)
            try:
                self.moment = until_parse(said, now=timezone.now(), zone=timezone.get_current_timezone())
                until_clean(self.moment)
            except MomentError as error:
                self.add_error(field, str(error))
            except ValidationError as error:
                self.add_error(field, error.messages)
        return cleaned


class PauseAllForm(PauseForm):
    """Until when everything pauses, and why."""

    reason = forms.CharField(
        label="Why",
        required=False,
        max_length=MAX_REASON,
        help_text="Shown on every page while it lasts, such as “the disk is being replaced”.",
    )


def settings_shown(job: Any) -> dict[str, Any]:
    """A job's settings as the fields show them."""
    return _shown(settings_of(job))


def _shown(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as the fields show them."""

    def text(value: Any) -> Any:
        if isinstance(value, list):
            return "\n".join(value)
        return f"{value:%H:%M}" if isinstance(value, time) else value

    return {name: text(value) for name, value in values.items()}
