"""The backups' rows in the admin site. Runs, attempts, backups and logs are for looking at."""

from __future__ import annotations

from typing import Any, override

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest

from backups.forms.job import TargetsField
from backups.models import (
    AuditEntry,
    Backup,
    BackupJob,
    BackupRun,
    BackupRunLogLine,
    BackupRunTarget,
    Hold,
    Lease,
    Options,
    Storage,
    Target,
)
from backups.models.options import GUARD_FIELDS
from backups.services import jobs, options, storages, targets
from backups.services.policy_record import policies_recorded
from scheduling.admin import JobServiceForm, PlainJSONField, ReadOnlyAdmin, RunNowAdmin, ServiceAdmin, ServiceForm
from scheduling.job_settings import DEFAULTS


class StorageForm(ServiceForm):
    use_existing = forms.BooleanField(
        required=False, help_text="Accept a folder that holds other files; they are never touched."
    )


@admin.register(Storage)
class StorageAdmin(ServiceAdmin):
    form = StorageForm
    list_display = ("name", "kind", "path", "uid")
    search_fields = ("name", "path", "uid")
    fields = ("name", "kind", "path", "use_existing")
    fixed_fields = ("kind",)

    @override
    def service_save(self, *, stored: Storage | None, values: dict[str, Any]) -> Storage:
        if stored is None:
            return storages.storage_create(**values)
        return storages.storage_update(storage=stored, **values)

    @override
    def service_delete(self, stored: Storage) -> None:
        storages.storage_delete(storage=stored)


class TargetForm(ServiceForm):
    error_fields = {"paths": "config", "exclude": "config"}

    def clean_config(self) -> dict[str, Any]:
        config = self.cleaned_data["config"]
        if not isinstance(config, dict):
            raise ValidationError('Write a JSON object, such as {"paths": ["/etc"], "exclude": ["*.tmp"]}.')
        return config


@admin.register(Target)
class TargetAdmin(ServiceAdmin):
    form = TargetForm
    list_display = ("name", "source", "updated_at")
    search_fields = ("name",)
    fields = ("name", "source", "config")
    fixed_fields = ("source",)

    @override
    def service_save(self, *, stored: Target | None, values: dict[str, Any]) -> Target:
        if stored is None:
            return targets.target_create(**values)
        return targets.target_update(target=stored, **values)

    @override
    def service_delete(self, stored: Target) -> None:
        targets.target_delete(target=stored)


class BackupJobForm(JobServiceForm):
    targets = TargetsField(
        queryset=Target.objects.all(), error_messages={"required": "Choose at least one target to back up."}
    )
    retention = PlainJSONField(
        required=False,
        help_text='Blank or null takes the policy in Options. Such as {"keep_last": 3, "keep_daily": 7}.',
    )

    class Meta:
        model = BackupJob
        fields = ("name", "storage", "schedule", "timezone", "enabled", "retention", *DEFAULTS)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk and "targets" in self.fields:
            self.initial.setdefault("targets", list(self.instance.targets.values_list("pk", flat=True)))


@admin.register(BackupJob)
class BackupJobAdmin(RunNowAdmin):
    form = BackupJobForm
    run_kind = BackupRun.KIND
    run_permission = "backups.run_backupjob"
    list_display = ("name", "storage", "schedule", "timezone", "enabled", "updated_at")
    list_filter = ("enabled", "storage")
    list_select_related = ("storage",)
    search_fields = ("name",)

    @override
    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        with policies_recorded(by=request.user.get_username()):
            super().save_model(request, obj, form, change)

    @override
    def service_save(self, *, stored: BackupJob | None, values: dict[str, Any]) -> BackupJob:
        if stored is None:
            return jobs.job_create(**values)
        return jobs.job_update(job=stored, **values)

    @override
    def service_delete(self, stored: BackupJob) -> None:
        jobs.job_delete(job=stored)


@admin.register(Options)
class OptionsAdmin(ServiceAdmin):
    list_display = ("timezone", "minimum_keep", "trash_hours", "updated_at")
    fields = ("timezone", "retention", "minimum_keep", "trash_hours", *GUARD_FIELDS)

    @override
    def get_queryset(self, request: HttpRequest) -> QuerySet[Options]:
        Options.load()
        return super().get_queryset(request)

    @override
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    @override
    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @override
    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        with policies_recorded(by=request.user.get_username()):
            super().save_model(request, obj, form, change)

    @override
    def service_save(self, *, stored: Options | None, values: dict[str, Any]) -> Options:
        return options.options_update(**{**values, "retention": values["retention"] or {}})


@admin.register(BackupRun)
class BackupRunAdmin(ReadOnlyAdmin):
    list_display = ("id", "job_name", "status", "outcome", "trigger", "requested_by", "queued_at", "finished_at")
    list_filter = ("status", "outcome", "trigger")
    search_fields = ("job_name",)


@admin.register(BackupRunTarget)
class BackupRunTargetAdmin(ReadOnlyAdmin):
    list_display = ("id", "run", "target_name", "status", "message", "started_at", "finished_at")
    list_filter = ("status",)
    list_select_related = ("run",)
    search_fields = ("target_name", "uid")


@admin.register(BackupRunLogLine)
class BackupRunLogLineAdmin(ReadOnlyAdmin):
    list_display = ("run_id", "seq", "at", "level", "text")
    list_filter = ("level",)
    ordering = ("-run_id", "seq")


@admin.register(Backup)
class BackupAdmin(ReadOnlyAdmin):
    list_display = ("uid", "target_name", "job_name", "storage", "created_at", "size", "state", "verified_at")
    list_filter = ("state", "storage")
    list_select_related = ("storage",)
    search_fields = ("uid", "target_name", "job_name")


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ("id", "at", "action", "actor", "target_name", "artifact", "size", "reason")
    list_filter = ("action",)
    search_fields = ("actor", "backup_uid", "target_name", "artifact")


@admin.register(Hold)
class HoldAdmin(ReadOnlyAdmin):
    list_display = ("id", "scope", "note", "placed_by", "placed_at", "until")
    list_select_related = ("job", "target", "storage")


@admin.register(Lease)
class LeaseAdmin(ReadOnlyAdmin):
    list_display = ("backup", "purpose", "taken_at", "holder")
    list_filter = ("purpose",)
    list_select_related = ("backup",)
