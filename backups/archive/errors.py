from __future__ import annotations


class Stopped(Exception):  # noqa: N818  (the user's wish, not an error)
    """Raised from a read, a write or a hash soon after the caller's stop event was set."""


class ArchiveError(Exception):
    """Base of everything that is wrong with an archive itself; the text is fit to be shown."""


class DamagedArchiveError(ArchiveError):
    """The bytes are not a complete tar archive in zstandard frames."""


class ExtractError(ArchiveError):
    """An archive that was not unpacked, or not to its end; the destination may hold a part of it."""


class DestinationError(ExtractError):
    """The destination cannot be used, and nothing was written to it."""
