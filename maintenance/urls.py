from __future__ import annotations

from django.urls import path

from maintenance.views import jobs, options

app_name = "maintenance"

urlpatterns = [
    path("maintenance-jobs/", jobs.job_list, name="job_list"),
    path("maintenance-jobs/<slug:key>/edit/", jobs.job_edit, name="job_edit"),
    path("maintenance-jobs/<slug:key>/run/", jobs.job_run, name="job_run"),
    path("maintenance-jobs/<slug:key>/toggle/", jobs.job_toggle, name="job_toggle"),
    path("options/", options.options_edit, name="options_edit"),
    path("options/save/", options.options_save, name="options_save"),
    path("options/retention/preview/", options.retention_preview, name="retention_preview"),
    path("options/retention/run/", options.retention_run, name="retention_run"),
]
