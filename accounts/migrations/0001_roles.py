"""The groups of the three roles. Their permissions follow after each migrate: see accounts/roles.py."""

from __future__ import annotations

from django.db import migrations

NAMES = ("viewer", "operator", "administrator")


def create_groups(apps, schema_editor):
    groups = apps.get_model("auth", "Group").objects.using(schema_editor.connection.alias)
    for name in NAMES:
        groups.get_or_create(name=name)


def remove_unused_groups(apps, schema_editor):
    # A group with members is the operator's by now.
    groups = apps.get_model("auth", "Group").objects.using(schema_editor.connection.alias)
    groups.filter(name__in=NAMES, user__isnull=True).delete()


class Migration(migrations.Migration):
    initial = True
    dependencies = [("auth", "0012_alter_user_first_name_max_length")]
    operations = [migrations.RunPython(create_groups, remove_unused_groups)]
