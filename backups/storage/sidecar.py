"""The small JSON file beside every artifact, from which a lost catalogue is rebuilt."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from backups.storage.errors import SidecarError
from backups.storage.names import ArtifactName

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT_VERSION = 1
# A sidecar takes some 600 bytes; a larger file was not written by Keepwell and is not read into memory.
SIZE_LIMIT = 64 * 1024
TEXT_LIMIT = 1000

_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Sidecar:
    """What is known about one artifact. `size` in bytes and `sha256` (hex) are those of the artifact's own bytes.

    `summary` is what the source reported (counts and bytes); it must hold no secret, and names relative to nothing.
    """

    name: ArtifactName
    target: str
    kind: str
    job: str
    run: str
    size: int
    sha256: str
    summary: Mapping[str, int | str] = field(default_factory=dict)

    def to_mapping(self) -> dict[str, Any]:
        return {
            "format_version": FORMAT_VERSION,
            "uid": self.name.uid,
            "artifact": self.name.relative,
            "target": {"name": self.target, "kind": self.kind},
            "job": {"name": self.job},
            "run": self.run,
            "kind": self.kind,
            "created": self.name.created.isoformat(),
            "size": self.size,
            "sha256": self.sha256,
            "source": dict(self.summary),
        }


def render(mapping: Mapping[str, Any]) -> bytes:
    """Give the file's bytes after checking that `parse` would take them back; raises `SidecarError`."""
    raw = json.dumps(mapping, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
    parse(raw)
    return raw


def parse(raw: bytes) -> Sidecar:
    """Check and read a sidecar; raises `SidecarError` with what is wrong. Unknown keys are ignored."""
    if len(raw) > SIZE_LIMIT:
        raise SidecarError(f"The sidecar is larger than {SIZE_LIMIT} bytes: it was not written by Keepwell.")
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise SidecarError("The sidecar is not JSON.") from error
    if not isinstance(value, dict):
        raise SidecarError("The sidecar is not a JSON object.")
    version = value.get("format_version")
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise SidecarError(
            f"The sidecar has format version {str(version)[:20]}; this Keepwell reads version {FORMAT_VERSION}. "
            "Update Keepwell to read it."
        )
    name = _name(value)
    target = _part(value, "target")
    kind = _text(value, "kind")
    if _text(target, "kind") != kind:
        raise SidecarError("The sidecar contradicts itself about the kind of its target.")
    size = value.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size <= 0:
        raise SidecarError("The sidecar has no usable size.")
    sha256 = _text(value, "sha256")
    if _SHA256.fullmatch(sha256) is None:
        raise SidecarError("The sidecar has no usable sha256.")
    return Sidecar(
        name=name,
        target=_text(target, "name"),
        kind=kind,
        job=_text(_part(value, "job"), "name"),
        run=_text(value, "run"),
        size=size,
        sha256=sha256,
        summary=_summary(value.get("source", {})),
    )


def _name(value: dict[str, Any]) -> ArtifactName:
    try:
        name = ArtifactName.parse(_text(value, "artifact"))
        created = datetime.fromisoformat(_text(value, "created"))
    except ValueError as error:
        raise SidecarError(f"The sidecar names no artifact: {error}") from error
    if name.uid != value.get("uid") or created.tzinfo is None or created.astimezone(UTC) != name.created:
        raise SidecarError("The sidecar's uid or time is not that of the artifact it names.")
    return name


def _part(value: dict[str, Any], key: str) -> dict[str, Any]:
    part = value.get(key)
    if not isinstance(part, dict):
        raise SidecarError(f"The sidecar has no {key}.")
    return part


def _text(value: dict[str, Any], key: str) -> str:
    text = value.get(key)
    if not isinstance(text, str) or len(text) > TEXT_LIMIT:
        raise SidecarError(f"The sidecar has no usable {key}.")
    return text


def _summary(value: object) -> dict[str, int | str]:
    if not isinstance(value, dict) or not all(
        isinstance(item, int | str) and len(str(item)) <= TEXT_LIMIT for item in value.values()
    ):
        raise SidecarError("The sidecar has no usable source summary.")
    return value
