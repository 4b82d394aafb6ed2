"""The run ledger under everything that can happen to it in any order, beside a model of it."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from django.utils import timezone
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from backups.models import BackupJob, BackupRun, BackupRunTarget
from maintenance.models import MaintenanceJob, MaintenanceRun
from scheduling import holders
from scheduling.choices import RunStatus, RunTrigger
from scheduling.context import RunResult
from scheduling.dispatch import scheduled_dispatch
from scheduling.job_rules import pause_all, resume_all
from scheduling.keeper import LiveRun, leases_renew
from scheduling.ledger import run_cancel, run_claim, run_finish, runs_mark_lost
from scheduling.models import Pause
from scheduling.registry import get_kind
from scheduling.run_log import RunLog
from scheduling.stopping import LEASE_SECONDS, StopReason, StopSignal
from tests.factories import BackupJobFactory, MaintenanceJobFactory, TargetFactory
from tests.proof.ledger_model import ACTIVE, OPEN, TERMINAL, Job, Ledger, Run

START = datetime(2026, 11, 24, 3, tzinfo=UTC)
OTHER_HOST = "f" * 16
TABLES: dict[str, Any] = {"backup": BackupRun, "maintenance": MaintenanceRun}
JOBS: dict[str, Any] = {"backup": BackupJob, "maintenance": MaintenanceJob}
# Which jobs there are, what they share, and after which other each may be told to run.
PLAN = {
    "etc": ("backup", {"etc"}, ""),
    "all": ("backup", {"etc", "www"}, "etc"),
    "www": ("backup", {"www"}, "all"),
    "clean": ("maintenance", set(), "etc"),
    "purge": ("maintenance", set(), "all"),
}
jobs = st.sampled_from(sorted(PLAN))
picks = st.integers(0, 200)
minutes = st.sampled_from([0, 0, 1, 5, 60])


@dataclass(eq=False, kw_only=True)
class Holder:
    """A process at a run: of this host with a real file lock, or of another host."""

    model: Run
    row: Any
    lock: ExitStack
    is_local: bool
    lease_until: datetime
    is_dead: bool = False


class LedgerMachine(RuleBasedStateMachine):
    clock: ClassVar[list[datetime]] = [START]
    steps: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.clock[0] = START
        for table in (*TABLES.values(), *JOBS.values(), Pause):
            table.objects.all().delete()
        targets = {name: TargetFactory() for name in ("etc", "www")}
        self.rows: dict[str, Any] = {}
        for name, (kind, wanted, _) in PLAN.items():
            self.rows[name] = (
                BackupJobFactory(schedule="* * * * *", targets=[targets[target] for target in sorted(wanted)])
                if kind == "backup"
                else MaintenanceJobFactory(schedule_cron="* * * * *")
            )
        self.ledger = Ledger(
            jobs=[Job(name=name, kind=kind, targets=frozenset(wanted)) for name, (kind, wanted, _) in PLAN.items()]
        )
        self.holders: list[Holder] = []
        self.fired: set[tuple[str, datetime]] = set()
        self.over: dict[tuple[str, int], dict[str, Any]] = {}
        for name, (_, _, before) in PLAN.items():
            self._edit(name, retry_count=1, retry_delay=10 if name == "etc" else 0, after=before)

    def teardown(self) -> None:
        for holder in self.holders:
            holder.lock.close()

    # --- What people and the clock ask for ---

    @rule(name=jobs, ago=minutes)
    def fire(self, name: str, ago: int) -> None:
        slot = self.now.replace(second=0, microsecond=0) - timedelta(minutes=ago)
        run = self._ask(name, "schedule", slot=slot)
        if run is not None:
            self.fired.add((name, slot))

    @rule(name=jobs, trigger=st.sampled_from(["manual", "api", "command"]))
    def by_hand(self, name: str, trigger: str) -> None:
        self._ask(name, trigger)

    @rule(pick=picks)
    def again(self, pick: int) -> None:
        run = self._pick(pick)
        if run is not None and not run.job.deleted:
            self._ask(run.job.name, "manual", parent=self._row(run))

    @rule(pick=picks)
    def cancel_and_see_it_fail(self, pick: int) -> None:
        """Before it has heard of that."""
        at_work = [holder for holder in self.holders if holder.model.status == "running" and not holder.is_dead]
        if at_work:
            holder = at_work[pick % len(at_work)]
            run = holder.model
            assert run_cancel(kind=get_kind(run.job.kind), run_id=run.pk, by="anna") == self.ledger.cancel(
                run, self.now
            )
            self._finish(holder, "failed")

    @rule(pick=picks, values=st.sampled_from([{"enabled": False}, {"retry_count": 0}, {"retry_delay": 10}]))
    def change_and_see_it_fail(self, pick: int, values: dict[str, Any]) -> None:
        """What follows goes by the job as it is then."""
        at_work = [holder for holder in self.holders if holder.model.status == "running" and not holder.is_dead]
        if at_work:
            holder = at_work[pick % len(at_work)]
            self._edit(holder.model.job.name, **values)
            self._finish(holder, "failed")

    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        run = self._pick(pick)
        if run is not None:
            said = run_cancel(kind=get_kind(run.job.kind), run_id=run.pk, by="anna")
            assert said == self.ledger.cancel(run, self.now)

    # --- What processes do ---

    @rule(pick=picks, is_local=st.booleans())
    def claim(self, pick: int, is_local: bool) -> None:
        run = self._pick(pick)
        if run is not None:
            self._claim(run, is_local)

    def _claim(self, run: Run, is_local: bool) -> None:
        lock = ExitStack()
        holder = lock.enter_context(holders.hold())
        row: Any = run_claim(kind=get_kind(run.job.kind), run_id=run.pk, holder=holder, now=self.read_clock)
        assert (row is not None) == self.ledger.claim(run, self.now)
        if row is None:
            lock.close()
            return
        if not is_local:
            row.host, row.holder = OTHER_HOST, f"{OTHER_HOST}.{row.pk}"
            TABLES[run.job.kind].objects.filter(pk=row.pk).update(host=row.host, holder=row.holder)
        lease = self.now + timedelta(seconds=LEASE_SECONDS)
        self.holders.append(Holder(model=run, row=row, lock=lock, is_local=is_local, lease_until=lease))

    @rule(pick=picks, is_local=st.booleans())
    def claim_what_waits(self, pick: int, is_local: bool) -> None:
        waiting = [run for run in self.ledger.runs if run.status == "queued"]
        if waiting:
            self._claim(waiting[pick % len(waiting)], is_local)

    @rule(pick=picks, status=st.sampled_from(["succeeded", "succeeded", "failed", "failed", "cancelled"]))
    def finish(self, pick: int, status: str) -> None:
        """Also by a process that was called lost meanwhile: it can change nothing."""
        holder = self._holder(pick)
        if holder is not None and not (holder.is_dead and holder.is_local):
            self._finish(holder, status)

    def _finish(self, holder: Holder, status: str) -> None:
        run = holder.model
        closed = run_finish(
            kind=get_kind(run.job.kind),
            run=holder.row,
            status=RunStatus(status),
            result=RunResult(message=f"It {status}."),
            now=self.read_clock,
        )
        assert closed == self.ledger.end(run, status, self.now)
        self._leave(holder)

    @rule(pick=picks)
    def an_old_fence_changes_nothing(self, pick: int) -> None:
        holder = self._holder(pick)
        if holder is not None:
            holder.row.fence -= 1
            kind, result = get_kind(holder.model.job.kind), RunResult(message="late")
            assert not run_finish(kind=kind, run=holder.row, status=RunStatus.FAILED, result=result)
            holder.row.fence += 1

    @rule(pick=picks)
    def process_dies(self, pick: int) -> None:
        holder = self._holder(pick)
        if holder is not None:
            holder.lock.close()
            holder.is_dead = True

    @rule()
    def processes_renew_their_leases(self) -> None:
        for holder in self.holders:
            if holder.is_dead:
                continue
            kind = get_kind(holder.model.job.kind)
            stop = StopSignal()
            live = LiveRun(kind=kind, run=holder.row, stop=stop, run_log=RunLog(log_model=kind.log_model, run_id=0))
            leases_renew([live])
            # Of a run that was called lost its process is to hear, and it is in nobody's care here.
            assert stop.reason in (None, StopReason.LEASE)
            if holder.model.status in ACTIVE:
                holder.lease_until = self.now + timedelta(seconds=LEASE_SECONDS)

    @rule()
    def look_for_the_lost(self) -> None:
        lost = [holder for holder in self.holders if holder.model.status in ACTIVE and self._is_lost(holder)]
        assert runs_mark_lost() == len(lost)
        order = list(TABLES)
        for holder in sorted(
            lost, key=lambda lost: (order.index(lost.model.job.kind), -lost.row.queued_at.timestamp(), -lost.row.pk)
        ):
            assert self.ledger.end(holder.model, "lost", self.now)

    @rule(seconds=st.sampled_from([1, 20, 59, 61, 600, 4000]))
    def time_passes(self, seconds: int) -> None:
        self.clock[0] += timedelta(seconds=seconds)

    # --- What people change ---

    @rule(name=jobs, minutes=st.sampled_from([0, 1, 30]))
    def pause(self, name: str, minutes: int) -> None:
        self._edit(name, paused_until=self.now + timedelta(minutes=minutes))

    @rule(minutes=st.sampled_from([1, 30]))
    def pause_everything(self, minutes: int) -> None:
        self.ledger.paused_until = self.now + timedelta(minutes=minutes)
        pause_all(until=self.ledger.paused_until, by="anna")

    @rule()
    def resume_everything(self) -> None:
        resume_all()
        self.ledger.paused_until = None

    @rule(
        name=jobs,
        enabled=st.sampled_from([True, True, False]),
        overlap=st.sampled_from(["queue", "skip"]),
        retry_count=st.sampled_from([0, 1, 3]),
        retry_delay=st.sampled_from([0, 10]),
        follows=st.booleans(),
    )
    def edit(self, name: str, enabled: bool, overlap: str, retry_count: int, retry_delay: int, follows: bool) -> None:
        self._edit(
            name,
            enabled=enabled,
            overlap=overlap,
            retry_count=retry_count,
            retry_delay=retry_delay,
            after=PLAN[name][2] if follows else "",
        )

    @rule(name=jobs, pick=st.integers(0, 3))
    def delete(self, name: str, pick: int) -> None:
        """Past the service, which refuses while it runs: what was claimed goes on, what waits has no job."""
        job = self._job(name)
        if pick == 0 and not job.deleted:
            JOBS[job.kind].objects.filter(pk=self.rows[name].pk).delete()
            job.deleted, job.after = True, ""

    # --- What holds after every step ---

    @invariant()
    def the_tables_are_as_the_model_says(self) -> None:
        found = {
            kind: {row["id"]: row for row in table.objects.order_by("pk").values()} for kind, table in TABLES.items()
        }
        for kind, rows in found.items():
            mine = [run for run in self.ledger.runs if run.job.kind == kind]
            known = {run.pk for run in mine if run.pk}
            new = [pk for pk in rows if pk not in known]
            for run, pk in zip([run for run in mine if not run.pk], new, strict=True):
                run.pk = pk
            assert set(rows) == {run.pk for run in mine}
            for run in mine:
                self._assert_same(run, rows[run.pk])
        self.steps["steps"] += 1

    @invariant()
    def targets_are_held_by_the_runs_at_work_and_by_no_other(self) -> None:
        held = BackupRunTarget.objects.filter(active=True).values_list("run_id", flat=True)
        assert Counter(held) == Counter(
            {run.pk: len(run.targets) for run in self.ledger.runs if run.status in ACTIVE and run.targets}
        )

    @invariant()
    def every_fire_has_its_one_row(self) -> None:
        slots = Counter((run.job.name, run.slot) for run in self.ledger.runs if run.slot is not None)
        assert slots == Counter(self.fired)

    @invariant()
    def one_run_of_a_job_is_at_work_and_one_waits(self) -> None:
        for job in self.ledger.jobs:
            if not job.deleted:
                runs = TABLES[job.kind].objects.filter(job=self.rows[job.name].pk)
                assert runs.active().count() <= 1
                assert runs.queued().count() <= 1

    def _assert_same(self, run: Run, row: dict[str, Any]) -> None:
        expected = (run.status, run.trigger, run.slot, run.attempt, run.fence, run.not_before)
        assert expected == tuple(row[name] for name in ("status", "trigger", "slot", "attempt", "fence", "not_before"))
        assert run.parent == row["parent_id"]
        assert (row["finished_at"] is None) == (run.status not in TERMINAL)
        assert run.status != "skipped" or row["message"], "skipped without a reason"
        if run.status in TERMINAL:
            del row["job_id"]
            assert self.over.setdefault((run.job.kind, run.pk), row) == row, "a run that was over has changed"

    # --- Small things ---

    @property
    def now(self) -> datetime:
        return self.clock[0]

    def read_clock(self) -> datetime:
        return self.clock[0]

    def _ask(self, name: str, trigger: str, **values: Any) -> Any:
        job = self._job(name)
        self.steps[trigger] += 1
        made = scheduled_dispatch(
            job.kind, self.rows[name].pk, trigger=RunTrigger(trigger), now=self.read_clock, **values
        )
        parent = values.pop("parent", None)
        if parent is not None:
            values["parent"] = parent.pk
        expected = self.ledger.ask(job, trigger, self.now, **values)
        assert (made is None) == (expected is None)
        if made is not None and expected is not None:
            assert expected.pk in (0, made.pk), "another run than the one that should be"
        return made

    def _edit(self, name: str, **values: Any) -> None:
        job = self._job(name)
        if job.deleted:
            return
        for field, value in values.items():
            setattr(job, field, value)
        if "after" in values:
            before = values.pop("after")
            values["run_after"] = f"backup:{self.rows[before].pk}" if before else ""
        JOBS[job.kind].objects.filter(pk=self.rows[name].pk).update(**values)

    def _job(self, name: str) -> Job:
        return next(job for job in self.ledger.jobs if job.name == name)

    def _pick(self, pick: int) -> Run | None:
        """Any run, more often one that is not over."""
        runs = [run for run in self.ledger.runs if run.status in OPEN] if pick % 4 else self.ledger.runs
        return runs[pick // 4 % len(runs)] if runs else None

    def _holder(self, pick: int) -> Holder | None:
        return self.holders[pick % len(self.holders)] if self.holders else None

    def _row(self, run: Run) -> Any:
        return TABLES[run.job.kind].objects.get(pk=run.pk)

    def _is_lost(self, holder: Holder) -> bool:
        return holder.is_dead if holder.is_local else holder.lease_until < timezone.now()

    def _leave(self, holder: Holder) -> None:
        holder.lock.close()
        self.holders.remove(holder)
