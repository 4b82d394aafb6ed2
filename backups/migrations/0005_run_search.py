import django.db.models.deletion
from django.db import migrations, models

from scheduling import search_index

TABLES = search_index.Tables(runs="backups_backuprun", targets="backups_backupruntarget")
INDEXES = {
    "backup_run_status": ["status"],
    "backup_run_job": ["job"],
    "backup_run_outcome": ["outcome"],
    "backup_run_job_status": ["job", "status"],
    "backup_run_job_outcome": ["job", "outcome"],
}


def index(_apps, schema_editor):
    search_index.fill(schema_editor, TABLES)
    search_index.install(schema_editor, TABLES)


def unindex(_apps, schema_editor):
    search_index.remove(schema_editor, TABLES)


class Migration(migrations.Migration):
    dependencies = [
        ("backups", "0004_runs_engine"),
    ]

    operations = [
        # Adding an index rebuilds no table, so the triggers of its transitions stay.
        *(
            operation
            for name, columns in INDEXES.items()
            for operation in (
                migrations.RemoveIndex("backuprun", name),
                migrations.AddIndex("backuprun", models.Index(fields=[*columns, "-queued_at", "-id"], name=name)),
            )
        ),
        migrations.CreateModel(
            name="BackupRunText",
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
                        to="backups.backuprun",
                    ),
                ),
            ],
            options={"abstract": False, "default_permissions": ()},
        ),
        migrations.RunPython(index, unindex),
    ]
