"""Changes of policy are on record whichever way they were made."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client

from backups.models import AuditAction, AuditEntry
from backups.services.options import options_update
from config.configuration import apply_configuration
from tests.support import make_job

pytestmark = pytest.mark.django_db


def entries() -> list[tuple[str, str, str]]:
    found = AuditEntry.objects.filter(action=AuditAction.POLICY).order_by("pk")
    return list(found.values_list("actor", "job_name", "reason"))


def test_a_file_that_changes_a_policy_is_on_record(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    options_update(retention={"keep_last": 9})
    apply_configuration({"options": {"retention": {"keep_last": 2}, "guard_pair_share": 0}})
    (entry,) = entries()
    assert entry[:2] == ("manage.py apply", "")
    assert "policy from the last 9; periods in UTC to the last 2; periods in UTC" in entry[2]
    assert "pair share from 25 to no limit" in entry[2]
    apply_configuration({"options": {"retention": {"keep_last": 2}}})
    assert len(entries()) == 1, "nothing changed"
    file = {
        "backup_jobs": [
            {
                "name": job.name,
                "targets": [job.targets.get().name],
                "storage": job.storage.name,
                "retention": {"keep_daily": 7},
            }
        ]
    }
    apply_configuration(file)
    assert entries()[1] == (
        "manage.py apply",
        "nightly",
        "nightly: from the policy in Options to 7 daily; periods in UTC.",
    )


def test_a_change_that_is_refused_leaves_no_record(tmp_path: Path) -> None:
    make_job(tmp_path)
    with pytest.raises(Exception, match="keep_last"):
        apply_configuration({"options": {"retention": {"keep_last": -5}}})
    assert entries() == []


def test_a_change_through_the_api_or_the_admin_site_is_on_record(client: Client, tmp_path: Path) -> None:
    make_job(tmp_path)
    root = User.objects.create_superuser("root")
    client.force_login(root)
    answer = client.patch("/api/v1/settings/options", {"retention": {"keep_last": 5}}, content_type="application/json")
    assert answer.status_code == 200, answer.content
    assert entries()[0][0] == "root"
    form = {"timezone": "UTC", "retention": "{}", "minimum_keep": 1, "trash_hours": 72}
    assert client.post("/admin/backups/options/1/change/", form).status_code == 302
    assert "to no rule: everything is kept" in entries()[1][2]
