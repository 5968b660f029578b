"""Runs one command that must not outlive the process that asked for it, however that process ends.

A script of its own: ``python -I -S guard.py COMMAND [ARGUMENT ...]``, standard library only. The command gets a process
group; when it ends, whatever it left in the group is killed. The asking process holds the other end of standard input:
when that is closed, by it or by the kernel after a ``kill -9``, the group is asked to end and then killed.
A signal to a parent alone does not do: the steps of an image build are grandchildren and survive it.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading

GRACE_SECONDS = 5.0


def main(command: list[str]) -> int:
    """The command's exit code; 128 + n when signal n ended it, 127 when it can't be started."""
    # The asking process decides, not whoever signals its whole group.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0, restore_signals=True,
                                 preexec_fn=_default_signals)  # fmt: skip
    except OSError as exc:
        print(f"{command[0]}: {exc.strerror}", file=sys.stderr)
        return 127
    done = threading.Event()
    threading.Thread(target=_when_closed, args=(child.pid, done), daemon=True).start()
    # Looked at but not collected: until then nobody else can get its number.
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    done.set()
    _signal(child.pid, signal.SIGKILL)
    code = child.wait()
    return code if code >= 0 else 128 - code


def _default_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _when_closed(group: int, done: threading.Event) -> None:
    while os.read(0, 4096):
        pass
    _signal(group, signal.SIGTERM)
    if not done.wait(GRACE_SECONDS):
        _signal(group, signal.SIGKILL)


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    # Not sys.exit: the thread may still sit in its read.
    os._exit(code)
