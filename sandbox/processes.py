"""Finding the processes of one sandbox again, by the mark they all inherit, and ports that are taken."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterable
from pathlib import Path

MARK = "MLFLEET_SANDBOX_MARK"


def marked(home: Path) -> list[int]:
    """Ids of the live processes that carry this sandbox's home in their environment, the caller left out.

    Reads ``/proc``; other people's processes can't be read and so are never listed.
    """
    wanted = f"{MARK}={home}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid() and _carries(entry, wanted):
            found.append(int(entry.name))
    return sorted(found)


def live(pids: Iterable[int]) -> list[int]:
    """Those that have not ended; one that only waits for its parent to take notice has.

    A process that is about to end has lost its environment, and with it the mark, some time before it is gone.
    """
    return sorted(pid for pid in pids if _runs(Path(f"/proc/{pid}")))


def _runs(process: Path) -> bool:
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _carries(process: Path, wanted: bytes) -> bool:
    try:
        return _runs(process) and wanted in (process / "environ").read_bytes().split(b"\0")
    except OSError:
        return False


def end(pids: Iterable[int], grace_seconds: float = 5.0) -> None:
    """Asks the processes to end and kills those that have not after the grace."""
    left = [pid for pid in pids if _send(pid, signal.SIGTERM)]
    deadline = time.monotonic() + grace_seconds
    while left and time.monotonic() < deadline:
        time.sleep(0.1)
        left = [pid for pid in left if _send(pid, 0)]
    for pid in left:
        _send(pid, signal.SIGKILL)


def _send(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def port_is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1:port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def resident_bytes(pids: Iterable[int]) -> int:
    """Memory that the processes hold together, in bytes; shared pages are counted once (PSS)."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total
