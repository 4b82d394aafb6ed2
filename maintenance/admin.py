"""Maintenance jobs and their runs in the admin site."""

from __future__ import annotations

from typing import Any, override

from django.contrib import admin

from maintenance import services
from maintenance.models import CleanupPlan, CleanupPlanPair, MaintenanceJob, MaintenanceRun, MaintenanceRunLogLine
from scheduling.admin import JobServiceForm, ReadOnlyAdmin, RunNowAdmin
from scheduling.job_settings import DEFAULTS


@admin.register(MaintenanceJob)
class MaintenanceJobAdmin(RunNowAdmin):
    run_kind = MaintenanceRun.KIND
    run_permission = "maintenance.run_maintenancejob"
    list_display = ("key", "name", "job_type", "schedule_cron", "timezone", "enabled", "visible_in_ui")
    list_filter = ("job_type", "enabled", "visible_in_ui")
    search_fields = ("key", "name")
    form = JobServiceForm
    fields = (
        *("key", "name", "job_type", "schedule_cron", "timezone", "enabled", "visible_in_ui"),
        *DEFAULTS,
        *("paused_until", "paused_by"),
    )
    fixed_fields = ("key", "job_type")

    @override
    def service_save(self, *, stored: MaintenanceJob | None, values: dict[str, Any]) -> MaintenanceJob:
        if stored is None:
            return services.job_create(**values)
        return services.job_update(job=stored, **values)

    @override
    def service_delete(self, stored: MaintenanceJob) -> None:
        services.job_delete(job=stored)


@admin.register(MaintenanceRun)
class MaintenanceRunAdmin(ReadOnlyAdmin):
    list_display = ("id", "job_key", "status", "outcome", "trigger", "requested_by", "queued_at", "finished_at")
    list_filter = ("status", "outcome", "trigger", "job_type")
    search_fields = ("job_key", "job_name")


@admin.register(MaintenanceRunLogLine)
class MaintenanceRunLogLineAdmin(ReadOnlyAdmin):
    list_display = ("run_id", "seq", "at", "level", "text")
    list_filter = ("level",)
    ordering = ("-run_id", "seq")


@admin.register(CleanupPlan)
class CleanupPlanAdmin(ReadOnlyAdmin):
    list_display = ("uid", "status", "created_at", "created_by", "decided_by", "run")
    list_filter = ("status",)


@admin.register(CleanupPlanPair)
class CleanupPlanPairAdmin(ReadOnlyAdmin):
    list_display = ("plan", "job_name", "target_name", "kept", "deleting", "moved", "carried_out")
    list_filter = ("carried_out",)
    search_fields = ("job_name", "target_name")
