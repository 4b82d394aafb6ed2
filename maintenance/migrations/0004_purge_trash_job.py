"""Make the default job that empties the trash. A job that is there already, edited or not, is left as it is.

Going back removes it only while it is as this migration made it, so that an operator's edits survive going back and forth.
"""

from __future__ import annotations

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps

KEY = "purge_trash"
VALUES = {
    "name": "Empty the trash",
    "job_type": "purge_trash",
    "schedule_cron": "30 3 * * *",
    "timezone": "",
    "enabled": True,
    "visible_in_ui": True,
    "options": {},
}


def add_job(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    jobs = apps.get_model("maintenance", "MaintenanceJob").objects.using(schema_editor.connection.alias)
    jobs.get_or_create(key=KEY, defaults=VALUES)


def remove_untouched_job(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    jobs = apps.get_model("maintenance", "MaintenanceJob").objects.using(schema_editor.connection.alias)
    jobs.filter(key=KEY, **VALUES).delete()


class Migration(migrations.Migration):
    dependencies = [("maintenance", "0003_retention_guards")]

    operations = [migrations.RunPython(add_job, remove_untouched_job)]
