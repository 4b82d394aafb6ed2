from __future__ import annotations

from typing import Any, override

from django.core.management.base import BaseCommand

from accounts.setup import ensure_setup_link


class Command(BaseCommand):
    help = "Print the one-time address at which the first administrator is made."

    @override
    def handle(self, *args: Any, **options: Any) -> None:
        link = ensure_setup_link()
        if link is None:
            self.stdout.write("There is an administrator already. Sign in, or reset the password with changepassword.")
        else:
            self.stdout.write(link)
