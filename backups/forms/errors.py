from __future__ import annotations

from collections.abc import Mapping

from django import forms
from django.core.exceptions import ValidationError


def add_service_errors(form: forms.Form, error: ValidationError, *, names: Mapping[str, str] | None = None) -> None:
    """Show what a service refused at the form's fields.

    A key of the error is a field's name, or is looked up in `names`; what fits no field goes to the top of the form.
    """
    if not hasattr(error, "error_dict"):
        form.add_error(None, error)
        return
    for key, messages in error.message_dict.items():
        field = (names or {}).get(key, key)
        form.add_error(field if field in form.fields else None, ValidationError(messages))
