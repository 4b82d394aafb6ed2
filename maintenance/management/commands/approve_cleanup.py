from __future__ import annotations

import re
from typing import Any, override

from django.core.exceptions import ValidationError
from django.core.management.base import CommandParser

from maintenance.approvals import plan_approve, plan_reject
from maintenance.choices import PlanStatus
from maintenance.command import CleanupCommand, what_is_in_use
from maintenance.models import CleanupPlan, MaintenanceJob, MaintenanceRun
from maintenance.plan_view import PlanView, view_of_record
from maintenance.services import CLEANUP_MANUAL
from scheduling.choices import RunTrigger
from scheduling.command import MAX_LISTED, bad_input, refused, sentences, system_user
from scheduling.printable import printable
from scheduling.units import binary_size, counted

_UID = re.compile(r"[0-9a-f]{16}", re.ASCII)


class Command(CleanupCommand):
    help = "Approve what a guard stopped in a cleanup, and carry out exactly that, in this process; or reject it."

    @override
    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("run_or_plan", help="the number of the run that stopped, or the uid of its plan")
        parser.add_argument("--reject", action="store_true", help="leave everything where it is instead")
        parser.add_argument("--by", metavar="NAME", help="who decides, for the audit trail (the system's user)")
        parser.add_argument("--yes", action="store_true", help="do not ask")

    @override
    def handle(self, *args: Any, **options: Any) -> None:
        self.refuse_unprepared_database()
        plan = find_plan(options["run_or_plan"])
        view = view_of_record(plan, limit=0)
        refuse_undecidable(plan, view, reject=options["reject"])
        if not self.as_json:
            self.stdout.write(plan_text(view))
        if not options["yes"]:
            self._ask("Reject it and leave everything where it is?" if options["reject"] else question(view))
        by = (options["by"] or system_user())[:150]
        try:
            if options["reject"]:
                plan_reject(plan=plan, digest=plan.digest, by=by)
                self.report({"plan": plan.uid, "status": plan.status, "by": by}, "Rejected. Nothing was deleted.")
                return
            run = plan_approve(plan=plan, digest=plan.digest, by=by, trigger=RunTrigger.COMMAND)
        except MaintenanceJob.DoesNotExist as error:
            raise bad_input(
                f"There is no maintenance job with the key {CLEANUP_MANUAL}. Add it, then approve."
            ) from error
        except ValidationError as error:
            raise refused(sentences(error)) from error
        self.run_job(MaintenanceRun.KIND, job=run.job, params=run.params, in_use=lambda: what_is_in_use(run.job))

    def _ask(self, text: str) -> None:
        if self.as_json:
            raise bad_input("With --json nobody can be asked. Add --yes.")
        try:
            answer = input(f"{text} [y/N] ")
        except EOFError as error:
            raise bad_input("Nobody answers here. Add --yes to go on without being asked.") from error
        if answer.strip().lower() not in ("y", "yes"):
            raise refused("Nothing was decided.")


def find_plan(text: str) -> CleanupPlan:
    """The plan of this uid, or that the run of this number stopped at. Raises CommandError when there is none."""
    if _UID.fullmatch(text):
        plan = CleanupPlan.objects.filter(uid=text).first()
        if plan is None:
            raise bad_input(f"There is no plan {text}.")
        return plan
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise bad_input(f"“{printable(text)[:100]}” is neither the number of a run nor the uid of a plan.")
    run = MaintenanceRun.objects.filter(pk=int(text)).first()
    if run is None:
        raise bad_input(f"There is no maintenance run {text}.")
    plan = run.plans.order_by("pk").last()
    if plan is None:
        raise bad_input(f"Run {text} made no plan, so there is nothing to decide about.")
    return plan


def refuse_undecidable(plan: CleanupPlan, view: PlanView, *, reject: bool) -> None:
    """Raises CommandError when nobody's word would let the plan go on."""
    if plan.status != PlanStatus.WAITING:
        by = f" by {plan.decided_by}" if plan.decided_by else ""
        raise refused(
            f"The plan {plan.uid} does not wait for a decision: it is {plan.get_status_display().lower()}{by}."
        )
    if not reject and not view.approvable:
        why = view.stops[0].text if view.stops else "Nothing of it was stopped."
        raise refused(f"No approval lets this go on. {why}")


def question(view: PlanView) -> str:
    return f"Approve, and move {counted(view.approvable, 'backup')} to the trash?"


def plan_text(view: PlanView) -> str:
    """What waits, and for what, for a terminal."""
    stored = view.stored
    made = f", made by run {stored.run_id}" if stored and stored.run_id else ""
    lines = [f"Plan {stored.uid if stored else ''}{made}"]
    lines += [f"  stopped: {printable(stop.text)}" for stop in view.stops[:MAX_LISTED]]
    for pair in view.blocked[:MAX_LISTED]:
        moving = f"{counted(pair.left, 'backup')} ({binary_size(pair.size - pair.moved_size)}) to the trash"
        lines.append(f"  {printable(pair.label)}: {moving}, {pair.kept:,} stay")
    if len(view.blocked) > MAX_LISTED:
        lines.append(f"  and {len(view.blocked) - MAX_LISTED:,} more targets")
    return "\n".join(lines)
