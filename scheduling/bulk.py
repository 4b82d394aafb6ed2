"""The same thing done with many runs at once: what would happen to each is known, and shown, before it is done."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import ValidationError
from django.db import IntegrityError
from django.db.models import TextChoices

from scheduling.choices import RunStatus
from scheduling.dispatch import run_again
from scheduling.ledger import run_cancel
from scheduling.models import Run
from scheduling.registry import RunKind, get_kind

MOST = 500
_SELECTED = re.compile(r"([a-z]{1,32}):([0-9]{1,18})", re.ASCII)


class BulkAction(TextChoices):
    CANCEL = "cancel", "Cancel"
    AGAIN = "again", "Run again"


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A run with which the action cannot be done, and why: a sentence."""

    run: Run
    reason: str


@dataclass(frozen=True, kw_only=True)
class BulkPlan:
    """What an action would do with each of the runs that were selected, or with which of them it was done."""

    action: BulkAction
    runs: list[Run] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    missing: int = 0

    @property
    def waiting(self) -> list[Run]:
        return [run for run in self.runs if run.status == RunStatus.QUEUED]

    @property
    def going(self) -> list[Run]:
        return [run for run in self.runs if run.is_active]


def selected(values: Iterable[str]) -> list[tuple[str, int]]:
    """What the boxes of a list stand for (`backup:3`), each once; what is nothing of the kind is left out."""
    found = (_SELECTED.fullmatch(value) for value in values)
    return list(dict.fromkeys((match[1], int(match[2])) for match in found if match))[:MOST]


def bulk_plan(
    *, action: BulkAction, keys: Iterable[tuple[str, int]], kinds: Iterable[RunKind], user: User | AnonymousUser
) -> BulkPlan:
    """Sort the selected runs into those the action can be done with and those it cannot, newest first.

    `kinds` are those that the user may look at: to them, runs of others do not exist.
    """
    keys = list(keys)
    runs: list[Run] = []
    refused: list[Refusal] = []
    for kind in kinds:
        model: Any = kind.run_model
        mine = [pk for name, pk in keys if name == kind.kind]
        found = list(model.objects.filter(pk__in=mine).defer("result_json", "progress").newest_first()) if mine else []
        waits = _waiting(model, found) if action == BulkAction.AGAIN else {}
        taken: dict[int, int] = {}
        for run in found:
            reason = _why_not(action, kind, run, user, waits, taken)
            if reason:
                refused.append(Refusal(run=run, reason=reason))
                continue
            runs.append(run)
            taken[run.job_id] = run.pk
    missing = len(keys) - len(runs) - len(refused)
    return BulkPlan(action=action, runs=runs, refused=refused, missing=missing)


def bulk_apply(plan: BulkPlan, *, by: str) -> BulkPlan:
    """Do it, one run after the other. What has become impossible since is among the refused of the answer."""
    done: list[Run] = []
    refused = list(plan.refused)
    for run in plan.runs:
        reason = _cancel(run, by) if plan.action == BulkAction.CANCEL else _again(run, by)
        if reason:
            refused.append(Refusal(run=run, reason=reason))
        else:
            done.append(run)
    return BulkPlan(action=plan.action, runs=done, refused=refused, missing=plan.missing)


def _waiting(model: Any, runs: list[Any]) -> dict[int, int]:
    """The waiting run of each job that these runs are of."""
    jobs = {run.job_id for run in runs if run.job_id is not None}
    return dict(model.objects.filter(job__in=jobs).queued().values_list("job_id", "pk"))


def _why_not(
    action: BulkAction,
    kind: RunKind,
    run: Any,
    user: User | AnonymousUser,
    waits: dict[int, int],
    taken: dict[int, int],
) -> str:
    if not user.has_perm(kind.run_permission):
        return f"You may look at {kind.label.lower()} runs, not start or stop them."
    if action == BulkAction.CANCEL:
        if run.status == RunStatus.CANCELLING:
            return "It is being stopped already."
        return "" if run.is_open else "It has ended."
    if run.is_open:
        return "It has not ended."
    if run.job_id is None:
        return "Its job was deleted."
    if run.job_id in taken:
        return f"It is of the same job as run {taken[run.job_id]}, which is run again: once is enough."
    if run.job_id in waits:
        return f"Run {waits[run.job_id]} of this job waits to start already."
    return ""


def _cancel(run: Run, by: str) -> str:
    asked = run_cancel(kind=get_kind(run.kind), run_id=run.pk, by=by)
    return "" if asked is not None else "It had ended before it could be cancelled."


def _again(run: Any, by: str) -> str:
    try:
        queued: Any = run_again(kind_name=run.kind, run=run, by=by)
    except ValidationError as error:
        return " ".join(error.messages)
    except IntegrityError:
        return "Its job was changed or deleted just now."
    if queued is None:
        return "Its job was deleted."
    return "" if queued.parent_id == run.pk else f"Run {queued.pk} of this job waits to start already."
