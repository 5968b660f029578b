"""A run of a project's Polyaxon spec with local code and own params, as data scientists do before a pull request.

It is no run of the project's DAG: nothing adopts it, and nothing is built or released of it.
"""

from __future__ import annotations

import datetime
import getpass
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from mlfleet.clients.connections import http_client, read_connection, token_credentials
from mlfleet.clients.polyaxon import PolyaxonClient
from mlfleet.clients.retry import RetryPolicy
from mlfleet.errors import ConfigError
from mlfleet.manifest import references
from mlfleet.manifest.environments import Environment
from mlfleet.manifest.known import UNKNOWN_COMMIT, commit_of, static_references
from mlfleet.manifest.loading import Repository
from mlfleet.manifest.models import Experiment, Project
from mlfleet.manifest.training import PolyaxonTraining
from mlfleet.remote.job import LABELS, JobKey, JobStatus, TaskIdentity, new_incarnation
from mlfleet.remote.polling import SharedPoll
from mlfleet.remote.watching import Outcome, Watch
from mlfleet.systems.polyaxon import PolyaxonSystem
from mlfleet.systems.polyaxon_operation import as_content, build_operation, warnings
from mlfleet.systems.polyaxon_settings import RunSettings
from mlfleet.systems.polyaxon_training import matrix_of, settings_of

TAG = "explore"
# A person waits: a server that is down is told within half a minute.
RETRY = RetryPolicy(attempts=4, total_seconds=25.0, first_wait=0.5, max_wait=5.0)


@dataclass(frozen=True)
class Wishes:
    """What one exploration is about.

    ``params``  instead of the manifest's; one that the manifest's matrix searches is fixed by it
    ``search``  False leaves the matrix out
    ``end``     of the data, exclusive; the manifest's window before it is its begin
    """

    experiment: Experiment
    params: Mapping[str, Any] = field(default_factory=dict)
    search: bool = True
    end: datetime.datetime | None = None


@dataclass(frozen=True)
class Exploration:
    """A run to submit: its operation as Polyaxon takes it, and what there is to say before."""

    project: str
    name: str
    content: str
    commit: str
    timeout: datetime.timedelta
    best_by: Mapping[str, str] | None
    notes: tuple[str, ...] = ()


def prepare(
    project: Project, environment: Environment, repository: Repository, wishes: Wishes, now: datetime.datetime
) -> Exploration:
    """The run as the DAG's task would make it, but for what is wished otherwise.

    Files are read as they lie there, committed or not. Raises ConfigError (nothing to train, a reference without a
    value, a file that can't be read) and SpecError (as the task would).
    """
    training = project.training_of(wishes.experiment)
    section = training.polyaxon if training else None
    if section is None:
        raise ConfigError(f"project {project.name} has no training.polyaxon", "its manifest",
                          "explore submits that section; add it, or run the DAG")  # fmt: skip
    commit = commit_of(repository.root)
    lookup = _lookup(project, environment, wishes, commit, now)
    folder = repository.folder_of(project.name)
    matrix = _matrix(section, wishes)
    operation = build_operation(
        _text(folder / section.polyaxonfile) if section.polyaxonfile else None,
        source=str(section.polyaxonfile or section.component),
        params=references.resolve({**section.params, **wishes.params}, lookup),
        matrix=references.resolve(matrix, lookup) if matrix else None,
        files={name: _text(folder / name) for name in section.files},
        settings=_settings(section, environment, project, lookup, commit),
    )
    return Exploration(
        project=project.name,
        name=f"{TAG}-{project.name}-{wishes.experiment.slug}",
        content=as_content(operation),
        commit=commit,
        timeout=section.timeout,
        best_by=section.best_by.model_dump() if section.best_by and matrix else None,
        notes=tuple(warnings(operation)),
    )


def _matrix(section: PolyaxonTraining, wishes: Wishes) -> dict[str, Any] | None:
    """The search without what is given; None when nothing is left to search."""
    matrix = matrix_of(section) if wishes.search else None
    if matrix is None or not isinstance(matrix.get("params"), Mapping):
        return matrix
    left = {name: space for name, space in matrix["params"].items() if name not in wishes.params}
    return {**matrix, "params": left} if left else None


