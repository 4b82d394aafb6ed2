from __future__ import annotations

from django.urls import path

from scheduling.views import calendar, hosts, pause, run_actions, run_bulk, run_detail, run_list, schedule

app_name = "scheduling"

urlpatterns = [
    path("runs/", run_list.run_list, name="run_list"),
    path("runs/export/", run_list.run_export, name="run_export"),
    path("runs/choices/", run_list.run_choices, name="run_choices"),
    path("runs/bulk/", run_bulk.run_bulk, name="run_bulk"),
    path("runs/<str:kind>/<int:pk>/", run_detail.run_detail, name="run_detail"),
    path("runs/<str:kind>/<int:pk>/cancel/", run_actions.run_cancel, name="run_cancel"),
    path("runs/<str:kind>/<int:pk>/again/", run_actions.run_again, name="run_again"),
    path("runs/<str:kind>/<int:pk>/log/", run_actions.run_log, name="run_log"),
    path("calendar/", calendar.calendar_, name="calendar"),
    path("schedule/", schedule.schedule_words, name="schedule_words"),
    path("hosts/", hosts.host_list, name="host_list"),
    path("pause/", pause.pause, name="pause"),
    path("pause/resume/", pause.resume, name="resume"),
]
