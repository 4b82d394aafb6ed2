from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, override

from django import forms
from django.core.exceptions import ValidationError
from django.forms.boundfield import BoundField

from backups.forms.errors import add_service_errors
from backups.retention import FIELDS
from backups.retention.durations import MAXIMUM
from backups.retention.policy import COUNT_FIELDS, DURATION_FIELDS, UNLIMITED
from backups.services.names import MAX_NAME
from backups.services.options import MAX_GUARD_BYTES
from backups.services.policy_change import PolicyChange
from scheduling.units import UNITS

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
    with `add_policy_errors`. What a policy costs is for `LossForm` to ask.
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


class SizeField(forms.CharField):
    """Bytes as people write them: `50 GiB`, `1.5 TB`, `500M`. A number needs its unit; units are binary.

    Blank and 0 are None.
    """

    _SIZE = re.compile(r"([0-9]{1,18}(?:[.,][0-9]{1,6})?)\s*([KMGTPE])?(i?B)?", re.IGNORECASE)
    _HELP = "Write a size with its unit, such as 50 GiB; blank is no limit."

    @override
    def clean(self, value: Any) -> int | None:
        text = str(super().clean(value) or "")
        if not text:
            return None
        found = self._SIZE.fullmatch(text)
        if found is None or (not found[2] and not found[3] and found[1].strip("0.,")):
            raise ValidationError(self._HELP, code="invalid")
        power = "KMGTPE".index(found[2].upper()) + 1 if found[2] else 0
        size = int(Decimal(found[1].replace(",", ".")) * 1024**power)
        if size > MAX_GUARD_BYTES:
            raise ValidationError(f"That is more than {exact_size(MAX_GUARD_BYTES)}, the most.", code="max")
        return size or None

    @override
    def prepare_value(self, value: Any) -> Any:
        return exact_size(value) if isinstance(value, int) else value


def exact_size(size: int) -> str:
    """Bytes in the largest unit that shows them whole, such as `50 GiB` or `1536 MiB`: it can be read back."""
    unit = 0
    while size and size % 1024 == 0 and unit < len(UNITS) - 1:
        size //= 1024
        unit += 1
    return f"{size} {UNITS[unit]}"


class LossForm(forms.Form):
    """Asks to type a job's name before a policy is saved that loses more than the saved one.

    Its answer is for the loss of `loss_digest`, which the page carries: when that has become another, it asks anew.
    """

    loss_name = forms.CharField(
        max_length=MAX_NAME,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false", "autocapitalize": "none"}),
        error_messages={"required": "Type the name, or change the rules back. Nothing was saved."},
    )

    def __init__(self, data: Mapping[str, Any], *, change: PolicyChange) -> None:
        # What was never shown is not answered yet: that is no error.
        super().__init__(data if data.get("loss_digest") else None)
        self.change = change
        self.fields["loss_name"].label = f"Type the job’s name to save: {change.name_to_type}"

    def clean_loss_name(self) -> str:
        typed: str = self.cleaned_data["loss_name"]
        if self.data.get("loss_digest") != self.change.digest:
            raise ValidationError("What would be lost has changed meanwhile. Read it again, then type the name.")
        if typed != self.change.name_to_type:
            name = self.change.name_to_type
            raise ValidationError(f"This is not “{name}”. Type it as it is written, or change the rules back.")
        return typed
