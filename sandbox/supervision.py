"""One supervisor for everything: the PyPI package `supervisor` (supervisord), asked over its XML-RPC socket.

supervisord writes each program's log, starts a program that died again, and ends the whole process group of each when
it is shut down. What this module adds is its configuration and what a person is told.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import subprocess
import tempfile
import time
import xmlrpc.client
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from supervisor.xmlrpc import SupervisorTransport

from sandbox import processes
from sandbox.services import Service
from sandbox.settings import SandboxError, Settings


@dataclass(frozen=True)
class Status:
    """A line of the status table: ``state`` is supervisord's word or ``down``; ``healthy`` None while unknown."""

    service: Service
    state: str
    pid: int
    healthy: bool | None


class Supervisor:
    """Starts, watches and ends a set of services; every call may come from another process than the first one."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._folder = settings.state("supervisor")
        # A unix socket's path may be 107 bytes long, which a deep clone exceeds.
        name = hashlib.sha256(str(settings.home).encode()).hexdigest()[:12]
        self._socket = Path(tempfile.gettempdir()) / f"mlfleet-{name}.sock"

    def start(self, services: Sequence[Service]) -> None:
        """Starts supervisord with these services known but none running.

        Raises SandboxError when one of their ports is taken or when supervisord does not come up.
        """
        self.require_free_ports(services)
        self._folder.mkdir(parents=True, exist_ok=True)
        (self.settings.home / "logs").mkdir(exist_ok=True)
        configuration = self._folder / "supervisord.conf"
        configuration.write_text(self._configuration(services))
        environment = {**os.environ, processes.MARK: str(self.settings.home)}
        command = [str(self.settings.venv("services") / "supervisord"), "-c", str(configuration)]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        if ran.returncode or not _until(self.is_up, 20):
            raise SandboxError(f"supervisord did not start: {ran.stderr.strip() or ran.stdout.strip()}")

    def require_free_ports(self, services: Iterable[Service]) -> None:
        """Raises SandboxError that names the first port among the services' that something else listens on."""
        for service in services:
            for name in service.ports:
                port = self.settings.ports[name]
                if not processes.port_is_free(port):
                    raise SandboxError(
                        f"port {port}, which {service.name} needs, is in use; stop what listens there"
                        f" (`make down` if it is an earlier sandbox) or set {self.settings.port_variable(name)}"
                    )

    def is_up(self) -> bool:
        """Whether a supervisord of this sandbox answers."""
        try:
            return bool(self._call("getState")["statename"] == "RUNNING")
        except (OSError, xmlrpc.client.Error):
            return False

    def run(self, service: Service) -> None:
        """Starts one service and returns at once; `wait_healthy` says when it works."""
        self._call("startProcess", service.name, False)

    def wait_healthy(self, service: Service, seconds: float, tick: Callable[[], None] = lambda: None) -> None:
        """Waits until the service answers its health check.

        Raises SandboxError with the end of its log when it dies or does not answer in time.
        """
        deadline = time.monotonic() + seconds
        while not self._answers(service):
            tick()
            if self._state(service) in ("FATAL", "EXITED"):
                raise SandboxError(f"{service.name} ended while starting.\n{self.explain(service)}")
            if time.monotonic() > deadline:
                raise SandboxError(
                    f"{service.name} did not become healthy in {seconds:.0f} s.\n{self.explain(service)}"
                )
            time.sleep(0.3)

    def status(self, services: Iterable[Service]) -> list[Status]:
        """The state of each service, whether or not anything runs."""
        known: dict[str, dict[str, Any]] = {}
        if self.is_up():
            known = {row["name"]: row for row in self._call("getAllProcessInfo")}
        found = []
        for service in services:
            row = known.get(service.name, {})
            running = row.get("statename") == "RUNNING"
            found.append(
                Status(service, row.get("statename", "down").lower(), row.get("pid", 0),
                       self._answers(service) if running else None)
            )  # fmt: skip
        return found

    def shut_down(self) -> list[int]:
        """Ends every service and supervisord itself; returns the ids of processes that had to be ended singly.

        Works also after supervisord was killed: whatever carries this sandbox's mark is ended by its id.
        """
        known = set(processes.marked(self.settings.home))

        def left() -> list[int]:
            return processes.live(known | set(processes.marked(self.settings.home)))

        with contextlib.suppress(OSError, xmlrpc.client.Error):
            self._call("shutdown")
            _until(lambda: not left(), 60)
        ended = left()
        processes.end(ended)
        self._socket.unlink(missing_ok=True)
        return ended

    def explain(self, service: Service, lines: int = 15) -> str:
        """The last lines of a service's log and where the whole of it is."""
        log = self.settings.log(service.name)
        text = log.read_text(errors="replace").splitlines()[-lines:] if log.exists() else []
        return "\n".join([*(f"  | {line}" for line in text), f"  whole log: {log}"])

    def _state(self, service: Service) -> str:
        return str(self._call("getProcessInfo", service.name)["statename"])

    def _answers(self, service: Service) -> bool:
        if service.health is None:
            return self._state(service) == "RUNNING"
        try:
            return httpx.get(service.health, timeout=2).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def _call(self, method: str, *arguments: object) -> Any:
        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        proxy = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
        return getattr(proxy.supervisor, method)(*arguments)

    def _configuration(self, services: Iterable[Service]) -> str:
        head = (
            f"[unix_http_server]\nfile={self._socket}\nchmod=0700\n"
            "[rpcinterface:supervisor]\n"
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
            f"[supervisord]\nlogfile={self.settings.log('supervisor')}\npidfile={self._folder}/supervisord.pid\n"
            f"childlogdir={self._folder}\nidentifier=mlfleet\nminfds=256\nminprocs=64\n"
        )
        if os.getuid() == 0:
            head += "user=root\n"
        return head + "".join(self._program(service) for service in services)

    def _program(self, service: Service) -> str:
        # supervisord's own `environment` can't hold a double quote, which every JSON value has: env(1) sets it.
        words = ["/usr/bin/env", *(f"{key}={value}" for key, value in service.environment.items()), *service.command]
        return (
            f"[program:{service.name}]\n"
            f"command={' '.join(_percent(shlex.quote(word)) for word in words)}\n"
            f"directory={_percent(str(service.directory))}\nautostart=false\nautorestart=true\nstartsecs=1\n"
            f"startretries=1\nredirect_stderr=true\nstdout_logfile={_percent(str(self.settings.log(service.name)))}\n"
            "stdout_logfile_maxbytes=50MB\nstdout_logfile_backups=1\n"
            f"stopasgroup=true\nkillasgroup=true\nstopwaitsecs={service.stop_seconds}\n"
        )


def _percent(text: str) -> str:
    """Supervisord expands %(…)s in every value."""
    return text.replace("%", "%%")


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True
