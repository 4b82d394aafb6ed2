from __future__ import annotations

from django.core.exceptions import ValidationError


def refuse(field: str, message: str) -> ValidationError:
    """A refusal that a form shows at `field`, a command prints and the API returns."""
    return ValidationError({field: [message]})
