from __future__ import annotations

from functools import cache
from zoneinfo import available_timezones

_OUTDATED = ("Etc/", "SystemV/", "US/", "Brazil/", "Canada/", "Chile/", "Mexico/")


@cache
def zone_names() -> list[str]:
    """The IANA names that a person would choose from: areas and cities, and UTC."""
    return ["UTC", *sorted(name for name in available_timezones() if "/" in name and not name.startswith(_OUTDATED))]
