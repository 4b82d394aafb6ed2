"""Make the one row of options with its defaults. Going back leaves it: the table goes with the migration before."""

from __future__ import annotations

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps


def add_row(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    options = apps.get_model("backups", "Options")
    options.objects.using(schema_editor.connection.alias).get_or_create(pk=1)


class Migration(migrations.Migration):
    dependencies = [("backups", "0001_initial")]

    operations = [migrations.RunPython(add_row, migrations.RunPython.noop)]
