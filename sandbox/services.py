"""What the sandbox consists of: each service's command, health check, port and page, as data."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.settings import REPOSITORY, Settings


@dataclass(frozen=True)
class Service:
    """One supervised program.

    ``ports`` are the settings' names of the ports it listens on (the first is shown in the status table); ``health``
    is a URL that answers 200 once it works, None for a program that only has to stay alive; ``page`` is where a
    person looks at it; ``stop_seconds`` is how long it may take to end after SIGTERM before it is killed.
    """

    name: str
    command: tuple[str, ...]
    ports: tuple[str, ...] = ()
    health: str | None = None
    page: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: Path = REPOSITORY
    stop_seconds: int = 15


def sandbox_services(settings: Settings) -> tuple[Service, ...]:
    """The outside world, in the order in which it is started."""
    python = str(settings.venv("services") / "python")
    services_path = {"PATH": f"{settings.venv('services')}:{_system_path()}"}
    polyaxon_state = str(settings.state("polyaxon"))
    return (
        Service(
            name="registry",
            command=(python, "-m", "sandbox.registry", "--port", _port(settings, "registry"),
                     "--state", str(settings.state("registry"))),
            ports=("registry",),
            health=f"{settings.url('registry')}/v2/",
            page=f"{settings.url('registry')}/v2/_catalog",
        ),
        Service(
            name="polyaxon",
            command=(python, "-m", "sandbox.polyaxon.server", "--port", _port(settings, "polyaxon"),
                     "--state", polyaxon_state),
            ports=("polyaxon",),
            health=f"{settings.url('polyaxon')}/healthz",
            page=f"{settings.url('polyaxon')}/ui/",
        ),
        Service(
            name="polyaxon-agent",
            command=(python, "-m", "sandbox.polyaxon.agent", "--url", settings.url("polyaxon"),
                     "--state", polyaxon_state, "--python-path", str(settings.venv("services"))),
            environment=services_path,
        ),
        Service(
            name="kfp",
            command=(python, "-m", "sandbox.kfp", "--port", _port(settings, "kfp"),
                     "--state", str(settings.state("kfp"))),
            ports=("kfp",),
            health=f"{settings.url('kfp')}/apis/v2beta1/healthz",
            page=f"{settings.url('kfp')}/",
            environment=services_path,
        ),
        Service(
            name="spinnaker",
            command=(python, "-m", "sandbox.spinnaker", "--port", _port(settings, "spinnaker"),
                     "--state", str(settings.state("spinnaker")),
                     "--registry", f"127.0.0.1:{settings.ports['registry']}",
                     "--pipelines", str(REPOSITORY / "sandbox" / "pipelines"),
                     "--serving-port", _port(settings, "serving")),
            ports=("spinnaker", "serving"),
            health=f"{settings.url('spinnaker')}/health",
            page=f"{settings.url('spinnaker')}/",
        ),
    )  # fmt: skip


def _port(settings: Settings, name: str) -> str:
    return str(settings.ports[name])


def _system_path() -> str:
    """The search path without the environment that this very program runs in, so that a child sees only its own."""
    import os

    here = str(Path(sys.executable).parent)
    return ":".join(part for part in os.environ.get("PATH", os.defpath).split(":") if part != here)
