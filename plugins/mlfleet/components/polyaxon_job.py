"""A Polyaxon job as a step of a KFP run: found or submitted, its log trailed, its end told (polyaxon.md 3, kfp.md 4).

The submission core of the operators (`remote.submission`), with a record that is read from Polyaxon itself
(`remote.recovery`): the key is environment, KFP run id, task path and iteration, so whatever process runs this step
again, after a kill, a node's loss or ``:retry``, finds the job that is there.

When the step is told to end, KFP is asked why: a run that is being cancelled stops its job; after anything else (a
drained node, an evicted pod) the job works on, and the retry adopts it. A step that is killed without a word asks
nothing, which leaves the job alone too.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mlfleet.clients.kfp import KFPClient
from mlfleet.clients.polyaxon import PolyaxonClient
from mlfleet.components.ending import interruptible
from mlfleet.errors import ConfigError, MlfleetError
from mlfleet.remote.conclusion import conclude
from mlfleet.remote.job import JobState, JobStatus, TaskIdentity, spec_digest
from mlfleet.remote.logs import MAX_BYTES
from mlfleet.remote.policies import OnFailed
from mlfleet.remote.polling import SharedPoll
from mlfleet.remote.recovery import recover
from mlfleet.remote.submission import Submission
from mlfleet.remote.watching import End, Outcome, Watch
from mlfleet.systems.polyaxon import PolyaxonSystem
from mlfleet.systems.polyaxon_operation import as_content, build_operation

Say = Callable[[str], None]
# States of a run that a person cancelled; the server itself never gives the second one (kfp.md 4).
CANCELLED = frozenset({"CANCELING", "CANCELED"})
# A step's log takes what there is; a line is still cut at 500 characters.
_RECORD_BYTES = 256 * MAX_BYTES


@dataclass(frozen=True)
class KFPStep:
    """Which step of which KFP run this is: what makes its job findable.

    ``environment``  as in include/environments; two that share one Polyaxon must not share their jobs
    ``run_id``       of the KFP run; a retried run keeps it
    ``task``         path of the task; ``iteration`` tells apart what runs under one path: a loop's rounds, a nested
                     pipeline that is used twice
    """

    environment: str
    run_id: str
    task: str
    iteration: str = ""

    @property
    def identity(self) -> TaskIdentity:
        """The same thing as the core names it."""
        path = f"{self.task}[{self.iteration}]" if self.iteration else self.task
        return TaskIdentity(self.environment, "kfp", self.run_id, path)


@dataclass(frozen=True)
class JobRequest:
    """What to run.

    ``source``        folder of the cloned repository; ``polyaxonfile`` and the values of ``files`` are paths below it
    ``project``       Polyaxon project, created when it does not exist
    ``params``        values for the component's inputs
    ``files``         name in the run's working folder to path: the code travels with the run
    ``name``          of the run in Polyaxon, a readable key by default
    ``timeout``       seconds after which the job is stopped and the step fails, 0 for never
    ``poll_interval`` seconds between looks at a job that runs for long
    """

    source: Path
    polyaxonfile: str
    project: str
    params: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    on_failed: OnFailed = OnFailed.RESUBMIT
    timeout: float = 0.0
    poll_interval: float = 10.0

    def spec(self) -> dict[str, Any]:
        """What is submitted. Raises ConfigError for a file that is not there, SpecError for a wrong polyaxonfile."""
        operation = build_operation(
            self._read(self.polyaxonfile),
            source=self.polyaxonfile,
            params=self.params,
            files={name: self._read(path) for name, path in self.files.items()},
        )
        spec: dict[str, Any] = {"content": as_content(operation), "tags": ["mlfleet", "kfp"]}
        return {**spec, "name": self.name} if self.name else spec

    def _read(self, path: str) -> str:
        root = self.source.resolve()
        file = (root / path).resolve()
        if not file.is_relative_to(root):
            raise ConfigError(f"{path} leads out of the repository", "the component's inputs", "Give a path below it")
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            why = getattr(exc, "strerror", None) or exc
            raise ConfigError(f"{path} can't be read as text: {why}", "the cloned repository",
                              "Correct the component's inputs") from exc  # fmt: skip


class JobResult(NamedTuple):
    """What the step hands on: names, and the outputs of the run (JSON)."""

    project: str
    user: str
    job_id: str
    status: str
    outputs: dict[str, Any]


@dataclass(frozen=True)
class Servers:
    """Makes clients: of Polyaxon, of the KFP that runs this step, and both once more for someone in a hurry."""

    polyaxon: Callable[[], PolyaxonClient]
    hurried_polyaxon: Callable[[], PolyaxonClient]
    hurried_kfp: Callable[[], KFPClient]


async def run_polyaxon_job(request: JobRequest, step: KFPStep, servers: Servers, say: Say) -> JobResult:
    """Brings the job to its end and returns what came of it.

    Raises Terminated when the process was told to end, AuthError when Polyaxon refuses the token, JobFailed,
    JobStopped, JobTimedOut or SpecError for what became of the job, other errors of mlfleet.errors when a server can't
    be asked.
    """
    work = _work(request, step, servers, say)
    return await interruptible(work, functools.partial(_told_to_end, request.project, step, servers, say))


async def _work(request: JobRequest, step: KFPStep, servers: Servers, say: Say) -> JobResult:
    spec = request.spec()
    user = await _log_in(servers, say)

    def connect() -> PolyaxonSystem:
        return PolyaxonSystem(servers.polyaxon(), request.project)

    status = await _enter(connect, request, step, spec, say)
    say(f"Polyaxon job {status.id} is {status.native or status.state.value}: {status.url}")
    result = await conclude(connect, await _wait(connect, request, status, say))
    return JobResult(request.project, user, status.id, result["status"], result["outputs"])


async def _log_in(servers: Servers, say: Say) -> str:
    async with servers.polyaxon() as client:
        user = await client.user()
    say(f"logged in to {client.http.base_url} as {user}")
    return user


async def _enter(
    connect: Callable[[], PolyaxonSystem], request: JobRequest, step: KFPStep, spec: Mapping[str, Any], say: Say
) -> JobStatus:
    system = connect()
    try:
        store = await recover(system, step.identity, spec_digest(spec))
        submission = Submission(
            system,
            store,
            step.identity,
            store.load().generation,
            on_failed=request.on_failed,
            tell=lambda decision: say(decision.sentence),
        )
        return await submission.enter(spec)
    finally:
        await system.aclose()


async def _wait(connect: Callable[[], PolyaxonSystem], request: JobRequest, status: JobStatus, say: Say) -> Outcome:
    """How the job ended. One that failed in an earlier try, and whose failure is to stay, is final already."""
    if status.state is JobState.FAILED or status.state is JobState.STOPPED:
        return Outcome(End.FINISHED, status)

    async def one() -> PolyaxonSystem:
        return connect()

    poll = SharedPoll(one)
    try:
        return await Watch(
            poll=poll,
            make=lambda system: system,
            job_id=status.id,
            deadline=time.time() + request.timeout if request.timeout else None,
            interval=request.poll_interval,
            emit=say,
            record_bytes=_RECORD_BYTES,
        ).run()
    finally:
        await poll.aclose()


async def _told_to_end(project: str, step: KFPStep, servers: Servers, say: Say) -> None:
    """Stops the job of a run that is being cancelled. There are seconds for it: a few tries, and no waiting."""
    try:
        async with servers.hurried_kfp() as kfp:
            state = (await kfp.get_run(step.run_id)).state
    except MlfleetError as exc:
        say(f"told to end, and KFP does not say why ({exc}): the Polyaxon job is left for the retry to adopt")
        return
    if state not in CANCELLED:
        say(f"told to end while the KFP run is {state}: the Polyaxon job is left for the retry to adopt")
        return
    say(f"the KFP run is {state}: stopping its Polyaxon job")
    system = PolyaxonSystem(servers.hurried_polyaxon(), project)
    try:
        # By task, not by id: the end may have come before the submit call was answered.
        for status in await system.find_task(step.identity):
            await system.stop(status.id)
            say(f"asked Polyaxon to stop job {status.id}")
    except MlfleetError as exc:
        say(f"the Polyaxon job could NOT be stopped and may still run: {exc}")
    finally:
        await system.aclose()