def _settings(
    section: PolyaxonTraining, environment: Environment, project: Project, lookup: references.Lookup, commit: str
) -> RunSettings:
    settings: RunSettings = references.resolve(
        settings_of(environment, section, f"include/pipelines/{project.name}"), lookup
    )
    code = settings.get("code")
    if code and not code.get("revision"):
        if commit == UNKNOWN_COMMIT:
            raise ConfigError("the commit of the code is not known, so it can't be cloned", "the repository's git",
                              "Run explore in a git checkout")  # fmt: skip
        settings["code"] = {**code, "revision": commit}
    return settings


def _lookup(
    project: Project, environment: Environment, wishes: Wishes, commit: str, now: datetime.datetime
) -> references.Lookup:
    end = wishes.end or now.replace(hour=0, minute=0, second=0, microsecond=0)
    start = end - project.window
    static = static_references(project, environment, commit, wishes.experiment)
    known = {
        **static,
        "data.start": references.interval_bound(start, end, start),
        "data.end": references.interval_bound(start, end, end),
        "run.key": f"{TAG}-{new_incarnation()}",
        "run.type": "manual",
    }

    def value(path: str) -> Any:
        if path not in known:
            raise LookupError(f"nothing called {path} is known before a run of the DAG; give the param with -p")
        return known[path]

    return value


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} can't be read as text: {error}", "the manifest's training.polyaxon") from error


class Explorer:
    """Submits explorations to the Polyaxon of one environment and follows them.

    ``environ`` holds the connection; ``transport`` replaces the network in tests. Use it as an async context manager.
    """

    def __init__(
        self, environment: Environment, environ: Mapping[str, str], transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        conn_id = environment.connections.polyaxon
        found = read_connection(conn_id, "polyaxon", environ)
        http = http_client(found, found.extra, token_credentials(found, "Token"), conn_id=conn_id, system="polyaxon",
                           retry=RETRY, transport=transport)  # fmt: skip
        self._client = PolyaxonClient.from_extra(http, found.extra)
        self._environment = environment.name

        async def connect() -> PolyaxonClient:
            return self._client

        self._poll = SharedPoll(connect)

    async def __aenter__(self) -> Explorer:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._poll.aclose()
        await self._client.aclose()

    async def submit(self, run: Exploration) -> JobStatus:
        """Starts it; raises SpecError when Polyaxon refuses it, and what the client raises."""
        task = TaskIdentity(self._environment, TAG, new_incarnation(), run.name)
        key = JobKey(task, new_incarnation(), 1)
        system = self._system(run)
        spec: dict[str, Any] = {"content": run.content, "name": run.name, "tags": ["mlfleet", TAG, _user()]}
        if run.commit != UNKNOWN_COMMIT:
            spec[LABELS] = {"commit": run.commit}
        status = await system.submit(key, spec)
        await system.confirm(status.id)
        return status

    async def follow(self, run: Exploration, job_id: str, emit: Callable[[str], None], now: float) -> Outcome:
        """Tells the log and the states until the end, or until the manifest's time-out, which stops the run."""
        watch = Watch(
            self._poll, lambda client: self._system(run), job_id, deadline=now + run.timeout.total_seconds(),
            interval=5.0, emit=emit,
        )  # fmt: skip
        return await watch.run()

    async def stop(self, run: Exploration, job_id: str) -> None:
        """Asks for the end of it."""
        await self._system(run).stop(job_id)

    def result(self, run: Exploration, job_id: str) -> Awaitable[dict[str, Any]]:
        """What a succeeded run hands on (`PolyaxonSystem.result`)."""
        return self._system(run).result(job_id)

    def _system(self, run: Exploration) -> PolyaxonSystem:
        return PolyaxonSystem(self._client, run.project, run.best_by)


def _user() -> str:
    """Whose exploration it is, as a tag."""
    try:
        return f"by-{getpass.getuser()}"
    except (OSError, KeyError):
        return "by-unknown"
