"""What a cleanup counts while it goes on, and how that reads in the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from backups.retention import Stop
from maintenance.storage_faults import MAX_UNKNOWN_LISTED
from scheduling.choices import RunOutcome
from scheduling.context import RunResult

if TYPE_CHECKING:
    from backups.services.retention import PairPlan

MAX_LISTED = 1000


@dataclass(kw_only=True)
class Tally:
    """What a cleanup has done so far; `figures` is what the run stores."""

    targets_processed: int = 0
    kept_count: int = 0
    planned_count: int = 0
    intended_count: int = 0
    deleted: list[tuple[str, int]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    left_alone: int = 0
    waiting_count: int = 0
    stops: list[dict[str, Any]] = field(default_factory=list)
    unknown_files: list[str] = field(default_factory=list)
    pairs: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    plan: str = ""

    @property
    def figures(self) -> dict[str, Any]:
        return {
            "targets_processed": self.targets_processed,
            "deleted_count": len(self.deleted),
            "kept_count": self.kept_count,
            "failed_count": len(self.failed),
            "deleted_paths": [path for path, _ in self.deleted[:MAX_LISTED]],
            "failed_paths": self.failed[:MAX_LISTED],
            "deleted_bytes": sum(size for _, size in self.deleted),
            "left_alone_count": self.left_alone,
            "waiting_count": self.waiting_count,
            "stops": self.stops[:MAX_LISTED],
            "plan": self.plan,
            "unknown_files": self.unknown_files[:MAX_UNKNOWN_LISTED],
            "unknown_count": len(self.unknown_files),
            "pairs": self.pairs,
            "problems": self.problems[:MAX_LISTED],
        }

    def stop(self, planned: PairPlan, stop: Stop) -> None:
        self.stops.append({**stop.to_mapping(), "pair": planned.pair.label})

    @property
    def needs_approval(self) -> bool:
        return any(stop["kind"] != "busy" for stop in self.stops)


def stopped_midway(tally: Tally) -> str:
    """What a cleanup has to say for itself when it is stopped before its end."""
    of_planned = f" of {tally.intended_count}" if tally.intended_count else ""
    return (
        f"{len(tally.deleted)}{of_planned} had been moved to the trash until then, and can be brought back; "
        "nothing is half moved."
    )


def cleanup_result(tally: Tally, *, preview: bool = False) -> RunResult:
    """How a cleanup, or its preview, came out."""
    figures = tally.figures
    if tally.problems:
        first = tally.problems[0]
        more = f" ({len(tally.problems) - 1} more, see the log)" if len(tally.problems) > 1 else ""
        return RunResult(message=f"Not everything could be cleaned up. {first}{more}", figures=figures, failed=True)
    if not tally.targets_processed:
        return RunResult(message="There are no backups yet, so there was nothing to clean up.", figures=figures)
    verb = "would be moved to the trash" if preview else "moved to the trash"
    message = f"{len(tally.deleted)} {verb}, {tally.kept_count} kept"
    if tally.left_alone:
        message += f", {tally.left_alone} left alone because they changed meanwhile"
    message += "."
    if tally.stops:
        first_stop = tally.stops[0]
        waits = "need approval" if tally.needs_approval else "wait for the next cleanup"
        count = f"{tally.waiting_count} deletions {waits}" if tally.waiting_count != 1 else f"1 deletion {waits}"
        message += (
            f" {count.replace('1 deletion need', '1 deletion needs')}: {first_stop['pair']}: {first_stop['text']}"
        )
    return RunResult(message=message, figures=figures, outcome=_outcome(tally))


def _outcome(tally: Tally) -> RunOutcome:
    if tally.needs_approval:
        return RunOutcome.NEEDS_APPROVAL
    freed_nothing = bool(tally.planned_count) and not tally.deleted
    return RunOutcome.WARNING if tally.stops or tally.unknown_files or freed_nothing else RunOutcome.OK
