import django.db.models.deletion
from django.db import migrations, models

from scheduling import search_index

TABLES = search_index.Tables(runs="maintenance_maintenancerun")
INDEXES = {
    "maintenance_run_status": ["status"],
    "maintenance_run_job": ["job"],
    "maintenance_run_outcome": ["outcome"],
    "maintenance_run_job_status": ["job", "status"],
    "maintenance_run_job_outcome": ["job", "outcome"],
}


def index(_apps, schema_editor):
    search_index.fill(schema_editor, TABLES)
    search_index.install(schema_editor, TABLES)


def unindex(_apps, schema_editor):
    search_index.remove(schema_editor, TABLES)


class Migration(migrations.Migration):
    dependencies = [
        ("maintenance", "0005_runs_engine"),
    ]

    operations = [
        # Adding an index rebuilds no table, so the triggers of its transitions stay.
        *(
            operation
            for name, columns in INDEXES.items()
            for operation in (
                migrations.RemoveIndex("maintenancerun", name),
                migrations.AddIndex("maintenancerun", models.Index(fields=[*columns, "-queued_at", "-id"], name=name)),
            )
        ),
        migrations.CreateModel(
            name="MaintenanceRunText",
            fields=[
                ("key", models.BigIntegerField(primary_key=True, serialize=False)),
                ("body", models.TextField(help_text="Names, message and the first part of the log.")),
                (
                    "facets",
                    models.TextField(help_text="Marked tokens: status, outcome, trigger, host, job, targets."),
                ),
                (
                    "run",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="text",
                        to="maintenance.maintenancerun",
                    ),
                ),
            ],
            options={"abstract": False, "default_permissions": ()},
        ),
        migrations.RunPython(index, unindex),
    ]
