from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from config.secret_key import data_folder, secret_key, write_once


def test_the_key_file_is_for_its_owner_alone_and_lasts(tmp_path: Path) -> None:
    path = tmp_path / "secret_key"
    key = secret_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(key) >= 64
    assert secret_key(path) == key


def test_processes_that_start_together_agree_on_the_key(tmp_path: Path) -> None:
    """Two hundred rounds, because one round seldom meets the moment between "not there" and "written"."""
    folder, go = data_folder(tmp_path / "data"), tmp_path / "go"
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom config.secret_key import secret_key\n"
        "folder, go = map(Path, sys.argv[1:])\nprint('ready', flush=True)\n"
        "while not go.exists(): time.sleep(0.001)\n"
        "for number in range(200): print(secret_key(folder / str(number)))"
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", program, folder, go], stdout=subprocess.PIPE, text=True, cwd=settings.BASE_DIR
        )
        for _ in range(4)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    go.touch()
    answers = [racer.communicate(timeout=30)[0].split() for racer in racers]
    assert [len(answer) for answer in answers] == [200] * 4
    assert answers[0] == answers[1] == answers[2] == answers[3]
    assert len(list(folder.iterdir())) == 200, "no drafts stay behind"


def test_what_is_written_once_is_never_replaced(tmp_path: Path) -> None:
    assert write_once(tmp_path / "name", "first") == "first"
    assert write_once(tmp_path / "name", "second") == "first"


def test_a_damaged_key_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "secret_key").write_text("")
    with pytest.raises(ImproperlyConfigured, match="too short"):
        secret_key(tmp_path / "secret_key")


def test_the_data_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    assert data_folder(tmp_path / "a" / "data").stat().st_mode & 0o777 == 0o700


def test_a_data_folder_that_is_a_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(ImproperlyConfigured, match=r"data cannot be used.*KEEPWELL_DATA"):
        data_folder(tmp_path / "data")
