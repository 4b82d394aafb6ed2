"""A process that has everything imported and forks one child for every crash, so that a crash costs no start-up.

It reads requests and writes answers, one JSON object a line: see `Server.point`. The child waits until strace is
attached to it; so a system call's number counts from the operation's own first one, and never from the interpreter's.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import django

CALLS = (
    *("open", "openat", "mkdir", "mkdirat", "write", "pwrite64", "ftruncate", "truncate", "fsync", "fdatasync"),
    *("rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat"),
)
SECONDS = 60
LACKING = "EOPNOTSUPP"
_CALL = re.compile(r"(\d+) +(\w+)\((.*)")


class Server:
    """One world at a time below `root`: `live` is what is worked upon, and `template-*` what it is copied from."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._live = root / "live"

    def prepare(self) -> None:
        from django.core.management import call_command

        from tests.crash import scenario

        call_command("migrate", verbosity=0)
        scenario.recover()  # makes what a data folder has once
        self._keep("empty")
        for operation in scenario.OPERATIONS:
            self._reset("empty")
            scenario.prepare(operation, self._live)
            self._keep(operation)
            # Once here, so that the children find everything imported.
            scenario.finish(scenario.OPERATIONS[operation])
            scenario.finish(scenario.recover)
            scenario.finish(self._fail_on_faults)

    def point(
        self,
        *,
        operation: str,
        call: str = "",
        number: int = 0,
        fault: str = "",
        threads: bool = True,
        lacking: Sequence[str] = (),
        recovery: tuple[str, int] | None = None,
        again: bool = False,
    ) -> dict[str, Any]:
        """Interrupt `operation` at the `number`-th system call `call` with `fault`, recover and audit.

        A fault is KILL, or an errno's name: that call fails, and with a "+" after it every later one as well. Without a
        call, nothing is interrupted and `counts` says how many there were. `threads`: count each thread's calls, else
        those of the main one only. `lacking`: calls that the file system does not know. `recovery`: kill the recovery
        there, and recover again. `again`: do the operation once more at the end, which must then succeed.
        """
        from tests.crash import scenario

        self._reset(operation)
        log = self._root / "trace"
        work = scenario.OPERATIONS[operation]
        ended = self._child(work, log, (call, number, fault), threads=threads, lacking=lacking)
        answer: dict[str, Any] = {"ended": ended, "where": _interrupted(log), "faults": []}
        if not call:
            answer["counts"] = _counts(log)
        if recovery is not None:
            answer["recovery"] = self._child(scenario.recover, log, (*recovery, "KILL"), lacking=lacking)
            answer["recovery_where"] = _interrupted(log)
        ended = self._child(self._recover_and_audit, log if lacking else None, lacking=lacking)
        if ended:
            answer["faults"] += ended.removeprefix("raised ").splitlines() if "\n" in ended else [ended]
        if again and not answer["faults"]:
            for work in (scenario.OPERATIONS[operation], self._recover_and_audit):
                if ended := self._child(work):
                    answer["faults"].append(f"stuck: done once more, the {operation} {ended}")
        return answer

    def _recover_and_audit(self) -> None:
        from tests.crash import scenario

        scenario.recover()
        self._fail_on_faults()

    def _fail_on_faults(self) -> None:
        from tests.crash import scenario

        if faults := scenario.audit(self._live):
            raise AssertionError("\n".join(faults))

    def _keep(self, name: str) -> None:
        from django.db import connections

        connections.close_all()
        shutil.copytree(self._live, self._root / f"template-{name}")

    def _reset(self, name: str) -> None:
        from django.db import connections

        connections.close_all()
        shutil.rmtree(self._live, ignore_errors=True)
        shutil.copytree(self._root / f"template-{name}", self._live)

    def _child(
        self,
        work: Callable[[], None],
        log: Path | None = None,
        at: tuple[str, int, str] = ("", 0, ""),
        *,
        threads: bool = False,
        lacking: Sequence[str] = (),
    ) -> str:
        """Do the work in a child of its own; returns how that ended, "" for well."""
        gate, opener = os.pipe()
        said = os.memfd_create("said")
        child = os.fork()
        if child == 0:
            _be_a_child(work, gate, said)
        os.close(gate)
        try:
            strace = _attach(child, log, at, threads, lacking) if log is not None else None
            os.write(opener, b"x")
            status = _wait(child)
            if strace is not None:
                strace.communicate(timeout=SECONDS)
        finally:
            os.close(opener)
            os.lseek(said, 0, os.SEEK_SET)
            with os.fdopen(said, "rb") as file:
                text = file.read().decode(errors="replace")
        if status is None:
            return "hangs"
        if os.WIFSIGNALED(status):
            return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
        return f"raised {text}" if os.WEXITSTATUS(status) else ""


