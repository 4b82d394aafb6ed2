from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from accounts.roles import ROLES, VIEWED_APPS, Role, roles_sync


def permissions_of(name: str) -> set[str]:
    return {
        f"{app}.{codename}"
        for app, codename in Group.objects.get(name=name).permissions.values_list("content_type__app_label", "codename")
    }


@pytest.mark.django_db
def test_every_permission_that_a_role_names_exists() -> None:
    known = {f"{p.content_type.app_label}.{p.codename}" for p in Permission.objects.select_related("content_type")}
    assert {name for role in ROLES for name in role.permissions} <= known


@pytest.mark.django_db
@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_after_migrate_each_role_has_its_permissions_and_no_others(role: Role) -> None:
    views = Permission.objects.filter(content_type__app_label__in=VIEWED_APPS, codename__startswith="view_")
    names = {f"{p.content_type.app_label}.{p.codename}" for p in views.select_related("content_type")}
    assert len(names) >= 8
    assert permissions_of(role.name) == names | role.permissions


@pytest.mark.django_db
def test_each_role_may_do_what_the_one_below_it_may() -> None:
    viewer, operator, administrator = (permissions_of(role.name) for role in ROLES)
    assert viewer < operator < administrator


@pytest.mark.django_db
def test_nobody_but_an_administrator_deletes_restores_or_changes_options() -> None:
    reserved = {"backups.delete_target", "backups.restore_backup", "backups.accept_backup", "backups.change_options"}
    assert not permissions_of("operator") & reserved


@pytest.mark.django_db
def test_filling_the_roles_again_changes_nothing_and_keeps_what_was_added_by_hand() -> None:
    extra = Permission.objects.get(content_type__app_label="auth", codename="view_user")
    viewer = Group.objects.get(name="viewer")
    viewer.permissions.add(extra)
    before = {role.name: permissions_of(role.name) for role in ROLES}
    call_command("migrate", verbosity=0)
    assert {role.name: permissions_of(role.name) for role in ROLES} == before
    assert "auth.view_user" in before["viewer"]


@pytest.mark.django_db
def test_a_role_that_lost_a_permission_gets_it_back() -> None:
    Group.objects.get(name="operator").permissions.clear()
    roles_sync()
    assert "backups.run_backupjob" in permissions_of("operator")


@pytest.mark.django_db(transaction=True)
def test_the_migration_goes_back_and_forth_and_keeps_a_group_with_members() -> None:
    User.objects.create_user("ann").groups.add(Group.objects.get(name="operator"))
    try:
        MigrationExecutor(connection).migrate([("accounts", None)])
        assert set(Group.objects.values_list("name", flat=True)) == {"operator"}
    finally:
        MigrationExecutor(connection).migrate([("accounts", "0002_apitoken")])
    assert set(Group.objects.values_list("name", flat=True)) == {"viewer", "operator", "administrator"}
    roles_sync()


@pytest.mark.django_db(transaction=True)
def test_the_groups_stay_away_while_the_app_is_migrated_away() -> None:
    call_command("migrate", "accounts", "zero", verbosity=0)
    try:
        assert not Group.objects.exists()
    finally:
        call_command("migrate", "accounts", verbosity=0)
    assert "maintenance.run_maintenancejob" in permissions_of("operator")
