"""Anything that can happen to a Keepwell but its own cleanups: people, disks, clocks, crashes, old databases."""

from __future__ import annotations

import shutil
import threading
from contextlib import ExitStack
from copy import deepcopy
from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from backups.models import AuditEntry, Backup, BackupJob, BackupRun, BackupRunTarget, Hold, LeasePurpose
from backups.models.options import GUARD_FIELDS
from backups.services.catalogue import backup_accept
from backups.services.options import options_update
from backups.services.protections import backup_lease, backup_pin, backup_unpin, hold_place, hold_release
from backups.services.reconcile import storage_reconcile
from backups.services.restore import DamagedBackupError, backup_restore
from backups.storage import ArtifactMissingError, StorageError
from maintenance.models import MaintenanceRun
from scheduling.choices import OPEN
from scheduling.ledger import runs_recover
from scheduling.models import ClockAnchor
from scheduling.wall_clock import clock_confirm, clock_jump
from tests.proof.checked import DAY, Checked, Saved
from tests.proof.model import Copy, Held, Policy
from tests.proof.wire import Fault
from tests.proof.world import PAIRS, rows

pairs = st.sampled_from(sorted(PAIRS))
storages = st.sampled_from(["nas", "usb"])
picks = st.integers(0, 60)
faults = st.one_of(
    st.none(),
    st.none(),
    st.builds(
        Fault, kind=st.sampled_from(["crash", "crash", "error", "unmount"]), at=st.integers(1, 24), rows=st.booleans()
    ),
)
counts = st.integers(-1, 4)
windows = st.sampled_from(["", "1d", "3d", "20d"])
policies: st.SearchStrategy[Policy] = st.one_of(
    st.sampled_from(
        [{}, {"keep_last": 1}, {"keep_last": 3}, {"keep_daily": 3, "keep_weekly": 2}, {"keep_within": "3d"}]
    ),
    st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(
                ("keep_last", "keep_hourly", "keep_daily", "keep_weekly", "keep_monthly", "keep_yearly"), counts
            ),
            **dict.fromkeys(("keep_within", "keep_within_daily", "keep_within_weekly"), windows),
            "timezone": st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Kolkata"]),
        },
    ),
)


