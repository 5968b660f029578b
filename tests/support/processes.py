"""Real server processes for tests: started on a free port, stopped by pid, proved to be gone.

Everything a service starts is found again in two ways: by descent (a snapshot of the process tree before the stop) and
by a tag in the environment, which children inherit even in a session of their own. Nothing is looked up by name.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx

REPOSITORY = Path(__file__).resolve().parents[2]
SERVICES_PYTHON = REPOSITORY / ".sandbox" / "services" / "bin" / "python"
POLYAXON_PYTHON = REPOSITORY / ".sandbox" / "polyaxon" / "bin" / "python"
T = TypeVar("T")
_TAG = "MLFLEET_TEST_SERVICE"


@dataclass(frozen=True)
class ProcessId:
    """A process that can't be mistaken for a later one with the same pid (`start` = clock ticks since boot)."""

    pid: int
    start: int


@dataclass
class Service:
    """A running service under test."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path
    tag: str

    @property
    def pid(self) -> int:
        return self.process.pid

    def log_tail(self, lines: int = 40) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def kill(self) -> None:
        """SIGKILL to the service alone, as the kernel's out-of-memory killer would; its children stay."""
        self.process.kill()
        self.process.wait()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(probe: Callable[[], T | None], what: str, timeout: float = 60.0, interval: float = 0.1) -> T:
    """Call `probe` until it gives something true; AssertionError naming `what` after `timeout` seconds."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        found = probe()
        if found:
            return found
        time.sleep(interval)
    raise AssertionError(f"waited {timeout:.0f} s in vain for {what}")


@contextlib.contextmanager
def start_service(
    args: Sequence[str | Path],
    port: int | None = None,
    health_path: str = "/",
    log: Path | None = None,
    *,
    env: Mapping[str, str] | None = None,
    timeout: float = 120.0,
    stop_timeout: float = 30.0,
    cwd: Path = REPOSITORY,
) -> Iterator[Service]:
    """Run `args` in its own session until the block ends; then SIGTERM its pid and assert that nothing of it is left.

    With a `port` the block starts once GET http://127.0.0.1:<port><health_path> answers 2xx, within `timeout` seconds.
    Stdout and stderr go to `log`. Processes that outlive the stop are killed and fail the test.
    """
    if log is None:
        raise ValueError("start_service needs a log file")
    tag = uuid.uuid4().hex
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        process = subprocess.Popen(
            [str(arg) for arg in args],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {}), _TAG: tag},
            cwd=cwd,
            start_new_session=True,
        )
    service = Service(process, f"http://127.0.0.1:{port}" if port else "", log, tag)
    try:
        if port:
            _wait_healthy(service, health_path, timeout)
        yield service
    except BaseException:
        stop_service(service, stop_timeout)
        raise
    left = stop_service(service, stop_timeout)
    assert not left, f"{args} left processes behind: {left}\n{service.log_tail()}"


def stop_service(service: Service, timeout: float = 30.0) -> list[str]:
    """SIGTERM the service, wait, SIGKILL whatever is left; the command lines of what had to be killed."""
    family = descendants(service.pid)
    if service.process.poll() is None:
        service.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            service.process.wait(timeout)
    left = [process for process in family | tagged(service.tag) if alive(process)]
    described = [f"{process.pid}: {command_line(process.pid)}" for process in left]
    for process in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    service.process.wait(10)
    return described


def _wait_healthy(service: Service, path: str, timeout: float) -> None:
    def probe() -> bool:
        code = service.process.poll()
        assert code is None, f"the service ended with {code} before it was healthy:\n{service.log_tail()}"
        try:
            return httpx.get(service.url + path, timeout=5, trust_env=False).is_success
        except httpx.TransportError:
            return False

    try:
        wait_for(probe, f"{service.url}{path}", timeout)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{service.log_tail()}") from None


def identify(pid: int) -> ProcessId | None:
    """The process with this pid, or None when it is gone or a zombie."""
    fields = _stat(pid)
    return ProcessId(pid, int(fields[19])) if fields and fields[0] not in "ZX" else None


def alive(process: ProcessId) -> bool:
    """Whether exactly this process still runs (a zombie does not)."""
    return identify(process.pid) == process


def descendants(pid: int) -> set[ProcessId]:
    """The process and everything below it, as of now."""
    children: dict[int, list[int]] = {}
    for other in _pids():
        fields = _stat(other)
        if fields:
            children.setdefault(int(fields[1]), []).append(other)
    found, todo = set(), [pid]
    while todo:
        current = todo.pop()
        todo += children.get(current, [])
        process = identify(current)
        if process:
            found.add(process)
    return found


def tagged(tag: str) -> set[ProcessId]:
    """All processes that inherited the environment tag of a service, whoever their parent is now."""
    needle = f"{_TAG}={tag}".encode()
    found = set()
    for pid in _pids():
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        process = identify(pid) if needle in environment.split(b"\0") else None
        if process:
            found.add(process)
    return found


def command_line(pid: int) -> str:
    """The arguments of a process, empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _stat(pid: int) -> list[str]:
    """Fields of /proc/<pid>/stat after the command name: state, ppid, ... (the name may hold spaces and brackets)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []
