"""Names of files in a storage: built from ids, checked on the way in, never taken as they come."""

from __future__ import annotations

import re
import secrets
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

TRASH = ".keepwell-trash"
SENTINEL = ".keepwell-storage.json"
EPOCH = ".keepwell-epoch.json"
EPOCH_DRAFT = f"{EPOCH}.part"
SIDECAR_SUFFIX = ".meta.json"

_FOLDER = r"[a-z0-9](?:[a-z0-9_-]{0,62}[a-z0-9])?"
_STAMP = r"\d{4}-\d{2}-\d{2}T\d{6}Z"
_UID = r"[0-9a-f]{16}"
_SUFFIX = r"(?:\.(?!part\b|meta\b|json\b)[a-z0-9]{1,10}){1,3}"
FOLDER = re.compile(_FOLDER, re.ASCII)
_NAME = re.compile(rf"(?P<folder>{_FOLDER})/(?P<stamp>{_STAMP})-(?P<uid>{_UID})(?P<suffix>{_SUFFIX})", re.ASCII)
_RUN = re.compile(r"[0-9A-Za-z]{1,40}", re.ASCII)
_PART = re.compile(
    rf"\.{_STAMP}-{_UID}{_SUFFIX}(?:{re.escape(SIDECAR_SUFFIX)})?\.[0-9A-Za-z]{{1,40}}-[0-9A-Za-z]{{1,40}}\.part",
    re.ASCII,
)
_SENTINEL_DRAFT = re.compile(rf"{re.escape(SENTINEL)}\.[0-9A-Za-z-]{{8,64}}\.part", re.ASCII)
_STAMP_FORMAT = "%Y-%m-%dT%H%M%SZ"


@dataclass(frozen=True, kw_only=True)
class ArtifactName:
    """Where one artifact lives below its storage; raises ValueError for anything but the exact form.

    `folder` is a slug, `created` a whole UTC second, `uid` 16 hex digits, `suffix` such as ".tar.zst".
    """

    folder: str
    created: datetime
    uid: str
    suffix: str

    def __post_init__(self) -> None:
        if self.created.utcoffset() is None or self.created.utcoffset() != UTC.utcoffset(None):
            raise ValueError("An artifact's time must be in UTC.")
        if self.created.microsecond or self.created.year < 1970:
            raise ValueError("An artifact's time must be a whole second since 1970.")
        if _NAME.fullmatch(self.relative) is None:
            raise ValueError(f"{self.relative!r} is not an artifact's name.")

    @cached_property
    def filename(self) -> str:
        return f"{self.created.strftime(_STAMP_FORMAT)}-{self.uid}{self.suffix}"

    @property
    def relative(self) -> str:
        """The name below the storage: `<folder>/<stamp>-<uid><suffix>`."""
        return f"{self.folder}/{self.filename}"

    @property
    def sidecar_filename(self) -> str:
        return self.filename + SIDECAR_SUFFIX

    @property
    def sidecar_relative(self) -> str:
        return self.relative + SIDECAR_SUFFIX

    @property
    def trash_relative(self) -> str:
        return f"{TRASH}/{self.filename}"

    def part_filename(self, run_id: int | str, fence: int | str) -> str:
        """The hidden name bytes are written to before they are published."""
        return f".{self.filename}.{_run(run_id)}-{_run(fence)}.part"

    def sidecar_part_filename(self, run_id: int | str, fence: int | str) -> str:
        return f".{self.sidecar_filename}.{_run(run_id)}-{_run(fence)}.part"

    def is_part_of_run(self, filename: str, run_id: int | str) -> bool:
        """Whether a file is an unpublished artifact or sidecar of exactly this name and run, with any fence."""
        starts = (f".{self.filename}.{_run(run_id)}-", f".{self.sidecar_filename}.{_run(run_id)}-")
        return is_part(filename) and filename.startswith(starts)

    @classmethod
    def parse(cls, relative: str) -> ArtifactName:
        """Read `relative` back; raises ValueError for anything this class would not have written."""
        match = _NAME.fullmatch(relative)
        if match is None:
            raise ValueError(f"{relative!r} is not an artifact's name.")
        created = datetime.strptime(match["stamp"], _STAMP_FORMAT).replace(tzinfo=UTC)
        return cls(folder=match["folder"], created=created, uid=match["uid"], suffix=match["suffix"])


def is_part(filename: str) -> bool:
    """Whether a file is named as an artifact or sidecar that was never published."""
    return _PART.fullmatch(filename) is not None


def is_bookkeeping(filename: str) -> bool:
    """Whether a file directly below a storage is the sentinel, the epoch, or a draft of either that a crash left."""
    return filename in (SENTINEL, EPOCH, EPOCH_DRAFT) or _SENTINEL_DRAFT.fullmatch(filename) is not None


def new_uid() -> str:
    """16 random hex digits."""
    return secrets.token_hex(8)


def folder_slug(text: str) -> str:
    """Make a folder's name of a target's: ASCII, at most 64 characters; two targets may share one (uids differ)."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii").lower()
    return re.sub(r"[^a-z0-9_]+", "-", plain)[:64].strip("-_") or "target"


def _run(value: int | str) -> str:
    text = str(value)
    if _RUN.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not a run's id or fence.")
    return text
