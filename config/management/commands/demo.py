from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Any, override

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from accounts.services import administrator_create_first
from backups.choices import BackupState
from backups.models import Backup, BackupRun
from config.demo import marker
from config.demo.history import DAYS, build_history
from config.management.commands.serve import refuse_busy_port
from maintenance.models import MaintenanceRun
from scheduling.command import refused
from scheduling.scheduler_lock import SchedulerRunningError, scheduler_lock
from scheduling.units import binary_size

USER = "demo"


class Command(BaseCommand):
    help = (
        "Show Keepwell with two months of real backups of this checkout, cleaned up for real, in a data folder of its "
        "own. Set KEEPWELL_DATA to that folder; “make demo” uses ./demo-data."
    )
    requires_system_checks = []

    @override
    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--fresh", action="store_true", help="build it again, also when it was built before")
        parser.add_argument("--no-serve", action="store_true", help="build it and end, without the web pages")

    @override
    def handle(self, *args: Any, **options: Any) -> None:
        data = Path(settings.KEEPWELL_DATA)
        refuse_wrong_place(data)
        if not options["no_serve"]:
            refuse_busy_port(settings.KEEPWELL_BIND, settings.KEEPWELL_PORT)
        try:
            finished = marker.is_finished(data)
            with scheduler_lock():
                if not finished or options["fresh"]:
                    self._build(data)
                else:
                    call_command("migrate", interactive=False, verbosity=0, skip_checks=True)
        except marker.NotADemoError as error:
            raise refused(str(error)) from error
        except SchedulerRunningError as error:
            raise refused(str(error)) from error
        password = demo_administrator()
        self._say(f"\n  Sign in   {USER} / {password}")
        if not options["no_serve"]:
            call_command("serve")

    def _build(self, data: Path) -> None:
        began = time.monotonic()
        marker.begin(data)
        self._say(f"Taking {DAYS} days of real backups of this checkout into {data}:")
        call_command("migrate", interactive=False, verbosity=0, skip_checks=True)
        build_history(data=data, checkout=settings.BASE_DIR, now=timezone.now(), say=self._say)
        marker.write(data, finished=True)
        self._say(f"{summary()} in {time.monotonic() - began:.0f} s.")

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()


def refuse_wrong_place(data: Path) -> None:
    """Raise CommandError unless the data folder and the database can only be a demonstration's own."""
    if data.resolve() == (settings.BASE_DIR / "data").resolve():
        raise refused(
            f"{data} is where “make run” keeps its data. Run “make demo”, or set KEEPWELL_DATA to another folder."
        )
    if Path(str(settings.DATABASES["default"]["NAME"])).parent.resolve() != data.resolve():
        raise refused("DATABASE_URL is set, and a demonstration keeps a database of its own. Unset it, then run again.")


def demo_administrator() -> str:
    """The demonstration's administrator with a new password, which is returned."""
    password = secrets.token_urlsafe(9)
    if administrator_create_first(username=USER, password=password) is None:
        user = User.objects.get(username=USER)
        user.set_password(password)
        user.save(update_fields=["password"])
    return password


def summary() -> str:
    """What the demonstration made, in figures."""
    states = {state: Backup.objects.filter(state=state).count() for state in BackupState}
    size = sum(Backup.objects.available().values_list("size", flat=True))
    return (
        f"{BackupRun.objects.count()} backup runs and {MaintenanceRun.objects.count()} maintenance runs: "
        f"{states[BackupState.AVAILABLE]} copies kept ({binary_size(size)}), "
        f"{states[BackupState.TRASHED]} in the trash, {states[BackupState.DELETED]} purged"
    )
