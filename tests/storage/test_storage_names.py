from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from backups.storage import ArtifactName, Sidecar, SidecarError, folder_slug, new_uid
from backups.storage.sidecar import SIZE_LIMIT, parse, render

RELATIVE = "etc/2026-11-24T023000Z-0123456789abcdef.tar.zst"


def test_a_name_is_written_and_read_back(name: ArtifactName) -> None:
    assert name.relative == RELATIVE
    assert name.sidecar_relative == RELATIVE + ".meta.json"
    assert name.trash_relative == ".keepwell-trash/2026-11-24T023000Z-0123456789abcdef.tar.zst"
    assert name.part_filename(7, 1) == ".2026-11-24T023000Z-0123456789abcdef.tar.zst.7-1.part"
    assert ArtifactName.parse(RELATIVE) == name


@pytest.mark.parametrize(
    "relative",
    [
        "",
        "../" + RELATIVE,
        "/" + RELATIVE,
        RELATIVE + "\n",
        RELATIVE + ".meta.json",
        RELATIVE.replace("etc", ".keepwell-trash"),
        RELATIVE.replace("etc", "e/tc"),
        RELATIVE.replace("etc", ".."),
        RELATIVE.replace("etc", "Etc"),
        RELATIVE.replace("abcdef", "ABCDEF"),
        RELATIVE.replace("-11-24", "-13-24"),
        RELATIVE.replace("2026", "２０２６"),
        RELATIVE.replace(".tar.zst", ""),
        RELATIVE.replace(".tar.zst", ".part"),
        RELATIVE.replace(".tar.zst", ".json"),
        RELATIVE.replace(".tar.zst", "/.zst"),
        RELATIVE.replace(".tar.zst", ".tar\0.zst"),
    ],
)
def test_any_other_name_is_refused(relative: str) -> None:
    with pytest.raises(ValueError):
        ArtifactName.parse(relative)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"folder": "../x"}, id="folder"),
        pytest.param({"uid": "1"}, id="uid"),
        pytest.param({"suffix": ".tar/../x"}, id="suffix"),
        pytest.param({"created": datetime(2026, 1, 1)}, id="no zone"),
        pytest.param({"created": datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1)))}, id="another zone"),
        pytest.param({"created": datetime(2026, 1, 1, microsecond=1, tzinfo=UTC)}, id="fraction"),
    ],
)
def test_a_name_cannot_be_made_of_wrong_parts(change: dict[str, Any], name: ArtifactName) -> None:
    with pytest.raises(ValueError, match="artifact"):
        replace(name, **change)


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("etc", "etc"),
        ("Web Server: /srv (Köln)", "web-server-srv-koln"),
        ("../../x", "x"),
        ("日本", "target"),
        ("", "target"),
        ("x" * 300, "x" * 64),
        ("a" * 63 + " b", "a" * 63),
    ],
)
def test_a_folder_is_named_after_its_target(text: str, slug: str, name: ArtifactName) -> None:
    assert folder_slug(text) == slug
    assert ArtifactName.parse(replace(name, folder=slug).relative).folder == slug


def test_uids_are_random_and_fit_names(name: ArtifactName) -> None:
    assert new_uid() != new_uid()
    replace(name, uid=new_uid())


def test_a_part_belongs_to_its_own_name_and_run_only(name: ArtifactName) -> None:
    other = replace(name, uid=new_uid())
    assert name.is_part_of_run(name.part_filename(7, 2), 7)
    assert name.is_part_of_run(name.sidecar_part_filename(7, 2), "7")
    assert not name.is_part_of_run(name.part_filename(71, 2), 7)
    assert not name.is_part_of_run(other.part_filename(7, 2), 7)
    assert not name.is_part_of_run(name.filename, 7)
    with pytest.raises(ValueError, match="run's id"):
        name.part_filename("../7", 1)


type Describe = Callable[[ArtifactName, bytes], Sidecar]


def test_a_sidecar_is_written_and_read_back(name: ArtifactName, describe: Describe) -> None:
    sidecar = describe(name, b"content")
    raw = render(sidecar.to_mapping())
    assert parse(raw) == sidecar
    value = json.loads(raw)
    assert (value["format_version"], value["artifact"], value["created"]) == (1, RELATIVE, "2026-11-24T02:30:00+00:00")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"format_version": 2}, id="newer"),
        pytest.param({"format_version": True}, id="boolean version"),
        pytest.param({"artifact": "../../etc/passwd"}, id="name that leads out"),
        pytest.param({"artifact": "/" + RELATIVE}, id="absolute name"),
        pytest.param({"uid": "0" * 16}, id="another uid"),
        pytest.param({"created": "2026-11-24T02:30:01+00:00"}, id="another time"),
        pytest.param({"created": "2026-11-24T02:30:00"}, id="no zone"),
        pytest.param({"size": 0}, id="empty"),
        pytest.param({"size": "7"}, id="size as text"),
        pytest.param({"size": True}, id="size as boolean"),
        pytest.param({"sha256": "abc"}, id="short hash"),
        pytest.param({"target": {"name": "etc", "kind": "postgres"}}, id="two kinds"),
        pytest.param({"target": "etc"}, id="target as text"),
        pytest.param({"job": None}, id="no job"),
        pytest.param({"source": [1]}, id="summary as list"),
        pytest.param({"run": "x" * 2000}, id="long text"),
    ],
)
def test_a_wrong_sidecar_is_refused(change: dict[str, Any], name: ArtifactName, describe: Describe) -> None:
    with pytest.raises(SidecarError):
        render(describe(name, b"x").to_mapping() | change)


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"{", b"\xff", b"[" * 60_000, b" " * (SIZE_LIMIT + 1)],
    ids=["nothing", "list", "cut", "not text", "deep", "large"],
)
def test_something_else_is_not_a_sidecar(raw: bytes) -> None:
    with pytest.raises(SidecarError):
        parse(raw)
