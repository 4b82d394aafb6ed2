"""Make the two default cleanup jobs. A job that is there already, edited or not, is left as it is.

Going back removes a default job only while it is as this migration made it, so that an operator's edits survive going back and forth.
"""

from __future__ import annotations

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps

DEFAULT_JOBS = {
    "retention_cleanup_nightly": {
        "name": "Nightly cleanup",
        "job_type": "retention_cleanup",
        "schedule_cron": "0 3 * * *",
        "timezone": "",
        "enabled": True,
        "visible_in_ui": True,
        "options": {},
    },
    "retention_cleanup_manual": {
        "name": "Cleanup by hand",
        "job_type": "retention_cleanup",
        "schedule_cron": "",
        "timezone": "",
        "enabled": True,
        "visible_in_ui": False,
        "options": {},
    },
}


def add_jobs(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    jobs = apps.get_model("maintenance", "MaintenanceJob").objects.using(schema_editor.connection.alias)
    for key, values in DEFAULT_JOBS.items():
        jobs.get_or_create(key=key, defaults=values)


def remove_untouched_jobs(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    jobs = apps.get_model("maintenance", "MaintenanceJob").objects.using(schema_editor.connection.alias)
    for key, values in DEFAULT_JOBS.items():
        jobs.filter(key=key, **values).delete()


class Migration(migrations.Migration):
    dependencies = [("maintenance", "0001_initial"), ("backups", "0002_options_row")]

    operations = [migrations.RunPython(add_jobs, remove_untouched_jobs)]
