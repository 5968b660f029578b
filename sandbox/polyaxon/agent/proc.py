"""Processes, looked up in /proc so that a reused pid is never taken for the process that once had it."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ProcessId:
    """A process for good: its pid and when it started (clock ticks since boot, /proc/<pid>/stat field 22)."""

    pid: int
    start: int

    @property
    def alive(self) -> bool:
        """Whether exactly this process still runs; a zombie does not."""
        return identify(self.pid) == self

    def send(self, number: int) -> None:
        """Signal the process if it is still the same one."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def identify(pid: int) -> ProcessId | None:
    """The process that has this pid now, None when there is none or only its zombie."""
    try:
        # The command name, in brackets, may itself hold spaces and brackets.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else ProcessId(pid, int(fields[19]))


def with_environment(key: str, value: str) -> list[ProcessId]:
    """All processes that were started with `key=value` in their environment, whoever is their parent by now."""
    wanted = f"{key}={value}".encode()
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            variables = Path(f"/proc/{name}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        process = identify(int(name)) if wanted in variables else None
        if process:
            found.append(process)
    return found


def kill_all_with_environment(key: str, value: str) -> int:
    """SIGKILL every process that inherited `key=value`, until none is left; how many there were."""
    killed = 0
    for _ in range(20):  # a process may fork between the look and the kill
        processes = with_environment(key, value)
        if not processes:
            break
        killed += len(processes)
        for process in processes:
            process.send(signal.SIGKILL)
    return killed
