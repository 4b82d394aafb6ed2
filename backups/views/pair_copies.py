"""The copies of one pair as its page shows them: why each stays, when it goes, and what takes its place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, tzinfo
from typing import Any

from django.db.models import F, Prefetch
from django.db.models.functions import Coalesce

from backups.choices import ON_STORAGE, BackupState
from backups.heatmap import MISSED, PastDay
from backups.models import Backup, BackupRun, BackupRunTarget
from backups.retention import Day, Fate, Verdict
from backups.retention.periods import moment_of
from backups.services.forecast import Forecast
from backups.verdict_words import delete_words, going_words, keep_words, reasons_of
from backups.views.pair_history import FAILED_ATTEMPT, day_start
from scheduling.choices import FAILING, RunStatus

MAX_IN_A_DAY = 48


@dataclass(frozen=True, kw_only=True)
class CopyRow:
    """One copy: its row, the sentence that says why it stays (or went) with every reason behind it, and when it goes.

    `goes_at` is None when it stays as far as is known; `asks` when that cleanup would stop and ask first; `goes_why`
    says what lets it go. `by` is the copy that takes its place, when that is there already, and `by_at` when that copy
    was or will be made.
    """

    backup: Backup
    why: str
    reasons: Sequence[str]
    is_leaving: bool = False
    goes_at: datetime | None = None
    asks: bool = False
    goes_why: str = ""
    goes_reasons: Sequence[str] = ()
    by: Backup | None = None
    by_at: datetime | None = None
    protections: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Happening:
    """A run of a day that made no copy."""

    run: BackupRun
    status: str
    message: str


@dataclass(frozen=True, kw_only=True)
class DueCopy:
    """A copy that is expected; `goes_at` is None when it is still there as the forecast ends."""

    at: datetime
    goes_at: datetime | None


@dataclass(kw_only=True)
class DayPage:
    """All that is known of one day."""

    day: date
    copies: Sequence[CopyRow] = ()
    more: int = 0
    happenings: Sequence[Happening] = ()
    is_missed: bool = False
    is_ahead: bool = False
    due: Sequence[DueCopy] = ()
    more_due: int = 0
    going: Sequence[CopyRow] = ()
    more_going: int = 0
    approvals: Sequence[datetime] = ()
    at_end: Day | None = None

    @property
    def is_empty(self) -> bool:
        return not (self.copies or self.happenings or self.is_missed or self.due or self.going or self.approvals)


@dataclass(kw_only=True)
class CopyRows:
    """Makes the rows of one forecast."""

    forecast: Forecast
    now: datetime
    leaving: set[str]
    _verdicts: Mapping[str, Verdict] = field(init=False)

    def __post_init__(self) -> None:
        self._verdicts = {verdict.uid: verdict for verdict in self.forecast.plan.verdicts}

    def row(self, uid: str) -> CopyRow:
        """The row of a copy on storage."""
        backup, verdict = self.forecast.backups[uid], self._verdicts[uid]
        fate = self.forecast.timeline.fates.get(uid)
        reasons = [reason.to_mapping() for reason in verdict.reasons]
        why = keep_words(reasons) if verdict.keep else f"no rule holds it: {delete_words(reasons)}"
        going = {} if fate is None else self._going(fate)
        return CopyRow(
            backup=backup,
            why=why,
            reasons=_texts(reasons),
            is_leaving=uid in self.leaving,
            protections=[protection.text for protection in verdict.candidate.protections_at(self.now)],
            **going,
        )

    def newest(self, count: int) -> list[CopyRow]:
        """The newest copies on storage, newest first."""
        return [self.row(verdict.uid) for verdict in self.forecast.plan.verdicts[:count]]

    def next_to_go(self, count: int) -> list[CopyRow]:
        """The copies that go first, soonest first; of the same cleanup the oldest first."""
        fates = [fate for fate in self.forecast.timeline.fates.values() if fate.deleted_at is not None]
        fates.sort(key=lambda fate: (fate.deleted_at, fate.created))
        return [self.row(fate.uid) for fate in fates[:count]]

    def _going(self, fate: Fate) -> dict[str, Any]:
        if fate.deleted_at is None:
            return {}
        reasons = [reason.to_mapping() for reason in fate.reasons]
        words = going_words(
            reasons,
            created=fate.created,
            deleted_at=fate.deleted_at,
            by_at=fate.by_at,
            zone=self.forecast.timeline.zone,
        )
        return {
            "goes_at": fate.deleted_at,
            "asks": fate.deleted_at in self.forecast.timeline.approvals,
            "goes_why": words,
            "goes_reasons": _texts(reasons),
            "by": self.forecast.backups.get(fate.by),
            "by_at": fate.by_at,
        }


def day_page(*, day: date, rows: CopyRows, past: Mapping[date, PastDay], trash_hours: int) -> DayPage:
    """What there is to say about a day, of the past and of the forecast; blank when nothing is known."""
    forecast = rows.forecast
    zone = forecast.timeline.zone
    page = DayPage(day=day, is_ahead=day > rows.now.astimezone(zone).date())
    if not page.is_ahead:
        copies = _copies_of(day, rows, zone, trash_hours)
        page.copies, page.more = copies[:MAX_IN_A_DAY], len(copies[MAX_IN_A_DAY:])
        page.happenings = _happenings(day, forecast, zone)
        page.is_missed = MISSED in past[day].counts if day in past else False
    found = next((simulated for simulated in forecast.timeline.days if simulated.day == day), None)
    if found is not None:
        _add_forecast(page, found, rows, zone)
    return page


def _copies_of(day: date, rows: CopyRows, zone: tzinfo, trash_hours: int) -> list[CopyRow]:
    """Every copy taken on a day, newest first, those that are gone included."""
    start, end = day_start(day, zone), day_start(day + timedelta(days=1), zone)
    here = [rows.row(backup.uid) for backup in rows.forecast.backups.values() if start <= backup.created_at < end]
    gone = Backup.objects.of_pair(*rows.forecast.pair.key).filter(created_at__gte=start, created_at__lt=end)
    here += [_gone_row(backup, trash_hours) for backup in gone.exclude(state__in=ON_STORAGE).select_related("storage")]
    return sorted(here, key=lambda row: (row.backup.created_at, row.backup.pk), reverse=True)


def _gone_row(backup: Backup, trash_hours: int) -> CopyRow:
    reasons = reasons_of(backup.verdict)
    goes_at = backup.trashed_at + timedelta(hours=trash_hours) if backup.trashed_at else None
    return CopyRow(
        backup=backup,
        why=delete_words(reasons) or backup.state_reason,
        reasons=_texts(reasons),
        goes_at=goes_at if backup.state == BackupState.TRASHED else None,
    )


def _happenings(day: date, forecast: Forecast, zone: tzinfo) -> list[Happening]:
    """The runs of a day that failed for the pair, were cancelled or did not start, newest first."""
    start, end = day_start(day, zone), day_start(day + timedelta(days=1), zone)
    attempts = BackupRunTarget.objects.filter(target=forecast.pair.target_id)
    runs = (
        BackupRun.objects.filter(job=forecast.pair.job)
        .annotate(at=Coalesce(F("slot"), F("queued_at")))
        .filter(at__gte=start, at__lt=end)
        .prefetch_related(Prefetch("attempts", queryset=attempts, to_attr="of_pair"))
    )
    found = []
    for run in runs:
        attempt = next(iter(run.of_pair), None)
        if attempt is not None and attempt.status in FAILED_ATTEMPT:
            found.append(Happening(run=run, status=attempt.status, message=attempt.message or run.message))
        elif run.status in (RunStatus.SKIPPED, RunStatus.CANCELLED) or (attempt is None and run.status in FAILING):
            found.append(Happening(run=run, status=run.status, message=run.message))
    return found


def _add_forecast(page: DayPage, simulated: Day, rows: CopyRows, zone: tzinfo) -> None:
    timeline = rows.forecast.timeline
    due = [
        DueCopy(at=copy.created, goes_at=None if gone is None else moment_of(gone))
        for copy, _, gone in timeline.lives
        if copy.expected and copy.created.astimezone(zone).date() == page.day
    ]
    going = [
        fate
        for fate in timeline.fates.values()
        if fate.deleted_at is not None and fate.deleted_at.astimezone(zone).date() == page.day
    ]
    page.due, page.more_due = due[:MAX_IN_A_DAY], len(due[MAX_IN_A_DAY:])
    page.going = [rows.row(fate.uid) for fate in going[:MAX_IN_A_DAY]]
    page.more_going = len(going[MAX_IN_A_DAY:])
    page.approvals = [moment for moment in timeline.approvals if moment.astimezone(zone).date() == page.day]
    page.at_end = simulated


def _texts(reasons: Iterable[Mapping[str, Any]]) -> list[str]:
    return [str(reason["text"]) for reason in reasons]
