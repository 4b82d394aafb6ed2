from __future__ import annotations


class SourceError(Exception):
    """A target that could not be read; the text says what, where and what to do next."""


class SourceConfigError(SourceError):
    """A target's configuration was refused; `errors` maps each field to a sentence about it."""

    def __init__(self, errors: dict[str, str]) -> None:
        super().__init__(" ".join(f"{field}: {text}" for field, text in errors.items()))
        self.errors = errors
