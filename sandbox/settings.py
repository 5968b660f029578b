"""Where the sandbox lives and listens; everything has a default and an environment variable that changes it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

DEFAULT_PORTS = {
    "airflow": 28080,
    "polyaxon": 28000,
    "kfp": 28888,
    "registry": 28500,
    "spinnaker": 28084,
    "serving": 28090,
}


class SandboxError(Exception):
    """Something that the person at the terminal can mend; its text says what, where and what to do."""


@dataclass(frozen=True)
class Settings:
    """Paths (absolute) and ports (TCP, on 127.0.0.1) of one sandbox.

    ``home`` holds all state and logs, one folder a service; ``cache`` what `make setup` made once for all runs;
    ``deployment`` the ``dags`` and ``include`` that Airflow runs; ``git_deployment`` a git repository whose manifests
    it runs as well, from the branch main.
    """

    home: Path
    cache: Path
    deployment: Path
    ports: Mapping[str, int]
    git_deployment: Path | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Reads ``MLFLEET_SANDBOX_HOME``, ``MLFLEET_[GIT_]DEPLOYMENT`` and ``MLFLEET_<SERVICE>_PORT``.

        Raises SandboxError on a port that is none, a deployment without ``dags`` and a git repository that is none.
        """
        environ = os.environ if environ is None else environ
        home = Path(environ.get("MLFLEET_SANDBOX_HOME") or REPOSITORY / ".sandbox" / "run").absolute()
        ports = {name: _port(environ, name, default) for name, default in DEFAULT_PORTS.items()}
        deployment = Path(environ.get("MLFLEET_DEPLOYMENT") or REPOSITORY).absolute()
        if not (deployment / "dags").is_dir():
            raise SandboxError(f"MLFLEET_DEPLOYMENT={deployment} has no folder dags; set it to a repository that has")
        git = Path(found).absolute() if (found := environ.get("MLFLEET_GIT_DEPLOYMENT")) else None
        if git and not (git / ".git").exists():
            raise SandboxError(f"MLFLEET_GIT_DEPLOYMENT={git} is no git repository; set it to one, or to nothing")
        return cls(home, REPOSITORY / ".sandbox" / "cache", deployment, ports, git)

    def port_variable(self, service: str) -> str:
        """The environment variable that moves a service to another port."""
        return f"MLFLEET_{service.upper()}_PORT"

    def url(self, service: str) -> str:
        """Base URL of a service, without a slash at the end."""
        return f"http://127.0.0.1:{self.ports[service]}"

    def state(self, service: str) -> Path:
        """The folder that holds what a service keeps."""
        return self.home / service

    def log(self, program: str) -> Path:
        """The file that holds what a program printed."""
        return self.home / "logs" / f"{program}.log"

    def venv(self, name: str) -> Path:
        """The ``bin`` folder of a virtual environment: ``airflow``, ``services`` or ``polyaxon``."""
        return REPOSITORY / (".venv" if name == "airflow" else f".sandbox/{name}") / "bin"


def _port(environ: Mapping[str, str], name: str, default: int) -> int:
    variable = f"MLFLEET_{name.upper()}_PORT"
    text = environ.get(variable) or str(default)
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise SandboxError(f"{variable}={text!r} is no TCP port; set it to a number from 1 to 65535")
    return int(text)
