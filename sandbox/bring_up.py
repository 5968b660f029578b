"""Bringing the sandbox up in the order that its parts need, and taking it down."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from sandbox import airflow
from sandbox.services import Service, sandbox_services
from sandbox.settings import REPOSITORY, SandboxError, Settings
from sandbox.supervision import Supervisor

Report = Callable[[str, str], None]
START_SECONDS = 180
BASE_IMAGE_FILE = "base-image"


class Sandbox:
    """The whole outside world of one repository clone, with or without an Airflow of its own."""

    def __init__(self, settings: Settings, with_airflow: bool) -> None:
        self.settings = settings
        self.supervisor = Supervisor(settings)
        self.with_airflow = with_airflow

    def services(self) -> tuple[Service, ...]:
        """Every service; Airflow's are there when asked for."""
        outside = sandbox_services(self.settings)
        if not self.with_airflow:
            return outside
        return outside + airflow.services(self.settings, self.airflow_environment())

    def airflow_environment(self) -> dict[str, str]:
        """Settings and connections for an Airflow beside this sandbox; the base image is known once it was pushed."""
        reference = self.settings.home / BASE_IMAGE_FILE
        return airflow.environment(self.settings, reference.read_text().strip() if reference.exists() else "")

    def up(self, report: Report = lambda name, state: None) -> None:
        """Starts everything and returns when all of it is healthy; on a fault everything is taken down again.

        ``report`` is called with a service's name and what became of it. Raises SandboxError.
        """
        if self.supervisor.is_up():
            raise SandboxError("the sandbox is already up; `make down` takes it down")
        self.supervisor.require_free_ports(self.services())
        self.settings.home.mkdir(parents=True, exist_ok=True)
        try:
            self._start(report)
        except BaseException:
            self.supervisor.shut_down()
            raise

    def _start(self, report: Report) -> None:
        registry, *_ = sandbox_services(self.settings)
        # The reference of the base image holds the registry's port, not its state: it is known before anything runs.
        (self.settings.home / BASE_IMAGE_FILE).write_text(self._base_image("reference"))
        services = self.services()
        self.supervisor.start(services)
        slow_first = sorted(services, key=lambda service: service.name != "polyaxon")
        for service in slow_first:
            if service.name not in ("spinnaker", *airflow.PROGRAMS):
                self.supervisor.run(service)
                report(service.name, "starting")
        self.supervisor.wait_healthy(registry, START_SECONDS)
        self._base_image("push")
        report("registry", "healthy, holds the base image")
        # igor never fires for the first tag of an account that it knows nothing of, so the base image goes first.
        self.supervisor.run(next(service for service in services if service.name == "spinnaker"))
        if self.with_airflow:
            airflow.migrate(self.settings, self.airflow_environment())
            for service in services:
                if service.name in airflow.PROGRAMS:
                    self.supervisor.run(service)
                    report(service.name, "starting")
        for service in services:
            self.supervisor.wait_healthy(service, START_SECONDS)
            report(service.name, "healthy")

    def _base_image(self, verb: str) -> str:
        command = [str(self.settings.venv("services") / "python"), "-m", "sandbox.rootfs", verb,
                   "--registry", f"127.0.0.1:{self.settings.ports['registry']}"]  # fmt: skip
        ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=600, check=False)
        if ran.returncode:
            raise SandboxError(f"the base image could not be made: {ran.stderr.strip()[-800:]}")
        return ran.stdout.strip().splitlines()[-1]

    def down(self, keep_state: bool = False) -> list[int]:
        """Ends everything; returns the ids of processes that did not end by themselves.

        The state goes too, unless it is to be kept: a sandbox starts from nothing.
        """
        killed = self.supervisor.shut_down()
        if not keep_state:
            remove_state(self.settings.home)
        return killed


def remove_state(home: Path) -> None:
    """Deletes the sandbox's state but keeps the logs of the last run, which explain what happened, and the image store.

    buildah's store holds the base image unpacked (10 s to make anew) and nothing of a run.
    """
    if not home.exists():
        return
    for entry in home.iterdir():
        if entry.name in ("logs", "buildah"):
            continue
        if entry.is_dir() and not entry.is_symlink():
            _make_writable(entry)
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def _make_writable(folder: Path) -> None:
    """Unpacked images hold folders without the write bit, which a plain user can't empty."""
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(path.stat().st_mode | 0o700)
