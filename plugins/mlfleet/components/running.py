"""From inputs and secrets to a component at work: what both forms of it, container and lightweight, have in common."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from mlfleet.clients.auth import Credentials
from mlfleet.clients.http import HttpClient
from mlfleet.clients.kfp import KFPClient
from mlfleet.clients.polyaxon import PolyaxonClient
from mlfleet.clients.retry import RetryPolicy, Timeouts
from mlfleet.components.ending import EXIT_CODE, Terminated
from mlfleet.components.polyaxon_job import JobRequest, JobResult, KFPStep, Servers, run_polyaxon_job
from mlfleet.components.repository import TOKEN_VARIABLE, Repository, clone
from mlfleet.errors import MlfleetError

POLYAXON_TOKEN_VARIABLE = "POLYAXON_AUTH_TOKEN"
# Where Kubeflow projects the token with which a pod may speak to KFP (kfp.md 4, Auth).
_KFP_TOKEN_VARIABLE = "KF_PIPELINES_SA_TOKEN_PATH"
_KFP_TOKEN_PATH = "/var/run/secrets/kubeflow/pipelines/token"
# A process that was told to end is killed within seconds (30 in a pod, 3 in the sandbox).
_HURRY = Timeouts(connect=0.5, read=1.0, total=1.0)
_HURRIED_TRIES = RetryPolicy(attempts=3, total_seconds=1.5, first_wait=0.1)


@dataclass(frozen=True)
class Addresses:
    """Where the servers are: ``polyaxon`` and ``kfp`` are base addresses, ``namespace`` is that of Polyaxon's logs."""

    polyaxon: str
    kfp: str
    owner: str = "default"
    namespace: str = "polyaxon"

    def servers(self, token: str) -> Servers:
        """The makers of clients."""

        def polyaxon(timeouts: Timeouts | None = None, retry: RetryPolicy | None = None) -> PolyaxonClient:
            credentials = Credentials.token(token, "Token") if token else Credentials.none()
            http = HttpClient(self.polyaxon, system="polyaxon", credentials=credentials, timeouts=timeouts, retry=retry)
            return PolyaxonClient(http, owner=self.owner, namespace=self.namespace)

        def kfp() -> KFPClient:
            shown = _kfp_token()
            credentials = Credentials.token(shown) if shown else Credentials.none()
            return KFPClient(
                HttpClient(self.kfp, system="kfp", credentials=credentials, timeouts=_HURRY, retry=_HURRIED_TRIES)
            )

        return Servers(polyaxon, lambda: polyaxon(_HURRY, _HURRIED_TRIES), kfp)


class Log:
    """Prints lines at once, none with a secret in it: a job's log is somebody else's text."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = sorted({secret for secret in secrets if secret}, key=len, reverse=True)

    def __call__(self, text: str) -> None:
        """Print it."""
        print(self.masked(text), flush=True)

    def masked(self, text: str) -> str:
        """The text without the secrets."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def polyaxon_job(request: JobRequest, step: KFPStep, addresses: Addresses) -> JobResult:
    """Runs the job to its end; the token is in ``POLYAXON_AUTH_TOKEN``.

    Ends the process with one sentence when that did not work: exit code 143 after SIGTERM, else 1.
    """
    token = os.environ.get(POLYAXON_TOKEN_VARIABLE, "").strip()
    log = Log([token])
    try:
        return asyncio.run(run_polyaxon_job(request, step, addresses.servers(token), log))
    except MlfleetError as exc:
        _give_up(exc, log)


def clone_repository(url: str, ref: str, path: str, target: Path, user: str = "x-access-token") -> str:
    """Clones into ``target`` and returns the commit; the token is in ``GIT_TOKEN``. Ends the process on failure."""
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    log = Log([token])
    try:
        return clone(Repository(url, ref, user, token), target, path=path, say=log)
    except MlfleetError as exc:
        _give_up(exc, log)


def _give_up(error: MlfleetError, log: Log) -> NoReturn:
    log(f"error: {error}")
    raise SystemExit(EXIT_CODE if isinstance(error, Terminated) else 1)


def _kfp_token() -> str:
    """Read when it is needed: Kubernetes renews the file."""
    try:
        return Path(os.environ.get(_KFP_TOKEN_VARIABLE) or _KFP_TOKEN_PATH).read_text().strip()
    except OSError:
        return ""