class Happenings(Checked):
    """The steps that others take."""

    @initialize(renames=st.booleans(), policy=policies, limited=st.booleans())
    def begin(self, renames: bool, policy: Policy, limited: bool) -> None:
        self.world.reset()
        self.wire.wrong.clear()
        self.wire.renames = renames
        clock_jump()
        for storage in self.folders:
            files = self.world.files(storage)
            for uid in files.artifacts:
                self._learn(uid, storage, files)
        self.edit_policy(pair="", policy=policy)
        self.edit_options(minimum_keep=1, trash_hours=72, limited=limited)
        self.history = self._history()

    @rule(pair=pairs, gaps=st.lists(st.sampled_from([0.2, 1, 1, 3, 10]), min_size=1, max_size=6))
    def some_days_pass_with_backups(self, pair: str, gaps: list[float]) -> None:
        storage = PAIRS[pair]
        if not self._is_itself(storage):
            return
        deltas = [gap * DAY for gap in gaps]
        made = self.world.add_copies(pair, self.world.now, deltas)
        self.world.now += sum(deltas, timedelta())
        files = self.world.files(storage)
        for backup in made:
            self._learn(backup.uid, storage, files)
        self.changes[storage] += 1

    @rule(pair=pairs, kind=st.sampled_from(["usual", "usual", "small", "failing"]), fault=faults)
    def back_up(self, pair: str, kind: str, fault: Fault | None) -> None:
        self.world.write_source(pair, kind)
        step = self._begin("backup", may_publish=pair)
        known = set(self.truth)
        run = self._run("backup", self.world.jobs[pair].pk, fault)
        self._end(step)
        published = set(self.truth) - known
        assert len(published) <= 1
        listed = set(rows()) - set(self.model.copies)
        assert listed <= published, "a row without its bytes"
        for uid in listed:
            self._register(uid)
        if run is not None and not step.disturbed and run.status != "queued":
            works = kind != "failing" and self._is_itself(PAIRS[pair])
            assert (run.status == "succeeded") == works, run.message
            assert bool(published) == works == bool(listed)
        self.world.now += timedelta(seconds=1)

    @rule(uid=picks)
    def check_bytes(self, uid: int) -> None:
        copy = self._pick(uid, "available", "missing")
        if copy is None:
            return
        truth, target = self.truth[copy.uid], self.world.root / "restored"
        backup = Backup.objects.get(uid=copy.uid)
        in_place = truth.where in ("place", "both")
        shutil.rmtree(target, ignore_errors=True)
        try:
            backup_restore(
                backup=backup,
                destination=target,
                stop=threading.Event(),
                log=lambda *_: None,
                progress=lambda *_: None,
            )
            assert in_place
            assert not truth.tampered
        except DamagedBackupError:
            assert truth.tampered
            copy.state = "quarantined" if copy.state == "available" else copy.state
            copy.verified = copy.verified and copy.state != "quarantined"
        except ArtifactMissingError:
            assert not in_place
            # In the trash it is not lost: the catalogue is then older than the storage.
            copy.state = "missing" if truth.where == "gone" else copy.state
        except StorageError:
            assert not self._is_itself(copy.storage)
        else:
            copy.verified = copy.verified or copy.state == "available"

    @rule(uid=picks)
    def damage(self, uid: int) -> None:
        copy = self._pick(uid, "available")
        if copy is None or self.truth[copy.uid].where != "place" or not self._is_itself(copy.storage):
            return
        path = self.world.files(copy.storage).paths[copy.uid]
        path.write_bytes(self.world.chance.randbytes(path.stat().st_size))
        truth = self.truth[copy.uid]
        truth.digest, truth.tampered = self.world.files(copy.storage).artifacts[copy.uid]["place"], True

    @rule(uid=picks, state=st.sampled_from(["available", "available", "trashed"]))
    def remove_behind_its_back(self, uid: int, state: str) -> None:
        copy = self._pick(uid, state)
        if copy is None or self.truth[copy.uid].where == "both" or not self._is_itself(copy.storage):
            return
        path = self.world.files(copy.storage).paths.get(copy.uid)
        if path is not None:
            path.unlink()
            path.with_name(f"{path.name}.meta.json").unlink(missing_ok=True)
            self.truth[copy.uid].where = "gone"

    def _suspects(self) -> list[Copy]:
        return [copy for copy in self.model.copies.values() if copy.suspect and copy.state == "available"]

    def _pinned(self) -> list[Copy]:
        return [copy for copy in self.model.copies.values() if copy.is_pinned]

    @precondition(lambda self: self._suspects())
    @rule(uid=picks)
    def accept(self, uid: int) -> None:
        suspects = self._suspects()
        copy = suspects[uid % len(suspects)]
        backup_accept(backup=Backup.objects.get(uid=copy.uid), by="anna")
        copy.suspect = False

    @rule(uid=picks, days=st.sampled_from([None, 1, 5, 40]))
    def pin(self, uid: int, days: int | None) -> None:
        copy = self._pick(uid, "available", "trashed", "missing", "quarantined")
        if copy is not None:
            until = None if days is None else self.world.now + days * DAY
            backup_pin(backup=Backup.objects.get(uid=copy.uid), by="anna", until=until)
            copy.is_pinned, copy.pin_until = True, until

    @precondition(lambda self: self._pinned())
    @rule(uid=picks)
    def unpin(self, uid: int) -> None:
        pinned = self._pinned()
        copy = pinned[uid % len(pinned)]
        backup_unpin(backup=Backup.objects.get(uid=copy.uid), by="anna")
        copy.is_pinned, copy.pin_until = False, None

    @rule(
        pair=st.sampled_from([None, *PAIRS]),
        storage=st.sampled_from([None, None, "nas", "usb"]),
        days=st.sampled_from([None, 2, 9]),
    )
    def place_hold(self, pair: str | None, storage: str | None, days: int | None) -> None:
        until = None if days is None else self.world.now + days * DAY
        hold = hold_place(
            by="anna",
            note="investigation",
            target=self.world.targets[pair] if pair else None,
            storage=self.world.storages[storage] if storage else None,
            until=until,
        )
        self.model.holds.append(Held(key=hold.pk, pair=pair or "", storage=storage or "", until=until))

    @precondition(lambda self: self.model.holds)
    @rule(which=picks)
    def release_hold(self, which: int) -> None:
        held = self.model.holds.pop(which % len(self.model.holds))
        hold_release(hold=Hold.objects.get(pk=held.key), by="anna")

    @rule(uid=picks)
    def take_lease(self, uid: int) -> None:
        copy = self._pick(uid, "available", "missing", "quarantined")
        if copy is not None:
            stack = ExitStack()
            stack.enter_context(backup_lease(backup=Backup.objects.get(uid=copy.uid), purpose=LeasePurpose.DOWNLOAD))
            self.leases.setdefault(copy.uid, []).append(stack)
            self.model.leases[copy.uid] = self.model.leases.get(copy.uid, 0) + 1

    @precondition(lambda self: self.leases)
    @rule(which=picks)
    def give_leases_back(self, which: int) -> None:
        self._end_leases(sorted(self.leases)[which % len(self.leases)])

    @rule(pair=st.one_of(st.just(""), pairs), policy=policies)
    def edit_policy(self, pair: str, policy: Policy) -> None:
        if pair:
            BackupJob.objects.filter(pk=self.world.jobs[pair].pk).update(retention=dict(policy))
            self.model.own_policies[pair] = policy
        else:
            options_update(retention=policy)
            self.model.policy = policy

    @rule(minimum_keep=st.sampled_from([1, 1, 2, 4]), trash_hours=st.sampled_from([0, 72]), limited=st.booleans())
    def edit_options(self, minimum_keep: int, trash_hours: int, limited: bool) -> None:
        limits = {"guard_pair_share": 25, "guard_pair_count": 50, "guard_storage_share": 25} if limited else {}
        options_update(minimum_keep=minimum_keep, trash_hours=trash_hours, **{**dict.fromkeys(GUARD_FIELDS), **limits})
        self.model.minimum_keep, self.model.trash_hours = minimum_keep, trash_hours
        self.model.is_limited = limited

    @rule(hours=st.sampled_from([1, 5, 24, 73, 24 * 8, 24 * 35, -20]))
    def time_passes(self, hours: int) -> None:
        self.world.now += timedelta(hours=hours)

    @rule(days=st.sampled_from([400, -400]))
    def clock_jumps(self, days: int) -> None:
        anchor = ClockAnchor.objects.get()
        ClockAnchor.objects.filter(pk=anchor.pk).update(wall=anchor.wall - days * DAY)
        self.model.clock_offset += days * DAY

    @precondition(lambda self: self.model.clock_offset)
    @rule()
    def confirm_clock(self) -> None:
        clock_confirm(by="anna")
        self.model.clock_offset = timedelta()

    @precondition(lambda self: all(map(self._is_itself, self.folders)))
    @rule(storage=storages, leaves_folder=st.booleans())
    def unmount(self, storage: str, leaves_folder: bool) -> None:
        self._take_away(storage, leaves_folder=leaves_folder)

    @precondition(lambda self: all(map(self._is_itself, self.folders)))
    @rule()
    def swap_disks(self) -> None:
        nas, usb, aside = self.world.root / "nas", self.world.root / "usb", self.world.root / "aside"
        nas.rename(aside)
        usb.rename(nas)
        aside.rename(usb)
        self.world.places = {"nas": usb, "usb": nas}
        self.folders = dict.fromkeys(self.folders, "swapped")

    @precondition(lambda self: not all(map(self._is_itself, self.folders)))
    @rule()
    def mount(self) -> None:
        for storage, place in self.world.places.items():
            own = self.world.root / storage
            if self.folders[storage] == "empty":
                assert list(own.iterdir()) == [], "something was written to a mount point"
                own.rmdir()
            if place != own:
                place.rename(self.world.root / f"{storage}-coming")
        for storage in self.world.places:
            own, coming = self.world.root / storage, self.world.root / f"{storage}-coming"
            if coming.exists():
                coming.rename(own)
            self.world.places[storage], self.folders[storage] = own, "there"

    @rule()
    def save_database(self) -> None:
        self.saved = Saved(
            database=self.world.copy_database(),
            model=deepcopy(self.model),
            older=dict(self.older),
            changes=dict(self.changes),
        )

    @precondition(lambda self: self.saved is not None)
    @rule()
    def restore_database(self) -> None:
        assert self.saved is not None
        for uid in list(self.leases):
            self._end_leases(uid)
        self.world.restore_database(self.saved.database)
        self.model = deepcopy(self.saved.model)
        self.model.leases.clear()
        for storage in self.older:
            self.older[storage] = self.saved.older[storage] or self.changes[storage] != self.saved.changes[storage]
        self.ever_restored = self.interrupted = True
        self.history = self._history()

    @precondition(lambda self: self.saved is not None or self.interrupted)
    @rule(storage=storages, fault=faults)
    def reconcile(self, storage: str, fault: Fault | None) -> None:
        step = self._begin("reconcile")
        is_itself = self._is_itself(storage)
        unsettled = set(BackupRunTarget.objects.filter(unsettled=True).values_list("uid", flat=True))
        entries = AuditEntry.objects.filter(action="reconcile", storage_name=storage, backup_uid="")
        before, refused = entries.count(), None
        with self.wire.armed(fault):
            try:
                storage_reconcile(storage=self.world.row(storage), by="anna")
            except StorageError as error:
                refused = error
        # The rows may be as they should be although the process died before it told the storage.
        if entries.count() > before:
            self.older[storage] = False
            assert self.world.epoch_lead(storage) <= 0
            self._reconciled(storage, unsettled)
        self._end(step)
        assert step.disturbed or (refused is None) == is_itself == (entries.count() > before), refused

    @precondition(lambda self: self.interrupted)
    @rule()
    def recover(self) -> None:
        step = self._begin("recover")
        unsettled = set(BackupRunTarget.objects.filter(unsettled=True, active=True).values_list("uid", flat=True))
        unsettled |= set(BackupRunTarget.objects.filter(unsettled=True).values_list("uid", flat=True))
        moving = {uid: row for uid, row in rows().items() if row["state"] in ("deleting", "purging")}
        step.may_purge = {uid for uid, row in moving.items() if row["state"] == "purging"}
        step.may_trash = {uid for uid in moving if self.truth[uid].where == "both"}
        runs_recover()
        self._end(step)
        self.interrupted = not all(map(self._is_itself, self.folders))
        for uid in moving:
            copy = self.model.copies[uid]
            if not self._is_itself(copy.storage):
                continue
            where = {"place": "available", "trash": "trashed", "both": "trashed", "gone": "missing"}
            if copy.state == "purging":
                where |= {"gone": "deleted"}
            copy.state = where[self.truth[uid].where]
            copy.trashed_at = (copy.trashed_at or self.world.now) if copy.state == "trashed" else copy.trashed_at
        for uid in unsettled & set(self.truth) - set(self.model.copies):
            if self._is_itself(self.truth[uid].storage) and self.truth[uid].where == "place":
                self._register(uid)
        for model in (BackupRun, MaintenanceRun):
            assert not model.objects.filter(status__in=OPEN).exclude(status="queued").exists(), "a run is stuck"
        for uid, row in rows().items():
            stuck = row["state"] in ("deleting", "purging") and self._is_itself(self.model.copies[uid].storage)
            assert not stuck, f"{uid} is stuck"
        for storage in self.folders:
            if self._is_itself(storage) and not self.ever_restored:
                assert not self.world.files(storage).parts
