"""What must be true of a Keepwell after each step, whatever the step was."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.db.models import TextField
from django.db.models.functions import Cast
from hypothesis.stateful import RuleBasedStateMachine, invariant

from backups.models import AuditEntry, BackupRun, BackupRunTarget
from maintenance.models import CleanupPlan, MaintenanceRun
from scheduling.choices import TERMINAL, RunTrigger
from scheduling.dispatch import scheduled_dispatch
from scheduling.executing import execute_run
from tests.proof.model import UNTRASH_PIN, Catalogue, Copy
from tests.proof.wire import Fault, Wire
from tests.proof.world import PAIRS, STRANGERS, Files, World, created_of, rows

DAY = timedelta(days=1)
# What an interrupted step may make of a row; of the rest nothing may change.
MAY_BECOME = {
    "cleanup": {"available": {"deleting", "trashed", "missing"}},
    "purge": {"trashed": {"purging", "deleted"}},
    "untrash": {"trashed": {"deleting", "available", "missing"}},
    "recover": {"deleting": {"available", "trashed", "missing"}, "purging": {"trashed", "deleted"}},
    "backup": {},
    "reconcile": {},
}


@dataclass(kw_only=True)
class Truth:
    """One copy as it is, whatever the catalogue says: where its bytes are, and what they are."""

    pair: str
    storage: str
    created: datetime
    size: int
    digest: str
    sidecar: str
    where: str
    trashed_at: datetime | None = None
    tampered: bool = False


@dataclass(kw_only=True)
class Saved:
    """A copy of the database, and what it should hold."""

    database: bytes
    model: Catalogue
    older: dict[str, bool]
    changes: dict[str, int]


@dataclass(kw_only=True)
class Step:
    """What the step that has just been taken was allowed to do."""

    name: str = "look"
    disturbed: bool = False
    may_trash: set[str] = field(default_factory=set)
    may_purge: set[str] = field(default_factory=set)
    may_return: set[str] = field(default_factory=set)
    may_publish: str = ""
    good_before: dict[str, int] = field(default_factory=dict)


class Checked(RuleBasedStateMachine):
    """A real Keepwell beside its model and the truth; rules take the steps, and this looks at what became of them."""

    world: ClassVar[World]
    wire: ClassVar[Wire]

    def __init__(self) -> None:
        super().__init__()
        self.leases: dict[str, list[ExitStack]] = {}
        self.model = Catalogue()
        self.truth: dict[str, Truth] = {}
        self.folders = dict.fromkeys(PAIRS.values(), "there")
        self.older = dict.fromkeys(PAIRS.values(), False)
        self.changes = dict.fromkeys(PAIRS.values(), 0)
        self.saved: Saved | None = None
        self.ever_restored = False
        self.interrupted = False
        self.has_waiting = self.has_queued = self.has_trash = False
        self.step = Step()
        self.history: tuple[dict[str, Any], dict[str, Any]] = ({}, {})

    def teardown(self) -> None:
        for uid in list(self.leases):
            self._end_leases(uid)

    @invariant()
    def everything_is_as_it_should_be(self) -> None:
        self.world.steps += 1
        assert self.wire.wrong == []
        if self.step.name == "look":
            self._look()
        self.step = Step()
        self._compare_rows()
        if self.world.has_written():
            history = self._history()
            for earlier, later in zip(self.history, history, strict=True):
                for key, value in earlier.items():
                    assert key in later, f"{key} is no longer in the history"
                    assert value is None or later[key] == value, f"the history of {key} changed"
            self.history = history
            self.has_waiting = CleanupPlan.objects.filter(status="waiting").exists()
            self.has_queued = MaintenanceRun.objects.filter(status="queued").exists()
        self.has_trash = any(copy.state == "trashed" for copy in self.model.copies.values())

    def _begin(self, name: str, **allowed: Any) -> Step:
        good = {pair: len(self.model.good_of(pair)) for pair in PAIRS}
        self.step = Step(name=name, good_before=good, **allowed)
        return self.step

    def _end(self, step: Step) -> None:
        step.disturbed = self.wire.hit
        self.interrupted = self.interrupted or self.wire.hit
        self.wire.hit = False
        now = self.world.now
        good = {pair: [copy for copy in self.model.good_of(pair) if copy.created <= now] for pair in PAIRS}
        moved = self._look()
        for copies in good.values():
            if step.name == "cleanup" and any(copy.uid in moved for copy in copies):
                left = sum(self.truth[copy.uid].where not in ("trash", "both") for copy in copies)
                assert left >= min(self.model.floor, len(copies)), "R3: too few good copies are left"
        if step.disturbed:
            self._follow(step)

    def _look(self) -> set[str]:
        """Compare the storages with what they were and what the step allowed; returns what went to the trash."""
        step, moved = self.step, set()
        for storage in self.folders:
            files = self.world.files(storage)
            assert files.strangers == STRANGERS, "a stranger's file was touched"
            if self.folders[storage] == "empty":
                assert list((self.world.root / storage).iterdir()) == [], "something was written to a mount point"
            for uid in set(files.artifacts) - set(self.truth):
                assert step.may_publish and PAIRS[step.may_publish] == storage, "a copy from nowhere"
                self._learn(uid, storage, files, listed=False)
                self.changes[storage] += 1
            for uid, truth in self.truth.items():
                if truth.storage == storage and self._moved(uid, truth, files, step):
                    self.changes[storage] += 1
                    moved |= {uid} if truth.where in ("trash", "both") else set()
            if self.older[storage]:
                assert self.world.epoch_lead(storage) > 0, "the database is older, and the storage does not say so"
        return moved

    def _moved(self, uid: str, truth: Truth, files: Files, step: Step) -> bool:
        names = files.artifacts.get(uid, {})
        where = "both" if len(names) == 2 else next(iter(names), "gone")
        assert set(names.values()) <= {truth.digest}, "bytes changed"
        sidecars = set(files.sidecars.get(uid, {}))
        assert set(files.sidecars.get(uid, {}).values()) <= {truth.sidecar}, "a sidecar changed"
        assert where == "gone" or sidecars, "an artifact without its sidecar"
        if step.name != "look" and not step.disturbed and uid in self.model.copies and not self.ever_restored:
            settled = self.model.copies[uid].state not in ("deleting", "purging")
            assert not settled or sidecars == set(names), f"a sidecar is not with its artifact: {sidecars}, {names}"
        if where == truth.where:
            return False
        change = f"{uid} of {truth.pair} went from {truth.where} to {where}"
        if where == "gone":
            assert truth.where == "trash", f"bytes are lost: {change}"
            assert uid in step.may_purge, f"purged although it was not to be: {change}"
            self._assert_audited(uid, "purge")
        elif where in ("trash", "both") and truth.where == "place":
            assert uid in step.may_trash, f"deleted although it was not to be: {change}"
            self._assert_audited(uid, "trash")
            truth.trashed_at = self.world.now
        elif (truth.where, where) == ("both", "trash"):
            assert uid in step.may_trash | step.may_return or step.name == "recover", change
        else:
            assert uid in step.may_return, f"came back although nobody asked: {change}"
            self._assert_audited(uid, "untrash")
        truth.where = where
        return True

    def _assert_audited(self, uid: str, action: str) -> None:
        """R21."""
        row = rows()[uid]
        entry = AuditEntry.objects.filter(backup_uid=uid, action=action).first()
        assert entry is not None, f"no audit entry says {action} of {uid}"
        assert (entry.size, entry.sha256) == (row["size"], row["sha256"])
        assert entry.actor
        assert entry.reason or action == "purge"

    def _follow(self, step: Step) -> None:
        """Take over what an interrupted step made of the rows it was about; of others it may have changed nothing."""
        may = {"cleanup": step.may_trash, "purge": step.may_purge, "untrash": step.may_return}.get(step.name)
        for uid, row in rows().items():
            copy = self.model.copies.get(uid)
            if copy is None or copy.state == row["state"]:
                continue
            allowed = MAY_BECOME[step.name].get(copy.state, set())
            assert row["state"] in allowed, f"{uid} became {row['state']} of {copy.state}"
            found_gone = step.name == "cleanup" and row["state"] == "missing" and self.truth[uid].where == "gone"
            assert may is None or uid in may or found_gone
            copy.state, copy.trashed_at = row["state"], row["trashed_at"]

    def _compare_rows(self) -> None:
        found = rows()
        assert set(found) == set(self.model.copies)
        for uid, row in found.items():
            copy, truth = self.model.copies[uid], self.truth[uid]
            shown = (
                row["state"],
                bool(row["suspect_reason"]) and row["accepted_at"] is None,
                row["verified_at"] is not None,
                row["pinned_at"] is not None,
                row["pin_until"],
            )
            expected = (copy.state, copy.suspect, copy.verified, copy.is_pinned, copy.pin_until)
            assert shown == expected, f"{uid}: the row says {shown}, and it should be {expected}; {truth}"
            if copy.state == "trashed":
                assert row["trashed_at"] == copy.trashed_at
            if self.older[copy.storage] or truth.where == "gone":
                continue
            places = {"available": "place", "quarantined": "place", "trashed": "trash", "missing": "", "deleted": ""}
            if copy.state in places:
                assert truth.where == places[copy.state], f"{uid} is {copy.state} and its bytes are in {truth.where}"

    def _history(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Every run and every tombstone; values are those that may not change any more."""
        runs: dict[str, Any] = {}
        for model in (BackupRun, MaintenanceRun):
            said = model.objects.order_by().values_list(
                "pk", "status", "outcome", "message", Cast("result_json", TextField())
            )
            for pk, status, *rest in said:
                runs[f"{model.KIND}:{pk}"] = (status, *rest) if status in TERMINAL else None
        for pk, digest in CleanupPlan.objects.filter(run__isnull=False).values_list("pk", "digest"):
            runs[f"plan:{pk}"] = digest
        backups = {uid: "deleted" if row["state"] == "deleted" else None for uid, row in rows().items()}
        return runs, backups

    def _pick(self, which: int, *states: str) -> Copy | None:
        found = [copy for copy in self.model.copies.values() if copy.state in states]
        return found[which % len(found)] if found else None

    def _is_itself(self, storage: str) -> bool:
        return self.folders[storage] == "there"

    def _is_closed(self, storage: str) -> bool:
        """R9, R11 and R12: nothing may be deleted there now."""
        return (
            not self._is_itself(storage)
            or self.older[storage]
            or self.world.epoch_lead(storage) > 0
            or self.model.has_jumped
        )

    def _is_blocked(self, pair: str) -> bool:
        """Also R22: a new copy is being made, or was when its process died."""
        under_way = BackupRunTarget.objects.filter(
            run__job=self.world.jobs[pair], active=True, status__in=("pending", "running")
        )
        return self._is_closed(PAIRS[pair]) or under_way.exists()

    def _take_away(self, storage: str, *, leaves_folder: bool) -> None:
        own, away = self.world.root / storage, self.world.root / f"{storage}-away"
        own.rename(away)
        self.world.places[storage], self.folders[storage] = away, "away"
        if leaves_folder:
            own.mkdir()
            self.folders[storage] = "empty"

    def unmount_at(self, path: Any) -> None:
        """Take away the storage that `path` lies in, while Keepwell is at work there."""
        for storage in self.folders:
            own = self.world.root / storage
            if self._is_itself(storage) and path.is_relative_to(own):
                self._take_away(storage, leaves_folder=False)

    def _learn(self, uid: str, storage: str, files: Files, *, listed: bool = True) -> None:
        path = files.paths[uid]
        sidecar = path.with_name(f"{path.name}.meta.json")
        said = json.loads(sidecar.read_bytes())
        pair = said["target"]["name"]
        digests = files.artifacts[uid]
        assert PAIRS[pair] == storage
        assert (said["size"], said["sha256"]) == (path.stat().st_size, digests["place"])
        self.truth[uid] = Truth(
            pair=pair,
            storage=storage,
            created=created_of(path),
            size=said["size"],
            digest=digests["place"],
            sidecar=files.sidecars[uid]["place"],
            where="place",
        )
        if listed:
            self.model.copies[uid] = self._copy(uid)

    def _copy(self, uid: str) -> Copy:
        truth = self.truth[uid]
        return Copy(uid=uid, pair=truth.pair, storage=truth.storage, created=truth.created, size=truth.size)

    def _register(self, uid: str) -> None:
        copy = self._copy(uid)
        copy.suspect = self.model.is_suspect(copy.pair, copy.created, copy.size)
        self.model.copies[uid] = copy

    def _reconciled(self, storage: str, unsettled: Iterable[str]) -> None:
        """What comparing the catalogue with a storage makes of the catalogue."""
        for copy in self.model.copies.values():
            if copy.storage == storage and copy.state not in ("deleting", "purging", "deleted"):
                self._put_where_it_is(copy)
        unlisted = [uid for uid in self.truth if uid not in self.model.copies and uid not in unsettled]
        for uid in sorted(unlisted, key=lambda uid: (self.truth[uid].created, uid)):
            truth = self.truth[uid]
            if truth.storage != storage or truth.where == "gone":
                continue
            if truth.where == "trash":
                self.model.copies[uid] = self._copy(uid)
                self._put_where_it_is(self.model.copies[uid])
            else:
                self._register(uid)

    def _put_where_it_is(self, copy: Copy) -> None:
        where = self.truth[copy.uid].where
        if where in ("place", "both"):
            if copy.state == "trashed":
                self._keep_for_now(copy)
            if copy.state in ("trashed", "missing"):
                copy.state, copy.trashed_at = "available", None
        elif where == "trash" and copy.state != "trashed":
            copy.state, copy.trashed_at = "trashed", self.world.now
        elif where == "gone":
            copy.state = "missing"

    def _keep_for_now(self, copy: Copy) -> None:
        until = self.world.now + UNTRASH_PIN
        if not copy.is_pinned_at(until):
            copy.is_pinned, copy.pin_until = True, until

    def _end_leases(self, uid: str) -> None:
        for stack in self.leases.pop(uid):
            stack.close()
        self.model.leases.pop(uid, None)

    def _maintain(self, key: str, fault: Fault | None, **request: Any) -> MaintenanceRun | None:
        run = self._run("maintenance", self.world.maintenance[key].pk, fault, **request)
        assert run is None or isinstance(run, MaintenanceRun)
        return run

    def _run(self, kind: str, job: int, fault: Fault | None, **request: Any) -> Any:
        done = []
        with self.wire.armed(fault):
            run = scheduled_dispatch(
                kind, job, inline=True, trigger=RunTrigger.COMMAND, now=self.world.clock, **request
            )
            done.append(run)
        return done[0] if done else None

    def _execute(self, run: MaintenanceRun, fault: Fault | None) -> MaintenanceRun | None:
        done = []
        with self.wire.armed(fault):
            done.append(execute_run("maintenance", run.pk, now=self.world.clock))
        assert not done or done[0] is None or isinstance(done[0], MaintenanceRun)
        return done[0] if done else None
