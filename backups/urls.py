from __future__ import annotations

from django.urls import path

from backups.views import (
    audit,
    backups,
    job_detail,
    jobs,
    pairs,
    protect,
    protections,
    reconcile,
    storages,
    targets,
    trash,
)

app_name = "backups"

urlpatterns = [
    path("protect/", protect.protect, name="protect"),
    path("targets/", targets.list_, name="target_list"),
    path("targets/new/", targets.create, name="target_create"),
    path("targets/<int:pk>/", targets.detail, name="target_detail"),
    path("targets/<int:pk>/edit/", targets.edit, name="target_edit"),
    path("targets/<int:pk>/delete/", targets.delete, name="target_delete"),
    path("targets/<int:pk>/test/", targets.test, name="target_test"),
    path("storages/", storages.list_, name="storage_list"),
    path("storages/new/", storages.create, name="storage_create"),
    path("storages/<int:pk>/", storages.detail, name="storage_detail"),
    path("storages/<int:pk>/edit/", storages.edit, name="storage_edit"),
    path("storages/<int:pk>/delete/", storages.delete, name="storage_delete"),
    path("storages/<int:pk>/check/", storages.check, name="storage_check"),
    path("storages/<int:pk>/initialise/", storages.initialise, name="storage_initialise"),
    path("storages/<int:pk>/reconcile/", reconcile.reconcile, name="storage_reconcile"),
    path("backup-jobs/", jobs.list_, name="job_list"),
    path("backup-jobs/new/", jobs.create, name="job_create"),
    path("backup-jobs/<int:pk>/", job_detail.job_detail, name="job_detail"),
    path("backup-jobs/<int:pk>/edit/", jobs.edit, name="job_edit"),
    path("backup-jobs/<int:pk>/delete/", jobs.delete, name="job_delete"),
    path("backup-jobs/<int:pk>/duplicate/", jobs.duplicate, name="job_duplicate"),
    path("backup-jobs/<int:pk>/pause/", jobs.pause, name="job_pause"),
    path("backup-jobs/<int:pk>/run/", jobs.run, name="job_run"),
    path("backup-jobs/<int:pk>/toggle/", jobs.toggle, name="job_toggle"),
    path("backups/", backups.list_, name="backup_list"),
    # A slug, not any text: some databases refuse to look for what cannot be in them, such as NUL.
    path("backups/<slug:uid>/", backups.detail, name="backup_detail"),
    path("backups/<slug:uid>/accept/", backups.accept, name="backup_accept"),
    path("backups/<slug:uid>/untrash/", backups.untrash, name="backup_untrash"),
    path("backups/<slug:uid>/pin/", protections.pin, name="backup_pin"),
    path("backups/<slug:uid>/unpin/", protections.unpin, name="backup_unpin"),
    path("trash/", trash.list_, name="trash_list"),
    path("trash/undo/", trash.undo, name="trash_undo"),
    path("trash/runs/<slug:kind>/<int:pk>/undo/", trash.undo_run, name="trash_undo_run"),
    path("holds/", protections.hold_list, name="hold_list"),
    path("holds/new/", protections.hold_create, name="hold_create"),
    path("holds/<int:pk>/release/", protections.hold_release, name="hold_release"),
    path("backup-jobs/<int:job_id>/targets/<int:target_id>/", pairs.detail, name="pair_detail"),
    path("audit/", audit.list_, name="audit_list"),
    path("audit/export/", audit.export, name="audit_export"),
]
