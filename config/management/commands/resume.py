from __future__ import annotations

from typing import Any, override

from scheduling.command import KeepwellCommand
from scheduling.job_rules import resume_all


class Command(KeepwellCommand):
    help = "End the pause of everything: schedules start runs again. Jobs with a pause of their own stay paused."

    @override
    def handle(self, *args: Any, **options: Any) -> None:
        self.refuse_unprepared_database()
        was_paused = resume_all()
        text = "Nothing is held back any more." if was_paused else "Nothing was paused."
        self.report({"paused": False, "was_paused": was_paused}, text)
