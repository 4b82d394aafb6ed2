from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts.permissions import requires
from backups.coverage import item_of, job_pairs
from backups.models import BackupJob, BackupRun, Options
from backups.services.options import effective_policy
from scheduling.job_history import job_history
from scheduling.registry import get_kind


@requires("backups.view_backupjob")
@require_safe
def job_detail(request: HttpRequest, pk: int) -> HttpResponse:
    """One job: how its runs went, when it runs next, what it does, and how long its copies stay."""
    job = get_object_or_404(BackupJob.objects.select_related("storage"), pk=pk)
    options = Options.load()
    history = job_history(
        kind=get_kind(BackupRun.KIND),
        job=job,
        item=item_of(job, options.timezone),
        now=timezone.now(),
        viewer=timezone.get_current_timezone(),
        size=("Stored", "stored_bytes"),
    )
    context = {
        "job": job,
        "history": history,
        "targets": job.targets.order_by("name"),
        "policy": effective_policy(override=job.retention, options=options),
        "minimum_keep": options.minimum_keep,
        "pairs": job_pairs(job),
    }
    return render(request, "backups/job_detail.html", context)
