from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from backups.models import Storage
from backups.services.probing import StorageState, storage_state, storages_probe
from tests import factories
from tests.pages.people import HTMX, sign_in
from tests.support import add_backup, make_job, make_storage

pytestmark = pytest.mark.django_db

NEW = "/storages/new/"
LIST = "/storages/"
SENTINEL = ".keepwell-storage.json"


@pytest.fixture
def client() -> Client:
    return sign_in("administrator")


def page(client: Client, url: str) -> str:
    answer = client.get(url)
    assert answer.status_code == 200
    return answer.content.decode()


def test_a_storage_is_added_and_its_folder_gets_a_sentinel(client: Client, tmp_path: Path) -> None:
    answer = client.post(NEW, {"name": "nas", "path": f"{tmp_path}/nas/"})
    storage = Storage.objects.get()
    assert answer["Location"] == f"/storages/{storage.pk}/"
    assert storage.path == str(tmp_path / "nas")
    assert storage.uid in (tmp_path / "nas" / SENTINEL).read_text()


@pytest.mark.parametrize(
    ("name", "path", "says"),
    [
        pytest.param("nas", "relative/folder", "is not an absolute path", id="a relative path"),
        pytest.param("nas", "/", "The root folder cannot be a storage", id="the root"),
        pytest.param("nas", "/nowhere/at/all", "a folder above it is missing", id="no folder above"),
        pytest.param("nas", "/a\0b", "Null characters are not allowed.", id="NUL"),
        pytest.param("nas", "/" + "x" * 1000, "at most 1000 characters", id="a long path"),
        pytest.param("nas", "/" + "x" * 999, "", id="a name no file system takes"),
        pytest.param("", "/srv", "This field is required.", id="no name"),
    ],
)
def test_a_storage_that_cannot_be_is_refused_at_its_field(client: Client, name: str, path: str, says: str) -> None:
    answer = client.post(NEW, {"name": name, "path": path})
    assert answer.status_code == 422
    assert says in answer.content.decode()
    assert not Storage.objects.exists()


