from __future__ import annotations

from typing import Any, override

from django.core.management.base import CommandParser
from django.utils import timezone

from backups.models import Options
from scheduling.command import KeepwellCommand, bad_input, system_user
from scheduling.cron import load_zone
from scheduling.job_forms import MAX_REASON
from scheduling.job_rules import pause_all
from scheduling.moments import MomentError, until_parse
from scheduling.printable import printable


class Command(KeepwellCommand):
    help = (
        "Let nothing start by itself until a moment: no schedule, no retry, no job that runs after another. What runs "
        "goes on, and runs by hand stay possible."
    )

    @override
    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--until",
            required=True,
            help="such as 90m, 2h, 3d, tomorrow (06:00), or “2026-12-24 06:00” in the time zone of the options",
        )
        parser.add_argument("--reason", default="", help="why, for everybody who sees it")

    @override
    def handle(self, *args: Any, **options: Any) -> None:
        self.refuse_unprepared_database()
        zone = load_zone(Options.load().timezone)
        reason = " ".join(printable(options["reason"]).split())
        if len(reason) > MAX_REASON:
            raise bad_input(f"The reason has {len(reason)} characters; {MAX_REASON} are the most.")
        try:
            until = until_parse(options["until"], now=timezone.now(), zone=zone)
        except MomentError as error:
            raise bad_input(f"Not paused: {error}") from error
        pause = pause_all(until=until, by=system_user(), reason=reason)
        self.report(
            {"paused": True, "until": pause.until.isoformat(), "by": pause.by, "reason": pause.reason},
            f"Everything is paused until {until.astimezone(zone):%Y-%m-%d %H:%M} ({zone}). "
            "“manage.py resume” ends that.",
        )
