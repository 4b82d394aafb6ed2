from __future__ import annotations

from django.urls import path

from scheduling import views

app_name = "scheduling"

urlpatterns = [
    path("runs/", views.run_list, name="run_list"),
    path("runs/<str:kind>/<int:pk>/", views.run_detail, name="run_detail"),
]
