"""Two or more at the same run at the same moment, each on a connection of its own."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from backups.models import BackupRunTarget
from scheduling.choices import OPEN, TERMINAL, RunStatus, RunTrigger
from scheduling.dispatch import run_again
from scheduling.ledger import run_cancel, runs_mark_lost
from scheduling.registry import get_kind
from tests.factories import BackupJobFactory, TargetFactory
from tests.scheduling.engine import KINDS, all_at_once, ask, carried_out, claim, finish, make_job, record

pytestmark = pytest.mark.django_db(transaction=True)
ROUNDS = 15


def cancel(run: Any, by: str = "anna") -> RunStatus | None:
    return run_cancel(kind=get_kind(run.kind), run_id=run.pk, by=by)


@pytest.mark.parametrize("kind", KINDS)
def test_of_a_claim_and_a_cancel_both_are_true_to_what_they_say(kind: str) -> None:
    seen: Counter[str] = Counter()
    for _ in range(ROUNDS):
        run, said = ask(make_job(kind)), {}
        works: list[Callable[[], Any]] = [
            lambda run=run, said=said: said.update(claimed=claim(run)),
            lambda run=run, said=said: said.update(cancelled=cancel(run)),
        ]
        random.shuffle(works)
        all_at_once(works)
        run.refresh_from_db()
        if said["claimed"] is None:
            assert (said["cancelled"], run.status, run.fence) == (RunStatus.CANCELLED, RunStatus.CANCELLED, 0)
        else:
            assert (said["cancelled"], run.status, run.fence) == (RunStatus.CANCELLING, RunStatus.CANCELLING, 1)
        seen[run.status] += 1
    assert sum(seen.values()) == ROUNDS


@pytest.mark.parametrize("kind", KINDS)
def test_of_a_finish_and_a_cancel_the_finish_always_counts(kind: str) -> None:
    for _ in range(ROUNDS):
        run, said = claim(ask(make_job(kind, retry_count=1))), {}
        works: list[Callable[[], Any]] = [
            lambda run=run, said=said: said.update(finished=finish(run, RunStatus.FAILED)),
            lambda run=run, said=said: said.update(cancelled=cancel(run)),
        ]
        random.shuffle(works)
        all_at_once(works)
        run.refresh_from_db()
        assert said["finished"]
        assert run.status == RunStatus.FAILED
        assert said["cancelled"] in (None, RunStatus.CANCELLING)
        retries = 0 if said["cancelled"] or kind == "maintenance" else 1
        assert run.retries.count() == retries, "tried again although it was cancelled, or not although it was not"


def test_of_many_cancels_one_is_told_that_it_was_the_one() -> None:
    for state in (lambda run: run, claim):
        run, said = state(ask(BackupJobFactory())), []
        all_at_once([lambda n=n, run=run, said=said: said.append(cancel(run, f"user {n}")) for n in range(8)])
        run.refresh_from_db()
        assert said.count(None) == 7
        assert run.status in (RunStatus.CANCELLED, RunStatus.CANCELLING)
        assert run.cancelled_by.startswith("user")


def test_of_a_finish_and_a_lost_one_is_recorded_with_one_retry() -> None:
    for _ in range(ROUNDS):
        job = BackupJobFactory(retry_count=1)
        run, said = claim(record(job), holder="gone"), {}
        all_at_once(
            [
                lambda run=run, said=said: said.update(finished=finish(run, RunStatus.FAILED)),
                lambda said=said: said.update(lost=runs_mark_lost()),
                lambda said=said: said.update(lost_too=runs_mark_lost()),
            ]
        )
        run.refresh_from_db()
        assert said["finished"] + said["lost"] + said["lost_too"] == 1
        assert run.status == (RunStatus.FAILED if said["finished"] else RunStatus.LOST)
        assert run.retries.count() == 1


@pytest.mark.parametrize("kind", KINDS)
def test_twenty_who_say_run_now_at_once_get_one_run(kind: str) -> None:
    job, found = make_job(kind), []
    all_at_once([lambda: found.append(ask(job, requested_by="anna").pk)] * 20)
    assert job.runs.count() == 1
    assert set(found) == {job.runs.get().pk}


def test_one_person_who_clicks_twice_gets_one_run_even_when_it_has_started_in_between() -> None:
    job, at = BackupJobFactory(), timezone.now()
    first = ask(job, requested_by="anna", now=lambda: at)
    assert claim(first) is not None
    assert ask(job, requested_by="anna", now=lambda: at + timedelta(seconds=2)) == first
    later = at + timedelta(seconds=4)
    others = [
        ask(job, requested_by="ben", now=lambda: at),
        ask(job, requested_by="anna", now=lambda: later),
        ask(job, now=lambda: at),
    ]
    assert first not in others
    assert job.runs.count() == 2


def test_twenty_who_say_run_it_again_at_once_get_one_run() -> None:
    job = BackupJobFactory()
    first, found = carried_out(job), []
    all_at_once([lambda: found.append(run_again(kind_name="backup", run=first, by="anna"))] * 20)
    assert len({run.pk for run in found}) == 1
    assert job.runs.count() == 2


def test_twenty_who_run_by_hand_what_is_held_back_get_one_run_in_its_place() -> None:
    failed = carried_out(BackupJobFactory(retry_count=1, retry_delay=60), RunStatus.FAILED)
    job, found = failed.job, []
    all_at_once([lambda: found.append(ask(job).pk)] * 20)
    assert len(set(found)) == 1
    assert list(job.runs.order_by("pk").values_list("status", flat=True)) == ["failed", "skipped", "queued"]


def test_of_many_claims_of_runs_with_one_target_one_wins() -> None:
    target = TargetFactory()
    runs = [record(BackupJobFactory(targets=[target, TargetFactory()])) for _ in range(6)]
    won: list[Any] = []
    all_at_once([lambda run=run: won.append(claim(run)) for run in runs])
    winners = [run for run in won if run is not None]
    assert len(winners) == 1
    assert BackupRunTarget.objects.filter(active=True).count() == 2
    assert finish(winners[0])
    assert claim(next(run for run in runs if run.pk != winners[0].pk)) is not None


def test_a_target_is_backed_up_by_one_run_at_a_time() -> None:
    target = TargetFactory()
    first, second = (record(BackupJobFactory(targets=[target, TargetFactory()])) for _ in range(2))
    running = claim(first)
    assert claim(second) is None
    second.refresh_from_db()
    assert (second.status, second.fence, second.started_at) == (RunStatus.QUEUED, 0, None)
    with pytest.raises(IntegrityError), transaction.atomic():
        BackupRunTarget.objects.create(run=second, target=target, target_name="etc")
    assert finish(running)
    assert not BackupRunTarget.objects.filter(active=True).exists()
    assert claim(second) is not None


def test_a_lost_run_gives_its_targets_back() -> None:
    run = claim(record(BackupJobFactory()), holder="gone")
    assert runs_mark_lost() == 1
    attempt = run.attempts.get()
    assert (attempt.active, attempt.status) == (False, "lost")


@pytest.mark.parametrize("kind", KINDS)
def test_a_crowd_at_one_job_never_sees_two_runs_of_it_at_work(kind: str) -> None:  # noqa: C901 - three roles
    """Fires, requests, cancels, retries, claims and ends, all at once for some seconds."""
    job = make_job(kind, retry_count=2, retry_delay=0)
    until, seconds = time.monotonic() + 3, iter(range(10**6))
    lock, at_work, most = threading.Lock(), [0], [0]
    start = carried_out(job).queued_at

    def fire() -> None:
        while time.monotonic() < until:
            with lock:
                second = next(seconds)
            record(job, RunTrigger.SCHEDULE, slot=start.replace(microsecond=second))

    def request() -> None:
        while time.monotonic() < until:
            ask(job)
            for run in job.runs.filter(status__in=OPEN)[:1]:
                if random.random() < 0.2:
                    cancel(run)

    def carry_out() -> None:
        while time.monotonic() < until:
            for run in job.runs.queued():
                claimed = claim(run)
                if claimed is None:
                    continue
                with lock:
                    at_work[0] += 1
                    most[0] = max(most[0], at_work[0])
                time.sleep(random.random() * 0.01)
                with lock:
                    at_work[0] -= 1
                assert finish(claimed, random.choice([RunStatus.SUCCEEDED, RunStatus.FAILED]))

    all_at_once([fire, request, request, carry_out, carry_out, carry_out])
    assert most[0] == 1
    assert job.runs.filter(status__in=TERMINAL).count() > 10
    slots = list(job.runs.filter(slot__isnull=False).values_list("slot", flat=True))
    assert len(slots) == len(set(slots)) == next(seconds)
