from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing wrong with a file: `where` is an entry such as `backup_jobs[0] "nightly"`, `key` "" the whole of it."""

    where: str
    key: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.key, self.message) if part)


class ConfigurationError(Exception):
    """A file that was read but cannot be applied; nothing was written."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class Problems:
    """Collects what is wrong, so that all of it can be said at once."""

    def __init__(self) -> None:
        self._found: list[Problem] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def __iter__(self) -> Iterator[Problem]:
        return iter(self._found)

    def add(self, where: str, key: str, message: str) -> None:
        problem = Problem(where=where, key=key, message=message)
        if problem not in self._found:
            self._found.append(problem)

    @contextmanager
    def collecting(self, where: str) -> Iterator[None]:
        """Turn a service's ValidationError in the body into problems."""
        try:
            yield
        except ValidationError as error:
            fields = error.message_dict if hasattr(error, "error_dict") else {NON_FIELD_ERRORS: error.messages}
            for field, messages in fields.items():
                key = "" if field == NON_FIELD_ERRORS else field
                for message in messages:
                    self.add(where, key, message)

    def raise_if_any(self) -> None:
        """Raise `ConfigurationError` with everything found so far."""
        if self._found:
            raise ConfigurationError(tuple(self._found))
