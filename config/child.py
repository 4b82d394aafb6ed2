"""Runs a command that ends when the process that started it ends: `python -m config.child PARENT_PID COMMAND...`.

Asking the kernel for that needs a moment between fork and exec. Doing it in a program of its own instead of in Popen's
`preexec_fn` keeps Python code out of a forked process that may have held locks.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

# From <linux/prctl.h>; the setting survives exec.
PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        # The parent may have ended before the call above, which then comes too late.
        if os.getppid() != parent:
            sys.exit("The process that started this one has ended already.")
    os.execv(command[0], command)  # noqa: S606 (an argument list, no shell)


if __name__ == "__main__":
    main()
