from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.forms.boundfield import BoundField

from backups.forms.errors import add_service_errors
from backups.retention import FIELDS
from backups.retention.durations import MAXIMUM
from backups.retention.policy import COUNT_FIELDS, DURATION_FIELDS, UNLIMITED

RULE_FIELDS = tuple(field for field in FIELDS if field != "timezone")

_RANGE = f"Use a whole number from 0 to {MAXIMUM}; blank or 0 switches the rule off, −1 keeps without limit."


def _count(label: str, help_text: str = "") -> forms.IntegerField:
    return forms.IntegerField(
        label=label,
        help_text=help_text,
        required=False,
        min_value=UNLIMITED,
        max_value=MAXIMUM,
        error_messages={"invalid": _RANGE, "min_value": _RANGE, "max_value": _RANGE},
        widget=forms.NumberInput(attrs={"inputmode": "numeric"}),
    )


def _duration(label: str, help_text: str = "") -> forms.CharField:
    return forms.CharField(
        label=label,
        help_text=help_text,
        required=False,
        max_length=40,
        widget=forms.TextInput(attrs={"class": "mono", "autocomplete": "off", "spellcheck": "false"}),
    )


class RetentionFields(forms.Form):
    """One field for every rule of a policy, to be mixed into a form; `includes/retention_fields.html` renders them.

    A blank or 0 switches a rule off. Whether a policy holds together is for the services to say: show what they refuse
    with `add_policy_errors`.
    """

    keep_last = _count("Last", "Newest copies")
    keep_hourly = _count("Hourly", "Hours")
    keep_daily = _count("Daily", "Days")
    keep_weekly = _count("Weekly", "ISO weeks")
    keep_monthly = _count("Monthly", "Months")
    keep_yearly = _count("Yearly", "Years")
    keep_within = _duration("Everything within", "Such as 2d")
    keep_within_hourly = _duration("Hourly within", "Such as 7d")
    keep_within_daily = _duration("Daily within", "Such as 1m")
    keep_within_weekly = _duration("Weekly within", "Such as 6m")
    keep_within_monthly = _duration("Monthly within", "Such as 1y6m")
    keep_within_yearly = _duration("Yearly within", "Such as 10y")

    @staticmethod
    def initial_from(mapping: Mapping[str, Any] | None) -> dict[str, Any]:
        """Initial values of the rule fields from a stored policy; None and missing rules stay blank."""
        stored = mapping or {}
        return {field: stored.get(field) or None for field in RULE_FIELDS}

    def policy_mapping(self) -> dict[str, Any]:
        """The rules that are on, without a time zone, as `Policy.from_mapping` reads them; needs a validated form."""
        return {field: value for field in RULE_FIELDS if (value := self.cleaned_data.get(field)) not in (None, "", 0)}

    def add_policy_errors(self, error: ValidationError) -> None:
        """Show a refusal: `retention.<rule>` at that rule, other keys at the field of their name or at the top."""
        add_service_errors(self, error, names={f"retention.{field}": field for field in FIELDS})

    @property
    def count_fields(self) -> Sequence[BoundField]:
        return [self[field] for field in COUNT_FIELDS]

    @property
    def within_fields(self) -> Sequence[BoundField]:
        return [self[field] for field in DURATION_FIELDS]

    @property
    def shows_within(self) -> bool:
        """Whether the durations deserve to be open: one is set, or refused."""
        return any(field.errors or field.value() for field in self.within_fields)
