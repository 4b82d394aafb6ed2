"""URL x method x role, generated: a view that is added later is tested here without a further line."""

from __future__ import annotations

import json

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client

from accounts.roles import VIEWED_APPS
from scheduling.registry import get_kind
from tests import factories
from tests.accounts.routes import Route, routes

# Pages about one's own account need no permission, and neither does the page that everybody arrives at.
ANY_SIGNED_IN = {"accounts:token_list", "accounts:token_revoke", "accounts:password_change", "dashboard"}

# Which sample a number or name in an address stands for: by the app and the noun that begins the view's name, or by
# the parameter's own noun (`job_id`).
SAMPLES = {
    ("backups", "storage"): factories.StorageFactory,
    ("backups", "target"): factories.TargetFactory,
    ("backups", "job"): factories.BackupJobFactory,
    ("backups", "backup"): factories.BackupFactory,
    ("backups", "run"): factories.BackupRunFactory,
    ("backups", "hold"): factories.HoldFactory,
    ("maintenance", "job"): factories.MaintenanceJobFactory,
    ("maintenance", "run"): factories.MaintenanceRunFactory,
    ("maintenance", "plan"): factories.CleanupPlanFactory,
    ("scheduling", "run"): factories.BackupRunFactory,
}

# A request with an empty body is refused as incomplete before anybody asks who sends it: these operations need one.
BODIES: dict[str, dict[str, object]] = {
    "/api/v1/storages": {"name": "nas", "path": "/nowhere/nas"},
    "/api/v1/targets": {"name": "etc", "config": {"paths": ["/nowhere/etc"]}},
    "/api/v1/backup-jobs": {"name": "nightly", "target_ids": [], "storage_id": 1},
    "/api/v1/maintenance/jobs": {"key": "cleanup_weekly", "job_type": "retention_cleanup"},
    "/api/v1/maintenance/runs/<run_id>/approve": {"digest": "0"},
    "/api/v1/maintenance/runs/<run_id>/reject": {"digest": "0"},
    "/api/v1/settings/retention/compare": {"job_id": 1, "target_id": 1, "retention": {}},
    "/api/v1/backups/untrash": {"run": "maintenance:1"},
    "/api/v1/holds": {"note": "court case"},
    "/api/v1/pause": {"until": "2127-01-01T00:00:00Z"},
    "/api/v1/backup-jobs/<job_id>/pause": {"until": "2127-01-01T00:00:00Z"},
    "/api/v1/maintenance/jobs/<job_id>/pause": {"until": "2127-01-01T00:00:00Z"},
}

# What a page's last word, or an operation's method, does to the noun before it: the permission must be no less.
VERBS = {
    "list": "view",
    "detail": "view",
    "words": "view",
    "create": "add",
    "edit": "change",
    "save": "change",
    "toggle": "change",
    "duplicate": "add",
    "pause": "change",
    "resume": "change",
    "test": "change",
    "check": "change",
    "initialise": "change",
    "preview": "change",
    "trial": "change",
    "help": "view",
    "delete": "delete",
    "run": "run",
    "accept": "accept",
    "untrash": "untrash",
    "undo": "untrash",
    "pin": "pin",
    "unpin": "pin",
    "release": "delete",
    "approve": "approve",
    "reject": "approve",
    "confirm": "approve",
    "reconcile": "change",
    "export": "view",
    "cancel": "run",
    "again": "run",
    "log": "view",
}
METHODS = {"GET": "view", "POST": "add", "PATCH": "change", "DELETE": "delete"}
OPERATION_VERBS = {
    "run": "run",
    "preview": "view",
    "compare": "view",
    "pin": "pin",
    "unpin": "pin",
    "untrash": "untrash",
    "approve": "approve",
    "reject": "approve",
    "duplicate": "add",
    "pause": "change",
    "resume": "change",
    "cancel": "run",
    "again": "run",
}
# Pages whose name says something else: both make rows, or the first look at what one may change.
OTHERWISE = {
    "dashboard": {"view"},
    "scheduling:calendar": {"view"},
    "backups:protect": {"add"},
    "backups:trash_undo_run": {"untrash"},
    "maintenance:options_edit": {"view"},
    # The permission to start and stop is that of each ticked run's kind, and asked for run by run.
    "scheduling:run_bulk": {"view"},
    "scheduling:run_choices": {"view"},
    "scheduling:pause": {"change"},
    "scheduling:resume": {"change"},
}

PAGES = [route for route in routes() if not route.is_public and not route.is_api]
OPERATIONS = [
    pytest.param(route, method, id=f"{method} {route.path}")
    for route in routes()
    if route.is_api
    for method in route.operations
]


def app_and_noun(route: Route) -> tuple[str, str]:
    """("backups", "target") for the page `backups:target_detail` and the operation at `/api/v1/backups/targets/`."""
    if not route.is_api:
        app, _, name = route.name.rpartition(":")
        return app, name.partition("_")[0]
    before = route.path.partition("<")[0].strip("/").split("/")
    return next((part for part in before if part in VIEWED_APPS), "backups"), before[-1].removesuffix("s")


