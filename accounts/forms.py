from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm, UserCreationForm
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError

from accounts import throttle


class SignInForm(AuthenticationForm):
    """Django's sign-in form, with a limit on failed attempts."""

    def clean(self) -> dict[str, Any]:
        key = throttle.attempt_key(self.request, self.cleaned_data.get("username") or "")
        if throttle.is_blocked(key):
            minutes = throttle.PERIOD_SECONDS // 60
            raise ValidationError(
                f"Too many failed attempts for this account. Wait {minutes} minutes, then try again.", code="blocked"
            )
        try:
            cleaned: dict[str, Any] = super().clean()
        except ValidationError:
            throttle.count_failure(key)
            raise
        throttle.forget_failures(key)
        return cleaned


class FirstAdministratorForm(UserCreationForm[User]):
    """User name and password of the first administrator; `save` is not used, the service creates the user."""


class TokenForm(forms.Form):
    LIFETIMES = (("30", "30 days"), ("90", "90 days"), ("365", "1 year"), ("", "Never"))

    name = forms.CharField(max_length=100, help_text="What will use it, for example “monitoring”.")
    lifetime = forms.ChoiceField(choices=LIFETIMES, required=False, initial="365", label="Expires after")

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if not name.isprintable():
            raise forms.ValidationError("The name holds characters that cannot be shown. Use letters and digits.")
        return name

    def clean_lifetime(self) -> timedelta | None:
        days = self.cleaned_data["lifetime"]
        return timedelta(days=int(days)) if days else None
