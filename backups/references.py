"""Runs that records name in one word, such as `maintenance:12`, as something to link to."""

from __future__ import annotations

from dataclasses import dataclass

from django.urls import reverse

from scheduling.filters import number
from scheduling.registry import all_kinds


@dataclass(frozen=True, kw_only=True)
class RunReference:
    """A run by its kind and id; whether it still exists was not asked."""

    kind: str
    pk: int

    @property
    def label(self) -> str:
        return f"{self.kind} run {self.pk}"

    @property
    def url(self) -> str:
        return reverse("scheduling:run_detail", kwargs={"kind": self.kind, "pk": self.pk})


def run_reference(text: str) -> RunReference | None:
    """The run that `text` names; None when it names none."""
    kind, _, digits = text.partition(":")
    pk = number(digits)
    known = {found.kind for found in all_kinds()}
    return RunReference(kind=kind, pk=pk) if kind in known and pk is not None else None
