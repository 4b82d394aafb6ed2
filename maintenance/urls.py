from __future__ import annotations

from django.urls import path

from maintenance.views import job_detail, jobs, options, plans, retention

app_name = "maintenance"

urlpatterns = [
    path("maintenance-jobs/", jobs.job_list, name="job_list"),
    path("maintenance-jobs/new/", jobs.job_create, name="job_create"),
    path("maintenance-jobs/<slug:key>/", job_detail.job_detail, name="job_detail"),
    path("maintenance-jobs/<slug:key>/edit/", jobs.job_edit, name="job_edit"),
    path("maintenance-jobs/<slug:key>/duplicate/", jobs.job_duplicate, name="job_duplicate"),
    path("maintenance-jobs/<slug:key>/delete/", jobs.job_delete, name="job_delete"),
    path("maintenance-jobs/<slug:key>/pause/", jobs.job_pause, name="job_pause"),
    path("maintenance-jobs/<slug:key>/run/", jobs.job_run, name="job_run"),
    path("maintenance-jobs/<slug:key>/toggle/", jobs.job_toggle, name="job_toggle"),
    # After the jobs' own pages: a job may be called “plans”.
    path("maintenance-jobs/plans/<slug:uid>/", plans.plan_detail, name="plan_detail"),
    path("maintenance-jobs/plans/<slug:uid>/approve/", plans.plan_approve_, name="plan_approve"),
    path("maintenance-jobs/plans/<slug:uid>/reject/", plans.plan_reject_, name="plan_reject"),
    path("clock/", plans.clock_confirm, name="clock_confirm"),
    path("options/", options.options_edit, name="options_edit"),
    path("options/save/", options.options_save, name="options_save"),
    path("options/retention/run/", plans.retention_run, name="retention_run"),
    path("options/retention/trial/", options.policy_trial, name="policy_trial"),
    path("retention/", retention.retention_help, name="retention_help"),
    path("retention/trial/job/", retention.job_policy_trial, name="job_policy_trial"),
    path("retention/trial/job/<int:pk>/", retention.job_policy_trial, name="job_policy_trial"),
]
