"""What the form of a job shows beside its schedule while it is typed: words, next times, presets and advice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, time
from typing import Any, Final
from urllib.parse import urlencode

from django import forms
from django.contrib.auth.models import AnonymousUser, User
from django.http import QueryDict
from django.urls import reverse
from django.utils import timezone
from django.utils.datastructures import MultiValueDict

from scheduling.cron import ScheduleError, load_zone, parse_cron
from scheduling.durations import usual_duration
from scheduling.fire_list import FireList, fire_list
from scheduling.linting import Advice, Neighbour, Subject, closest, lint
from scheduling.presets import PRESETS, USE, preset_apply, preset_of
from scheduling.registry import RunKind, SharedSchedule, all_kinds
from scheduling.rules import MAX_BLACKOUTS, RuleError, Rules, blackouts_parse, rules_of

FIRES: Final = 20
MAX_SCHEDULES: Final = 400
MAX_MEASURED: Final = 8
MAX_TEXT: Final = 4000
FIELDS: Final = ("schedule", "schedule_cron")
OTHERS: Final = ("timezone", "storage", "window_start", "window_end", "blackout_dates", "job_type")
"""The fields of a form, besides the schedule itself, that advice depends on."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One preset as a button."""

    key: str
    label: str
    current: bool


@dataclass(frozen=True, kw_only=True)
class Offer:
    """One piece of advice; `value` is what its button sends, "" when it has none."""

    text: str
    use: str
    value: str


@dataclass(frozen=True, kw_only=True)
class Editor:
    """The schedule field with everything around it. `name` is the field's, `url` gives all this anew."""

    name: str
    schedule: str
    url: str
    include: str
    fires: FireList
    other_zone: str
    choices: list[Choice]
    offers: list[Offer] = field(default_factory=list)
    compared: int = 0
    cut: bool = False


@dataclass(frozen=True, kw_only=True)
class Typed:
    """What was typed, as far as it can be read: it comes from addresses and half-filled forms."""

    schedule: str
    rules: Rules
    storage: int | None
    job_type: str


def editor_of(
    *, form: forms.BaseForm, name: str, kind: str, job: Any, user: User | AnonymousUser, default_zone: str = ""
) -> Editor:
    """The editor of a form's field `name`, for a job of a kind or for a new one (None)."""

    def value(field: str) -> Any:
        return form[field].value() if field in form.fields else None

    return schedule_editor(value, name=name, kind=kind, job=job, user=user, default_zone=default_zone)


def schedule_editor(
    value: Callable[[str], Any],
    *,
    name: str,
    kind: str,
    job: Any,
    user: User | AnonymousUser,
    default_zone: str = "",
) -> Editor:
    """The editor for what `value` says of each field. Bounded in queries and in work, however many jobs there are."""
    now = timezone.now()
    typed = read(value, name=name, job=job, default_zone=default_zone or str(timezone.get_current_timezone()))
    fires = fire_list(typed.schedule, typed.rules, now, FIRES)
    editor = Editor(
        name=name,
        schedule=typed.schedule,
        url=f"{reverse('scheduling:schedule_words')}?{urlencode(_address(name, kind, job))}",
        include=",".join(f"[name='{field}']" for field in (name, *OTHERS)),
        fires=fires,
        other_zone=fires.zone if fires.zone != str(timezone.get_current_timezone()) else "",
        choices=_choices(typed.schedule),
    )
    if not fires.fires:
        return editor
    kinds = [each for each in all_kinds() if user.has_perm(each.view_permission)]
    return _with_advice(editor, typed, kinds, kind=kind, job=job, now=now)


def read(value: Callable[[str], Any], *, name: str, job: Any, default_zone: str) -> Typed:
    """What was typed; what cannot be read counts as not there, since the form itself says so when it is sent."""
    start, end = _clock(value("window_start")), _clock(value("window_end"))
    zone = _text(value("timezone")) or default_zone
    rules = rules_of(zone=zone, start=start, end=end, blackouts=_dates(value("blackout_dates")))
    storage = _text(getattr(value("storage"), "pk", value("storage")))
    return Typed(
        schedule=_text(value(name)),
        rules=rules,
        storage=int(storage) if storage.isascii() and storage.isdecimal() and len(storage) <= 18 else None,
        job_type=_text(value("job_type")) or getattr(job, "job_type", ""),
    )