def test_a_folder_with_files_is_taken_only_when_that_is_confirmed(client: Client, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    data = {"name": "nas", "path": str(tmp_path / "full")}
    refused = client.post(NEW, data)
    assert refused.status_code == 422
    assert "Tick this to use the folder as it is." in refused.content.decode()
    assert client.post(NEW, {**data, "use_existing": "on"}).status_code == 302
    assert (tmp_path / "full" / "letter.txt").read_text() == "dear"


def test_the_page_of_a_storage_says_what_it_holds_and_who_uses_it(client: Client, tmp_path: Path) -> None:
    job = make_job(tmp_path, "nightly")
    add_backup(job, timezone.now(), content=b"x" * 2048)
    text = page(client, f"/storages/{job.storage.pk}/")
    for expected in ("1 copy, 2.0", "free of", "in place", "nightly", job.storage.path, job.storage.uid):
        assert expected in text
    assert "initialise/" not in text


def test_a_lost_sentinel_is_shown_and_can_be_written_again(client: Client, tmp_path: Path) -> None:
    job = make_job(tmp_path)
    add_backup(job, timezone.now())
    storage, sentinel = job.storage, Path(job.storage.path) / SENTINEL
    sentinel.unlink()
    assert "1 of 1 storage cannot be used" in page(client, LIST)
    assert f"/storages/{storage.pk}/initialise/" in page(client, f"/storages/{storage.pk}/")
    answer = client.post(f"/storages/{storage.pk}/initialise/", follow=True)
    assert "has its sentinel again" in answer.content.decode()
    assert storage.uid in sentinel.read_text()


def test_an_unmounted_disk_gets_no_sentinel(client: Client, tmp_path: Path) -> None:
    job = make_job(tmp_path)
    add_backup(job, timezone.now())
    place = Path(job.storage.path)
    place.rename(tmp_path / "unmounted")
    place.mkdir()
    answer = client.post(f"/storages/{job.storage.pk}/initialise/", follow=True)
    assert "1 of the 1 backups" in answer.content.decode()
    assert list(place.iterdir()) == []


def test_looking_again_reports_a_storage_that_is_away(client: Client, tmp_path: Path) -> None:
    storage = make_storage(tmp_path)
    url = f"/storages/{storage.pk}/check/"
    assert "carries its sentinel" in client.post(url, follow=True).content.decode()
    Path(storage.path).rename(tmp_path / "away")
    assert "cannot be opened" in client.post(url, follow=True).content.decode()
    region = client.post(url, headers=HTMX).content.decode()
    assert region.strip().startswith('<section id="state"')
    assert "Away" in region


def test_a_storage_moves_to_where_its_sentinel_is(client: Client, tmp_path: Path) -> None:
    job = make_job(tmp_path)
    add_backup(job, timezone.now())
    storage, url = job.storage, f"/storages/{job.storage.pk}/edit/"
    (tmp_path / "empty").mkdir()
    refused = client.post(url, {"name": "nas", "path": str(tmp_path / "empty")})
    assert refused.status_code == 422
    assert "has no Keepwell sentinel" in refused.content.decode()
    Path(storage.path).rename(tmp_path / "moved")
    assert client.post(url, {"name": "nas", "path": str(tmp_path / "moved")}).status_code == 302
    storage.refresh_from_db()
    assert (storage.name, storage.path) == ("nas", str(tmp_path / "moved"))


def test_deleting_a_storage_leaves_its_folder(client: Client, tmp_path: Path) -> None:
    storage = make_storage(tmp_path)
    (Path(storage.path) / "stray.txt").write_text("mine")
    assert "stays as it is" in page(client, f"/storages/{storage.pk}/delete/")
    assert client.post(f"/storages/{storage.pk}/delete/")["Location"] == LIST
    assert not Storage.objects.exists()
    assert (Path(storage.path) / "stray.txt").read_text() == "mine"


def test_a_storage_in_use_or_with_backups_is_not_deleted(client: Client, tmp_path: Path) -> None:
    job = make_job(tmp_path, "nightly")
    add_backup(job, timezone.now())
    url = f"/storages/{job.storage.pk}/delete/"
    assert "Delete the storage" not in page(client, url)
    assert "is used by nightly" in client.post(url, follow=True).content.decode()
    job.delete()
    assert "It stays, so that" in client.post(url, follow=True).content.decode()
    assert Storage.objects.count() == 1


@pytest.mark.parametrize(("role", "may"), [("viewer", False), ("operator", False), ("administrator", True)])
def test_only_administrators_are_offered_to_change_storages(role: str, may: bool, tmp_path: Path) -> None:
    storage = make_storage(tmp_path)
    (Path(storage.path) / SENTINEL).unlink()
    text = page(sign_in(role), f"/storages/{storage.pk}/")
    for action in ("edit", "delete", "check", "initialise"):
        assert (f'"/storages/{storage.pk}/{action}/"' in text) is may
    assert (f'"{NEW}"' in page(sign_in(role), LIST)) is may


@pytest.mark.parametrize("pk", ["0", "9" * 30])
@pytest.mark.parametrize("rest", ["", "edit/", "delete/"])
def test_a_storage_that_is_not_there_is_a_404(client: Client, pk: str, rest: str) -> None:
    assert client.get(f"/storages/{pk}/{rest}").status_code == 404


def test_a_storage_that_does_not_answer_does_not_hold_the_page_up(tmp_path: Path) -> None:
    storages = [make_storage(tmp_path, "dead mount"), make_storage(tmp_path, "disk")]
    answers, looks = threading.Event(), []

    def look(storage: Storage) -> StorageState:
        looks.append(storage.name)
        if storage.name == "dead mount":
            answers.wait(30)
        return storage_state(storage)

    begun = time.monotonic()
    states = [storages_probe(storages, patience=0.3, look=look) for _ in range(2)][-1]
    assert time.monotonic() - begun < 5
    assert [states[storage.pk].word for storage in storages] == ["No answer", "Ready"]
    assert looks.count("dead mount") == 1, "a look that hangs is not begun a second time"
    answers.set()
    assert storages_probe(storages, patience=30, look=look)[storages[0].pk].word == "Ready"


def test_the_list_asks_no_more_queries_for_more_storages(client: Client) -> None:
    def fill(count: int) -> int:
        for job in factories.BackupJobFactory.create_batch(count):
            factories.BackupFactory(job=job)
        with CaptureQueriesContext(connection) as queries:
            page(client, LIST)
        return len(queries)

    client.get(LIST)
    few, many = fill(1), fill(20)
    assert many == few
    assert many <= 12
