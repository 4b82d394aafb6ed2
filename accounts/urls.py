from __future__ import annotations

from django.contrib.auth.views import LogoutView, PasswordChangeView
from django.urls import path, reverse_lazy

from accounts import views
from accounts.permissions import public, signed_in

app_name = "accounts"

urlpatterns = [
    path("account/login/", public(views.SignInView.as_view()), name="login"),
    path("account/logout/", public(LogoutView.as_view()), name="logout"),
    path(
        "account/password/",
        signed_in(PasswordChangeView.as_view(success_url=reverse_lazy("accounts:token_list"))),
        name="password_change",
    ),
    path("account/tokens/", views.token_list, name="token_list"),
    path("account/tokens/<int:pk>/revoke/", views.token_revoke_view, name="token_revoke"),
    path("setup/<str:token>/", views.setup, name="setup"),
]
