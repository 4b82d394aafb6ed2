"""The three roles. A role is a group of users and the permissions that it has at least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.apps import AppConfig
from django.apps import apps as installed_apps
from django.apps.registry import Apps
from django.contrib.auth.models import Group, Permission
from django.db.models import Q, QuerySet

VIEWER = "viewer"
OPERATOR = "operator"
ADMINISTRATOR = "administrator"

# Everything that can be looked at in these apps belongs to every role.
VIEWED_APPS = ("backups", "maintenance", "scheduling")


@dataclass(frozen=True, kw_only=True)
class Role:
    """A role's name and its permissions ("app.codename") besides looking at everything."""

    name: str
    permissions: frozenset[str]


_OPERATOR_PERMISSIONS = frozenset(
    {
        "backups.add_target",
        "backups.change_target",
        "backups.add_backupjob",
        "backups.change_backupjob",
        "backups.run_backupjob",
        "backups.pin_backup",
        "backups.add_hold",
        "maintenance.change_maintenancejob",
        "maintenance.run_maintenancejob",
        "scheduling.change_pause",
    }
)

_ADMINISTRATOR_PERMISSIONS = _OPERATOR_PERMISSIONS | {
    "backups.add_storage",
    "backups.change_storage",
    "backups.delete_storage",
    "backups.delete_target",
    "backups.delete_backupjob",
    "backups.change_options",
    "backups.restore_backup",
    "backups.accept_backup",
    "backups.untrash_backup",
    "backups.delete_hold",
    "maintenance.approve_cleanupplan",
    "maintenance.add_maintenancejob",
    "maintenance.delete_maintenancejob",
    "auth.view_user",
    "auth.add_user",
    "auth.change_user",
    "auth.delete_user",
    "auth.view_group",
}

ROLES = (
    Role(name=VIEWER, permissions=frozenset()),
    Role(name=OPERATOR, permissions=_OPERATOR_PERMISSIONS),
    Role(name=ADMINISTRATOR, permissions=_ADMINISTRATOR_PERMISSIONS),
)


def role_permissions(role: Role, *, using: str = "default") -> QuerySet[Permission]:
    """The role's permissions among those that the database knows."""
    wanted = Q(content_type__app_label__in=VIEWED_APPS, codename__startswith="view_")
    for name in role.permissions:
        app_label, _, codename = name.partition(".")
        wanted |= Q(content_type__app_label=app_label, codename=codename)
    return Permission.objects.using(using).filter(wanted)


def roles_sync(*, roles: Sequence[Role] = ROLES, using: str = "default") -> None:
    """Make the groups and give each what its role has. Nothing is taken away: what was added by hand stays."""
    for role in roles:
        group, _ = Group.objects.using(using).get_or_create(name=role.name)
        group.permissions.add(*role_permissions(role, using=using))


def roles_sync_after_migrate(*, sender: AppConfig, using: str, apps: Apps = installed_apps, **_: Any) -> None:
    """Fill the roles when the last app has been migrated: Django makes permissions app by app.

    At a state of the database without this app's tables (its migrations were reversed) nothing is done.
    """
    last = [config.label for config in installed_apps.get_app_configs() if config.models_module][-1]
    if sender.label == last and "apitoken" in apps.all_models["accounts"]:
        roles_sync(using=using)
