"""What the ledger should do, said once more: plain values, no database, and none of the code that is tested."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

OPEN = ("queued", "running", "cancelling")
ACTIVE = ("running", "cancelling")
TERMINAL = ("succeeded", "failed", "cancelled", "lost", "skipped")
BY_ITSELF = ("schedule", "retry", "after")


@dataclass(kw_only=True)
class Job:
    """`name` also says in which order jobs follow: by kind, then as they were made."""

    name: str
    kind: str
    targets: frozenset[str] = frozenset()
    enabled: bool = True
    overlap: str = "queue"
    retry_count: int = 0
    retry_delay: int = 10
    paused_until: datetime | None = None
    after: str = ""
    deleted: bool = False


@dataclass(kw_only=True, eq=False)
class Run:
    """`pk` is what the database called it; a new one has none yet. `targets` are those it holds."""

    job: Job
    trigger: str
    status: str
    pk: int = 0
    slot: datetime | None = None
    parent: int | None = None
    attempt: int = 1
    not_before: datetime | None = None
    fence: int = 0
    targets: frozenset[str] = frozenset()


@dataclass(kw_only=True)
class Ledger:
    """Every method does to `runs` what one call should do to the tables; new rows are at the end, in order."""

    jobs: list[Job]
    runs: list[Run] = field(default_factory=list)
    paused_until: datetime | None = None

    def of(self, job: Job, *states: str) -> list[Run]:
        return [run for run in self.runs if run.job is job and run.status in states]

    def is_paused(self, job: Job, at: datetime) -> bool:
        return any(until is not None and until > at for until in (job.paused_until, self.paused_until))

    def is_held(self, run: Run, at: datetime) -> bool:
        if run.trigger not in BY_ITSELF or run.job.deleted:
            return False
        is_early = run.not_before is not None and run.not_before > at
        return is_early or not run.job.enabled or self.is_paused(run.job, at)

    def ask(self, job: Job, trigger: str, at: datetime, *, is_skipped: bool = False, **values: object) -> Run | None:
        """A request; the run that it leads to, None when to none."""
        if job.deleted or (trigger in BY_ITSELF and not job.enabled):
            return None
        made = Run(job=job, trigger=trigger, status="queued", **values)  # type: ignore[arg-type]
        same = [run for run in self.runs if run.job is job and made.slot is not None and run.slot == made.slot]
        if same:
            return same[0]
        due = max(made.not_before or at, at)
        is_skipped |= trigger in BY_ITSELF and self.is_paused(job, due)
        is_skipped |= trigger == "schedule" and job.overlap == "skip" and bool(self.of(job, *ACTIVE))
        waiting = next(iter(self.of(job, "queued")), None)
        if waiting is not None and not is_skipped and made.slot is None:
            if trigger in BY_ITSELF or not self.is_held(waiting, at):
                return waiting
            waiting.status = "skipped"
            waiting = None
        self.runs.append(made)
        if is_skipped or waiting is not None:
            made.status, made.not_before = "skipped", None if is_skipped else made.not_before
            self._lead_on(made, at)
        return made

    def claim(self, run: Run, at: datetime) -> bool:
        if run.status != "queued" or (run.not_before is not None and run.not_before > at):
            return False
        if not run.job.deleted and self.of(run.job, *ACTIVE):
            return False
        if self.is_held(run, at):
            if not run.job.enabled:
                run.status = "skipped"
                self._lead_on(run, at)
            return False
        targets = frozenset() if run.job.deleted else run.job.targets
        if any(other.targets & targets for other in self.runs):
            return False
        run.status, run.targets, run.fence = "running", targets, run.fence + 1
        return True

    def end(self, run: Run, status: str, at: datetime) -> bool:
        if run.status not in ACTIVE:
            return False
        was_cancelled = run.status == "cancelling"
        run.status, run.targets = status, frozenset()
        self._lead_on(run, at, may_retry=not was_cancelled)
        return True

    def cancel(self, run: Run, at: datetime) -> str | None:
        if run.status == "queued":
            run.status = "cancelled"
            self._lead_on(run, at)
        elif run.status == "running":
            run.status = "cancelling"
        else:
            return None
        return run.status

    def _lead_on(self, run: Run, at: datetime, *, may_retry: bool = True) -> None:
        job = run.job
        if job.deleted:
            return
        is_failure = run.status in ("failed", "lost") and run.attempt <= job.retry_count
        if is_failure and may_retry and job.kind == "backup" and run.trigger != "command":
            delay = timedelta(minutes=job.retry_delay)
            values = {"parent": run.pk, "attempt": run.attempt + 1, "not_before": at + delay}
            if self.ask(job, "retry", at, **values) is not None:
                return
        if run.status == "skipped" and self.of(job, *OPEN):
            return
        for follower in self.jobs:
            if follower.after == job.name:
                self.ask(follower, "after", at, is_skipped=run.status != "succeeded")