class ScheduleButtons(forms.Form):
    """The editor's buttons without JavaScript: a form that was sent by one shows what was typed, with the schedule that
    the button stands for, and is neither checked nor taken for complete. Named before the classes it is mixed with.
    """

    schedule_field = FIELDS[0]

    def __init__(self, data: Any = None, *args: Any, **kwargs: Any) -> None:
        pressed = _pressed(data, type(self))
        super().__init__(data if pressed is None else None, *args, **kwargs)
        self.initial.update(pressed or {})


def _pressed(data: Any, form: type[ScheduleButtons]) -> dict[str, Any] | None:
    if not isinstance(data, QueryDict) or "preset" not in data:
        return None
    fields: Mapping[str, forms.Field] = form.base_fields
    typed = {key: each.widget.value_from_datadict(data, MultiValueDict(), key) for key, each in fields.items()}
    name = form.schedule_field
    return {**typed, name: preset_apply(_text(data.get("preset")), _text(typed.get(name)))}


def _with_advice(editor: Editor, typed: Typed, kinds: list[RunKind], *, kind: str, job: Any, now: datetime) -> Editor:
    by_name = {each.kind: each for each in kinds}
    own = by_name.get(kind)
    pk = job.pk if job is not None else None
    subject = Subject(
        cron=parse_cron(typed.schedule),
        rules=typed.rules,
        takes=usual_duration(own, pk) if own is not None and pk is not None else None,
        deletes=own is not None and own.is_cleanup(typed.job_type),
    )
    known: list[tuple[Neighbour, SharedSchedule]] = []
    cut = False
    for each in kinds:
        shared = list(each.shared_schedules(pk if each.kind == kind else None, typed.storage, MAX_SCHEDULES + 1))
        cut = cut or len(shared) > MAX_SCHEDULES
        known += [(other, entry) for entry in shared[:MAX_SCHEDULES] if (other := _neighbour(entry, typed)) is not None]
    # How long others take is looked up only for those that start shortly before.
    source = {id(other): entry for other, entry in known}
    takes = {
        id(other): usual_duration(by_name[entry.kind], entry.first)
        for other in closest(subject, [other for other, _ in known if other.nearby], now)[:MAX_MEASURED]
        for entry in (source[id(other)],)
    }
    neighbours = [replace(other, takes=takes.get(id(other))) for other, _ in known]
    advice = lint(subject, neighbours, now)
    return replace(
        editor, offers=[_offer(each) for each in advice], compared=sum(other.count for other in neighbours), cut=cut
    )


def _neighbour(entry: SharedSchedule, typed: Typed) -> Neighbour | None:
    """An entry as the linter takes it; None for a schedule or zone that cannot be used."""
    try:
        load_zone(entry.zone)
        cron = parse_cron(entry.schedule)
    except ScheduleError:
        return None
    return Neighbour(
        name=entry.name,
        cron=cron,
        zone=entry.zone,
        count=entry.count,
        # What names no storage works on all of them.
        nearby=entry.storage is None or typed.storage is None or entry.storage == typed.storage,
        copies=entry.copies,
        deletes=entry.deletes,
    )


def _choices(schedule: str) -> list[Choice]:
    current = preset_of(schedule)
    return [Choice(key=preset.key, label=preset.label, current=preset.key == current) for preset in PRESETS]


def _offer(advice: Advice) -> Offer:
    return Offer(text=advice.text, use=advice.use, value=f"{USE}{advice.use}" if advice.use else "")


def _address(name: str, kind: str, job: Any) -> dict[str, str]:
    return {"field": name, "kind": kind, **({"job": str(job.pk)} if job is not None else {})}


def _text(value: Any) -> str:
    return "" if value is None else str(value)[:MAX_TEXT].replace("\0", "\ufffd").strip()


def _dates(value: Any) -> list[str]:
    """The blackout dates that can be read, as they are written."""
    found = []
    for line in [str(each) for each in value] if isinstance(value, list | tuple) else _text(value).split():
        try:
            found += [str(days) for days in blackouts_parse([line])]
        except RuleError:
            continue
    return found[:MAX_BLACKOUTS]


def _clock(value: Any) -> time | None:
    if isinstance(value, time):
        return value
    try:
        return time.fromisoformat(_text(value)).replace(tzinfo=None)
    except ValueError:
        return None
