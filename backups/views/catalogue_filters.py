from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import Q
from django.http import HttpRequest

from backups.choices import IN_TRANSIT, ON_STORAGE, BackupState
from backups.models import Backup, BackupJob, Storage, Target
from backups.querysets import BackupQuerySet
from scheduling.filters import Chip, link

MAX_CHIPS = 12

IN_TRASH = Q(state__in=(BackupState.TRASHED, *IN_TRANSIT))
SUSPECT = Q(state=BackupState.AVAILABLE, accepted_at__isnull=True) & ~Q(suspect_reason="")

# The words of the badges; "" is what the list shows unless asked.
STATES: dict[str, tuple[str, Q]] = {
    "": ("Kept or in trash", Q(state__in=ON_STORAGE) | IN_TRASH),
    "available": ("Available", Q(state=BackupState.AVAILABLE)),
    "suspect": ("Suspect", SUSPECT),
    "missing": ("Missing", Q(state=BackupState.MISSING)),
    "quarantined": ("Quarantined", Q(state=BackupState.QUARANTINED)),
    "trashed": ("In trash", IN_TRASH),
    "deleted": ("Deleted", Q(state=BackupState.DELETED)),
    "all": ("All", Q()),
}
NOUNS: dict[str, type[Target] | type[BackupJob] | type[Storage]] = {
    "target": Target,
    "job": BackupJob,
    "storage": Storage,
}


@dataclass(frozen=True, kw_only=True)
class Select:
    """A noun with too many rows for chips: the ids and names to choose from, and the chosen id."""

    noun: str
    label: str
    rows: Sequence[tuple[int, str]]
    chosen: int | None


class CatalogueFilters:
    """What the address of the catalogue asks for: a state, and the ids of a target, a job and a storage.

    Anything in it that cannot be meant is ignored. Costs one query a noun.
    """

    def __init__(self, request: HttpRequest) -> None:
        self.request = request
        asked = request.GET.get("state", "")
        self.state = asked if asked in STATES else ""
        self.rows = {
            noun: list(model._default_manager.order_by("name").values_list("pk", "name"))
            for noun, model in NOUNS.items()
        }
        self.chosen = {noun: self._chosen(noun) for noun in NOUNS}

    def backups(self) -> BackupQuerySet:
        named = {f"{noun}_id": pk for noun, pk in self.chosen.items() if pk is not None}
        return Backup.objects.filter(STATES[self.state][1], **named)

    @property
    def clear_url(self) -> str:
        chosen = self.state or any(pk is not None for pk in self.chosen.values())
        return self.request.path if chosen else ""

    @property
    def summary(self) -> str:
        """The filters in words; "" for none."""
        parts = [STATES[self.state][0].lower()] if self.state else []
        parts += [f"{noun} {dict(self.rows[noun])[pk]}" for noun, pk in self.chosen.items() if pk is not None]
        return ", ".join(parts)

    @property
    def state_chips(self) -> list[Chip]:
        return [self._chip("state", value, label, active=value == self.state) for value, (label, _) in STATES.items()]

    @property
    def noun_chips(self) -> list[tuple[str, list[Chip]]]:
        """A label and chips for each noun of which there are a few: "All", then its rows by name."""
        return [
            (noun.capitalize(), self._chips(noun))
            for noun, rows in self.rows.items()
            if (len(rows) > 1 or self.chosen[noun] is not None) and len(rows) <= MAX_CHIPS
        ]

    @property
    def selects(self) -> list[Select]:
        return [
            Select(noun=noun, label=noun.capitalize(), rows=rows, chosen=self.chosen[noun])
            for noun, rows in self.rows.items()
            if len(rows) > MAX_CHIPS
        ]

    @property
    def hidden(self) -> list[tuple[str, str]]:
        """What the form of the selects must carry along."""
        selected = {select.noun for select in self.selects}
        kept = [(noun, str(pk)) for noun, pk in self.chosen.items() if pk is not None and noun not in selected]
        return [*kept, ("state", self.state)] if self.state else kept

    def _chosen(self, noun: str) -> int | None:
        asked = self.request.GET.get(noun, "")
        return next((pk for pk, _ in self.rows[noun] if str(pk) == asked), None)

    def _chips(self, noun: str) -> list[Chip]:
        chosen = self.chosen[noun]
        named = [self._chip(noun, str(pk), name, active=pk == chosen) for pk, name in self.rows[noun]]
        return [self._chip(noun, "", "All", active=chosen is None), *named]

    def _chip(self, field: str, value: str, label: str, *, active: bool) -> Chip:
        return Chip(label=label, url=link(self.request, **{field: value, "page": ""}), active=active)