def actions(permissions: tuple[str, ...] | None) -> set[str]:
    """{"delete"} for ("backups.delete_target",)."""
    return {permission.partition(".")[2].partition("_")[0] for permission in permissions or ()}


def kind_permissions(route: Route) -> tuple[str, ...]:
    """What a view needs beside what it names, where its address names a kind of run: the sample's is backup."""
    name = getattr(route.callback, "permission_of_kind", "")
    return (getattr(get_kind("backup"), name),) if name else ()


def sample_url(route: Route) -> str:
    """The address of the route for objects that exist (or, without a sample, with values that could)."""
    app, noun = app_and_noun(route)
    values: dict[str, object] = {}
    if {"job_id", "target_id"} <= set(route.parameters):
        copy = factories.BackupFactory()
        values = {"job_id": copy.job_id, "target_id": copy.target_id}
    for name in route.parameters:
        if name in values:
            continue
        if name == "kind":
            values[name] = "backup"
        elif name in ("pk", "uid", "key"):
            factory = SAMPLES.get((app, noun))
            values[name] = getattr(factory(), name) if factory else 1
        elif name.endswith("_id"):
            factory = SAMPLES.get((app, name.removesuffix("_id")))
            values[name] = factory().pk if factory else 1
        else:
            pytest.fail(f"{route.name} has the parameter {name}: say in this test which value it gets.")
    return route.url(values)


def status_for(user: User, method: str, url: str, body: dict[str, object] | None = None) -> int:
    """The status of the answer; an exception in the view is raised here. What the request changed is rolled back."""
    client = Client()
    client.force_login(user)
    before = transaction.savepoint_create()
    if body is None:
        answer = client.generic(method, url, content_type="application/x-www-form-urlencoded")
    else:
        answer = client.generic(method, url, json.dumps(body), content_type="application/json")
    transaction.savepoint_rollback(before)
    return answer.status_code


def test_there_is_something_to_test() -> None:
    assert len(PAGES) >= 20
    assert len(OPERATIONS) >= 6


@pytest.mark.parametrize("route", PAGES, ids=lambda route: route.name)
def test_every_page_says_which_permission_it_needs(route: Route) -> None:
    assert route.required_permissions is not None, f"{route.name} needs @requires or @signed_in"
    assert route.required_permissions or route.name in ANY_SIGNED_IN


@pytest.mark.parametrize(("route", "method"), OPERATIONS)
def test_every_api_operation_says_which_permission_it_needs(route: Route, method: str) -> None:
    assert getattr(route.operations[method], "required_permissions", ()), f"{route.path} needs @requires_api"


@pytest.mark.parametrize("route", PAGES, ids=lambda route: route.name)
def test_a_page_needs_the_permission_for_what_its_name_says(route: Route) -> None:
    if route.name.startswith("accounts:"):
        return
    wanted = OTHERWISE.get(route.name) or {VERBS[route.name.rpartition("_")[2]]}
    assert actions(kind_permissions(route) or route.required_permissions) == wanted


@pytest.mark.parametrize(("route", "method"), OPERATIONS)
def test_an_api_operation_needs_the_permission_for_what_it_does(route: Route, method: str) -> None:
    last = route.path.rstrip("/").rpartition("/")[2]
    wanted = METHODS["GET"] if method == "GET" else OPERATION_VERBS.get(last, METHODS[method])
    assert actions(getattr(route.operations[method], "required_permissions", None)) == {wanted}


@pytest.mark.django_db
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("route", PAGES, ids=lambda route: route.name)
def test_a_page_is_refused_to_a_role_exactly_when_it_lacks_the_permission(
    route: Route, method: str, members: dict[str, User]
) -> None:
    url, answers = sample_url(route), {}
    for role, user in members.items():
        answers[role] = status_for(user, method, url)
    for role, user in members.items():
        if user.has_perms((*(route.required_permissions or ()), *kind_permissions(route))):
            assert answers[role] != 403, f"{role} has {route.required_permissions} and is refused: {answers}"
            assert answers[role] < 500, answers
        else:
            assert answers[role] in (403, 405), f"{role} lacks {route.required_permissions}: {answers}"


@pytest.mark.django_db
@pytest.mark.parametrize(("route", "method"), OPERATIONS)
def test_an_api_operation_is_refused_to_a_role_exactly_when_it_lacks_the_permission(
    route: Route, method: str, members: dict[str, User]
) -> None:
    url = sample_url(route)
    permissions = getattr(route.operations[method], "required_permissions", ())
    for role, user in members.items():
        status = status_for(user, method, url, BODIES.get(route.path, {}))
        if user.has_perms(permissions):
            assert status != 403, f"{role} has {permissions} and is refused"
            assert status < 500
        else:
            assert status == 403, f"{role} lacks {permissions} and gets {status}"
