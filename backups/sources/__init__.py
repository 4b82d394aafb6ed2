"""What can be protected: one module a kind. To add one, write the module, its tests and a line in the docs."""

from __future__ import annotations

from backups.sources import files
from backups.sources.errors import SourceConfigError, SourceError
from backups.sources.kinds import SourceKind, SourceStream, Summary

SOURCES: dict[str, SourceKind] = {files.KIND: files}

__all__ = ["SOURCES", "SourceConfigError", "SourceError", "SourceKind", "SourceStream", "Summary"]
