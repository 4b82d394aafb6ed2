from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts.permissions import requires
from backups.models import Options
from maintenance import services
from maintenance.choices import JobType
from maintenance.models import MaintenanceJob, MaintenanceRun
from scheduling.items import ScheduledItem
from scheduling.job_history import job_history
from scheduling.registry import get_kind

# What a run of each type makes of bytes, and the figure that says how many.
SIZES = {
    JobType.RETENTION_CLEANUP: ("Moved to the trash", "deleted_bytes"),
    JobType.PURGE_TRASH: ("Freed", "freed_bytes"),
}


@requires("maintenance.view_maintenancejob", "maintenance.view_maintenancerun")
@require_safe
def job_detail(request: HttpRequest, key: str) -> HttpResponse:
    """One maintenance job: how its runs went, when it runs next, and how."""
    job = get_object_or_404(MaintenanceJob, key=key)
    job.timezone = job.timezone or Options.load().timezone
    history = job_history(
        kind=get_kind(MaintenanceRun.KIND),
        job=job,
        item=ScheduledItem.from_maintenance_job(job),
        now=timezone.now(),
        viewer=timezone.get_current_timezone(),
        size=SIZES.get(JobType(job.job_type), ("Freed", "freed_bytes")),
    )
    context = {
        "job": job,
        "history": history,
        "kept_reason": services.job_kept_reason(job),
    }
    return render(request, "maintenance/job_detail.html", context)
