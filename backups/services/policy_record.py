"""Changes of policy, put on record whoever makes them and however."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import transaction

from backups.models import AuditAction, BackupJob, Options
from backups.models.options import GUARD_FIELDS
from backups.retention import PolicyError
from backups.services.audit import audit
from backups.services.options import effective_policy
from scheduling.units import binary_size


@contextmanager
def policies_recorded(*, by: str, accepted: str = "") -> Iterator[None]:
    """A transaction for changing Options or jobs: what it does to a policy is in the audit trail with it, or neither.

    `by` is a user or a command; `accepted` is what they were told would be lost.
    """
    with transaction.atomic():
        options, jobs = _option_words(), _job_policies()
        yield
        if transaction.get_rollback():
            return
        note = f" Accepted: {accepted}" if accepted else ""
        after = _option_words()
        if changed := [
            f"{name} from {options[name]} to {after[name]}" for name in after if options[name] != after[name]
        ]:
            audit(action=AuditAction.POLICY, actor=by, reason=f"Options: {'; '.join(changed)}.{note}")
        for pk, (name, policy) in _job_policies().items():
            old_name, old = jobs.get(pk, (name, None))
            if policy != old:
                reason = f"{old_name}: from {_job_words(old)} to {_job_words(policy)}.{note}"
                audit(action=AuditAction.POLICY, actor=by, job_name=name, reason=reason)


def _job_policies() -> dict[int, tuple[str, Any]]:
    return {
        pk: (name, policy) for pk, name, policy in BackupJob.objects.order_by().values_list("pk", "name", "retention")
    }


def _job_words(retention: Any) -> str:
    if retention is None:
        return "the policy in Options"
    try:
        return effective_policy(override=retention, options=Options.load()).describe()
    except PolicyError as error:
        return f"one that cannot be used ({error})"


def _option_words() -> dict[str, str]:
    """The policy and its safety nets in words, by what they are called."""
    options = Options.load()
    try:
        policy = effective_policy(override=None, options=options).describe()
    except PolicyError as error:
        policy = f"one that cannot be used ({error})"
    words = {
        "policy": policy,
        "good copies kept at least": str(options.minimum_keep),
        "hours in the trash": str(options.trash_hours),
    }
    for field in GUARD_FIELDS:
        value = getattr(options, field)
        shown = "no limit" if value is None else binary_size(value) if field.endswith("bytes") else str(value)
        words[field.removeprefix("guard_").replace("_", " ")] = shown
    return words
