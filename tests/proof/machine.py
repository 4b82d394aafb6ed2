"""Cleanups, approvals, the trash and undo, in any order with anything else that can happen."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from django.core.exceptions import ValidationError
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from backups.models import Backup
from backups.services.trash import backups_untrash
from maintenance.approvals import (
    PlanChangedError,
    plan_approve,
    plan_confirm,
    plan_preview,
    plan_reject,
    plans_waiting,
)
from maintenance.models import CleanupPlan, MaintenanceRun
from maintenance.plans import run_replay
from scheduling.choices import RunTrigger
from tests.proof.happenings import Happenings, faults, pairs, picks
from tests.proof.model import UNTRASH_PIN, Copy, is_over_limit
from tests.proof.wire import Fault
from tests.proof.world import PAIRS, rows


class KeepwellMachine(Happenings):
    """The steps that Keepwell takes itself, or is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.preview: tuple[str, str, dict[str, set[str]]] | None = None

    @rule(fault=faults)
    def clean_up(self, fault: Fault | None) -> None:
        self._clean_up(lambda: self._maintain("retention_cleanup_nightly", fault), set(PAIRS))

    @rule()
    def clean_up_undisturbed(self) -> None:
        self.clean_up(fault=None)

    @rule(hours=st.sampled_from([24, 73]))
    def a_night_passes(self, hours: int) -> None:
        self.world.now += timedelta(hours=hours)
        self.clean_up(fault=None)
        self.empty_trash(fault=None)

    @rule(pair=pairs, fault=faults)
    def clean_up_one_pair(self, pair: str, fault: Fault | None) -> None:
        if self._waiting_run() is not None:
            # A request by hand is given the run that waits, whatever that is for.
            self.start_what_waits(fault=fault)
            return
        params = {"job_id": self.world.jobs[pair].pk, "target_id": self.world.targets[pair].pk}
        self._clean_up(lambda: self._maintain("retention_cleanup_manual", fault, params=params), {pair})

    @rule()
    def show_preview(self) -> None:
        plan, found = plan_preview(by="anna")
        shown = {}
        for planned in found.plans:
            pair = planned.pair.target_name
            shown[pair] = {backup.uid for backup in planned.to_delete}
            assert shown[pair] == self.model.doomed(pair, self.world.now)
        self.preview = (plan.uid, plan.digest, shown)

    @precondition(lambda self: self.preview is not None)
    @rule(approve=st.booleans(), fault=faults)
    def confirm_preview(self, approve: bool, fault: Fault | None) -> None:
        assert self.preview is not None
        uid, digest, shown = self.preview
        self.preview = None
        now_doomed = {pair: self.model.doomed(pair, self.world.now) for pair in shown}
        try:
            run = plan_confirm(uid=uid, digest=digest, by="anna", trigger=RunTrigger.MANUAL, approve=approve)
        except (PlanChangedError, ValidationError):
            return
        assert shown == now_doomed, "another plan than the one that was shown"
        self._clean_up(lambda: self._execute(run, fault), set(shown), approved=approve)

    @precondition(lambda self: self.has_waiting)
    @rule(fault=faults)
    def approve(self, fault: Fault | None) -> None:
        plan = plans_waiting().first()
        if plan is None:
            return
        stopped = [pair for pair in plan.pairs.all() if pair.stops]
        shown = {
            pair.target_name: {entry["uid"] for entry in pair.document["verdicts"] if not entry["keep"]}
            for pair in stopped
        }
        try:
            run = plan_approve(plan=plan, digest=plan.digest, by="anna", trigger=RunTrigger.MANUAL)
        except ValidationError:
            return
        if any(stop["kind"] == "clock" for pair in stopped for stop in pair.stops):
            self.model.clock_offset = timedelta()
        self._clean_up(lambda: self._execute(run, fault), set(shown), approved=True, shown=shown)

    @precondition(lambda self: self.has_queued)
    @rule(fault=faults)
    def start_what_waits(self, fault: Fault | None) -> None:
        """What the scheduler does with a run by hand that was recorded, and whose process died before it began."""
        run = self._waiting_run()
        if run is None:
            return
        plan = CleanupPlan.objects.filter(uid=run.params.get("plan", "")).first()
        one_pair = {pair for pair, target in self.world.targets.items() if target.pk == run.params.get("target_id")}
        approved = plan is not None and plan.status == "approved"
        self._clean_up(lambda: self._execute(run, fault), one_pair or set(PAIRS), approved=approved)

    @precondition(lambda self: self.has_waiting)
    @rule()
    def reject(self) -> None:
        plan = plans_waiting().first()
        if plan is not None:
            plan_reject(plan=plan, digest=plan.digest, by="anna")

    def _waiting_run(self) -> MaintenanceRun | None:
        by_hand = self.world.maintenance["retention_cleanup_manual"]
        return MaintenanceRun.objects.filter(job=by_hand, status="queued").first()

    def _clean_up(
        self,
        work: Callable[[], MaintenanceRun | None],
        among: set[str],
        *,
        approved: bool = False,
        shown: dict[str, set[str]] | None = None,
    ) -> None:
        now, model = self.world.now, self.model
        among = {pair for pair in among if any(copy.state != "deleted" for copy in model.of_pair(pair))}
        vanished = self._vanish(among)
        doomed = {pair: model.doomed(pair, now) for pair in among}
        blocked = {pair for pair in among if self._is_blocked(pair)}
        free = {pair: uids for pair, uids in doomed.items() if pair not in blocked}
        step = self._begin("cleanup", may_trash=set().union(*free.values()) if free else set())
        run = work()
        before = {uid: self.truth[uid].where for uids in doomed.values() for uid in uids}
        self._settle_vanished(vanished, among if self._is_done(run) else set())
        self._end(step)
        gone = {
            pair: {uid for uid in uids if before[uid] != "trash" and self.truth[uid].where == "trash"}
            for pair, uids in doomed.items()
        }
        if not approved:
            self._assert_within_limits(gone)
        for pair, uids in gone.items():
            assert shown is None or not uids or doomed[pair] == shown[pair], "another plan than the one approved"
        if run is None or step.disturbed or run.status == "queued":
            for pair in among:
                model.cleaned[pair] = model.cleaned.get(pair) or now
            return
        stops: dict[str, set[str]] = {}
        for stop in run.result_json["stops"]:
            stops.setdefault(stop["pair"].rpartition(" / ")[2], set()).add(stop["kind"])
        for pair, uids in doomed.items():
            absent = {uid for uid in uids if before[uid] == "gone"}
            self._assert_as_planned(
                pair, uids - absent, gone[pair], is_blocked=pair in blocked, stops=stops.get(pair, set())
            )
            if pair not in stops and pair not in blocked:
                self._cleaned(absent, gone[pair])
            had_nothing_to_do = not uids and self._is_itself(PAIRS[pair])
            is_whole = pair not in stops and (had_nothing_to_do or (pair not in blocked and not absent))
            model.cleaned[pair] = now if is_whole else None
        if any(uids and uids != gone[pair] for pair, uids in doomed.items()):
            assert run.status == "failed" or run.outcome in ("warning", "needs_approval"), "failed in silence"
        for replayed in run_replay(run):
            assert replayed.differences == ()

    def _vanish(self, among: set[str]) -> list[Copy]:
        """The copies that are gone, where their storage is there to be looked through; those of `among` are said to
        be missing.
        """
        vanished = [
            copy
            for copy in self.model.copies.values()
            if copy.state == "available" and self.truth[copy.uid].where == "gone" and self._is_itself(copy.storage)
        ]
        for copy in vanished:
            copy.state = "missing" if copy.pair in among else copy.state
        return vanished

    def _is_done(self, run: MaintenanceRun | None) -> bool:
        return run is not None and not self.wire.hit and run.status != "queued"

    def _settle_vanished(self, vanished: list[Copy], looked_at: set[str]) -> None:
        """R4: what a cleanup looked at and is not there has to be missing; of the rest the rows say what was found."""
        found = rows()
        for copy in vanished:
            is_missing = found[copy.uid]["state"] == "missing"
            assert is_missing or copy.pair not in looked_at, f"nobody noticed that {copy.uid} is gone"
            copy.state = "missing" if is_missing and looked_at else "available"

    def _assert_as_planned(
        self, pair: str, doomed: set[str], gone: set[str], *, is_blocked: bool, stops: set[str]
    ) -> None:
        if is_blocked:
            assert not gone, f"deleted although {pair} was not to be touched"
        elif not stops:
            assert gone == doomed, "the survivors are not those of the policy"
        else:
            assert self.model.is_limited or "changed" in stops, stops
            assert not gone

    def _cleaned(self, absent: set[str], gone: set[str]) -> None:
        for uid in absent:
            self.model.copies[uid].state = "missing"
        for uid in gone:
            self.model.copies[uid].state, self.model.copies[uid].trashed_at = "trashed", self.world.now

    def _assert_within_limits(self, gone: dict[str, set[str]]) -> None:
        """R7: of each pair and of each storage at most a quarter, beyond what came in."""
        if not self.model.is_limited:
            return
        excesses = {pair: self.model.excess(pair, len(uids), self.world.now) for pair, uids in gone.items()}
        for pair, excess in excesses.items():
            assert not is_over_limit(excess, self.step.good_before[pair]), "over the blast radius of a pair"
        for storage in self.folders:
            mine = [pair for pair in excesses if PAIRS[pair] == storage]
            good = sum(self.step.good_before[pair] for pair in mine)
            excess = sum(excesses[pair] for pair in mine)
            assert excess <= max(2, good // 4), "over the blast radius of a storage"

    @precondition(lambda self: self.has_trash)
    @rule(fault=faults)
    def empty_trash(self, fault: Fault | None) -> None:
        may = {
            uid
            for storage in self.folders
            if not self._is_closed(storage)
            for uid in self.model.due(storage, self.world.now)
        }
        step = self._begin("purge", may_purge=may)
        run = self._maintain("purge_trash", fault)
        self._end(step)
        if run is not None and not step.disturbed:
            for uid in may:
                assert self.truth[uid].where in ("gone", "place"), "what was due is still there"
                self.model.copies[uid].state = "deleted"

    @precondition(lambda self: self.has_trash)
    @rule(uids=st.lists(picks, min_size=1, max_size=4), fault=faults)
    def undo(self, uids: list[int], fault: Fault | None) -> None:
        chosen = {copy.uid: copy for uid in uids if (copy := self._pick(uid, "trashed")) is not None}
        self._undo(list(chosen.values()), fault)

    @precondition(lambda self: self.has_trash)
    @rule(fault=faults)
    def undo_all(self, fault: Fault | None) -> None:
        self._undo([copy for copy in self.model.copies.values() if copy.state == "trashed"], fault)

    def _undo(self, copies: list[Copy], fault: Fault | None) -> None:
        if not copies:
            return
        step = self._begin("untrash", may_return={copy.uid for copy in copies})
        before = {copy.uid: self.truth[copy.uid].where for copy in copies}
        with self.wire.armed(fault):
            backups_untrash(backups=list(Backup.objects.filter(uid__in=before)), by="anna", now=self.world.now)
        self._end(step)
        found = rows()
        for copy in copies:
            if self._is_itself(copy.storage) and not step.disturbed:
                copy.state = "missing" if before[copy.uid] == "gone" else "available"
                copy.trashed_at = None if copy.state == "available" else copy.trashed_at
                self._keep_for_now(copy)
            elif step.disturbed and found[copy.uid]["pin_until"] == self.world.now + UNTRASH_PIN:
                copy.is_pinned, copy.pin_until = True, found[copy.uid]["pin_until"]
