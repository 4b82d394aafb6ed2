from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("maintenance", "0002_default_jobs"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="maintenancerun",
            index=models.Index(fields=["job", "status", "-queued_at"], name="maintenance_run_job_status"),
        ),
        migrations.AddIndex(
            model_name="maintenancerun",
            index=models.Index(fields=["job", "outcome", "-queued_at"], name="maintenance_run_job_outcome"),
        ),
    ]
