"""What processes cost, from /proc: CPU seconds and memory of one and of everything below it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

TICKS, PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
MIB = 1024 * 1024


@dataclass(frozen=True)
class Cost:
    """CPU seconds so far; memory in MiB."""

    cpu: float
    rss: float


@dataclass(frozen=True)
class TriggererCost:
    """The process that talks to the database and its child, which runs the triggers."""

    parent: Cost
    child: Cost

    @property
    def cpu(self) -> float:
        return self.parent.cpu + self.child.cpu

    @property
    def rss(self) -> float:
        return self.parent.rss + self.child.rss


def cost(pid: int) -> Cost:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return Cost((int(fields[11]) + int(fields[12])) / TICKS, int(fields[21]) * PAGE / MIB)


def triggerer_cost(pid: int) -> TriggererCost:
    return TriggererCost(cost(pid), cost(children(pid)[0]))


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def end(process: subprocess.Popen[bytes], how: signal.Signals = signal.SIGKILL) -> None:
    """Ends a process that was started in a session of its own, and everything in that session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, how)
    process.wait(30)
