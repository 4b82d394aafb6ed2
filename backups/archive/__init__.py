"""How bytes are packed, hashed and unpacked. Pure: no Django, no clock, no paths but the ones given."""

from __future__ import annotations

from backups.archive.errors import ArchiveError, DamagedArchiveError, DestinationError, ExtractError, Stopped
from backups.archive.extract import ExtractLimits, ExtractSummary, extract_archive
from backups.archive.members import Member, MemberKind
from backups.archive.reader import sha256_file
from backups.archive.writer import Written, write_archive

__all__ = [
    "ArchiveError",
    "DamagedArchiveError",
    "DestinationError",
    "ExtractError",
    "ExtractLimits",
    "ExtractSummary",
    "Member",
    "MemberKind",
    "Stopped",
    "Written",
    "extract_archive",
    "sha256_file",
    "write_archive",
]
