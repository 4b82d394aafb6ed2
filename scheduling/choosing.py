"""Finding a job or a target by what somebody typed: there can be thousands, so no page lists them all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from scheduling.registry import RunKind
from scheduling.run_filter import has_targets

MOST = 20


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A job of a kind, or a target (of the kind that works on it)."""

    kind: RunKind
    pk: int
    name: str


def jobs_like(text: str, kinds: Iterable[RunKind]) -> list[Choice]:
    """The jobs whose names contain the text; those that are called so alone when there are any."""
    return _like(text, [(kind, kind.job_model) for kind in kinds])


def targets_like(text: str, kinds: Iterable[RunKind]) -> list[Choice]:
    """The same of targets."""
    return _like(text, [(kind, target_model(kind)) for kind in kinds if has_targets(kind)])


def target_model(kind: RunKind) -> Any:
    runs: Any = kind.run_model
    attempts = runs._meta.get_field("attempts").related_model
    return attempts._meta.get_field("target").related_model


def name_of(model: Any, pk: int) -> str:
    """The name of the row, or its number when it is gone."""
    return model.objects.filter(pk=pk).values_list("name", flat=True).first() or f"no. {pk}"


def _like(text: str, sources: list[tuple[RunKind, Any]]) -> list[Choice]:
    for matches in ("name", "name__iexact", "name__icontains"):
        found = [
            Choice(kind=kind, pk=pk, name=name)
            for kind, model in sources
            for pk, name in model.objects.filter(**{matches: text}).order_by("name").values_list("pk", "name")[:MOST]
        ]
        if found:
            return sorted(found, key=lambda choice: (choice.name.casefold(), choice.kind.kind))[:MOST]
    return []


def names_like(text: str, models: Iterable[Any]) -> list[str]:
    """Names to choose from while somebody types."""
    rows = (
        model.objects.filter(name__icontains=text).order_by("name").values_list("name", flat=True) for model in models
    )
    return sorted({name for names in rows for name in names[:MOST]}, key=str.casefold)[:MOST]
