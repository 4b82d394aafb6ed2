from django.db import migrations, models

import scheduling.models.state


def forget_hosts(apps, schema_editor):
    """The rows are signs of life of minutes ago: whatever lives writes its own again within seconds."""
    apps.get_model("scheduling", "Host").objects.using(schema_editor.connection.alias).all().delete()


class Migration(migrations.Migration):
    dependencies = [
        ("scheduling", "0003_runs_engine"),
    ]

    operations = [
        migrations.RunPython(forget_hosts, forget_hosts),
        migrations.AlterField(
            model_name="host",
            name="host",
            field=models.CharField(db_index=True, help_text="Id of the data folder.", max_length=64),
        ),
        migrations.AddField(
            model_name="host",
            name="process",
            field=models.CharField(
                default=scheduling.models.state.new_process_id,
                help_text="Made up by the process at its start.",
                max_length=32,
                unique=True,
            ),
        ),
        migrations.AddField(
            model_name="host",
            name="role",
            field=models.CharField(
                choices=[
                    ("scheduler", "Active scheduler"),
                    ("standby", "Standby scheduler"),
                    ("worker", "Worker"),
                    ("command", "Command"),
                ],
                default="worker",
                max_length=16,
            ),
        ),
        migrations.AddConstraint(
            model_name="host",
            constraint=models.CheckConstraint(
                condition=models.Q(("role__in", ["scheduler", "standby", "worker", "command"])),
                name="scheduler_host_role_known",
            ),
        ),
    ]
