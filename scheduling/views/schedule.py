from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from accounts.permissions import requires
from scheduling.presets import preset_apply
from scheduling.registry import RunKind
from scheduling.schedule_editor import FIELDS, schedule_editor
from scheduling.views.kinds import visible_kinds

MAX_DIGITS = 18


@requires("backups.view_backupjob")
@require_safe
def schedule_words(request: HttpRequest) -> HttpResponse:
    """A fragment: what the schedule that is being typed means, and what may be unwise about it.

    `field` names the form's field; `preset` fills it. The jobs compared with are those that the user may see.
    """
    name = request.GET.get("field", "")
    name = name if name in FIELDS else FIELDS[0]
    kinds = {kind.kind: kind for kind in visible_kinds(request.user)}
    kind = kinds.get(request.GET.get("kind", ""))
    values = request.GET.dict()
    preset = values.get("preset")
    if preset is not None:
        values[name] = preset_apply(preset, values.get(name, ""))
    editor = schedule_editor(
        values.get,
        name=name,
        kind=kind.kind if kind else "",
        job=_job(kind, request.GET.get("job", "")),
        user=request.user,
    )
    context = {"editor": editor, "filled": preset is not None, "brief": "brief" in request.GET}
    return render(request, "scheduling/schedule_editor.html#schedule-answer", context)


def _job(kind: RunKind | None, text: str) -> Any:
    if kind is None or not (text.isascii() and text.isdecimal()) or len(text) > MAX_DIGITS:
        return None
    return kind.job_model.objects.filter(pk=int(text)).first()