def _be_a_child(work: Callable[[], None], gate: int, said: int) -> None:
    from tests.crash import scenario

    code = 1
    # What the logger would say is expected here, and would be system calls to count.
    logging.disable(logging.CRITICAL)
    try:
        os.read(gate, 1)
        scenario.finish(work)
        code = 0
    except AssertionError as error:
        os.write(said, str(error).encode())
    except BaseException:  # noqa: BLE001 - whatever it was is what the answer says
        os.write(said, traceback.format_exc().encode())
    finally:
        os._exit(code)


def _attach(
    child: int, log: Path, at: tuple[str, int, str], threads: bool, lacking: Sequence[str]
) -> subprocess.Popen[bytes]:
    call, number, fault = at
    command = ["strace", "-y", "-o", str(log), "-p", str(child)]
    if threads:
        # A program that is started is left alone: it is not Keepwell that would be interrupted.
        command += ["-f", "-b", "execve"]
    if call:
        how = "signal=KILL" if fault == "KILL" else f"error={fault.rstrip('+')}"
        command += ["-e", f"trace={','.join({call, *lacking})}"]
        command += ["-e", f"inject={call}:{how}:when={number}{'+' if fault.endswith('+') else ''}"]
    else:
        command += ["-e", f"trace={','.join(CALLS)}"]
    for unknown in lacking:
        command += ["-e", f"inject={unknown}:error={LACKING}"]
    strace = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert strace.stderr is not None
    line = strace.stderr.readline()
    if b"attached" not in line:
        raise RuntimeError(f"strace cannot be attached: {line.decode()}")
    return strace


def _wait(child: int) -> int | None:
    """The child's status; None when it had to be ended."""
    handle = os.pidfd_open(child)
    try:
        ended = bool(select.select([handle], [], [], SECONDS)[0])
    finally:
        os.close(handle)
    if not ended:
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    return status if ended else None


def _counts(log: Path) -> dict[str, list[int]]:
    """For each system call how often it was called: by the main thread, and at most by any other."""
    calls: Counter[tuple[str, str]] = Counter()
    main = ""
    for line in log.read_text(errors="replace").splitlines():
        if found := _CALL.match(line):
            main = main or found[1]
            calls[found[1], found[2]] += 1
    others: dict[str, list[int]] = {call: [0] for _, call in calls}
    for (thread, call), count in calls.items():
        if thread != main:
            others[call].append(count)
    return {call: [calls[main, call], max(counts)] for call, counts in sorted(others.items())}


def _interrupted(log: Path) -> str:
    """The system call at which strace stepped in; empty when it was never reached."""
    lines = log.read_text(errors="replace").splitlines()
    for position, line in enumerate(lines):
        if "(INJECTED)" in line and LACKING not in line:
            return line
        if "+++ killed by SIGKILL" in line:
            return next((each for each in reversed(lines[:position]) if "(" in each), line)
    return ""


def main() -> None:
    faulthandler.enable()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    django.setup()
    server = Server(Path(sys.argv[1]))
    server.prepare()
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        answers.write(json.dumps(server.point(**json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
