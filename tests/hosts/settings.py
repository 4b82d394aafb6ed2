"""Keepwell's own settings, with runs that only leave a trace of what they did and when."""

from __future__ import annotations

from config.settings import *  # noqa: F403
from config.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.hosts.quick"]
