from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("backups", "0002_options_row"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="backuprun",
            index=models.Index(fields=["job", "status", "-queued_at"], name="backup_run_job_status"),
        ),
        migrations.AddIndex(
            model_name="backuprun",
            index=models.Index(fields=["job", "outcome", "-queued_at"], name="backup_run_job_outcome"),
        ),
    ]
