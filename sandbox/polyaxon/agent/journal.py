"""What the agent remembers: one folder per run, made of small files that are replaced whole.

    run.json         who the run is and what the server compiled for it    first of all, by the agent
    process.json     command, environment, folder, retries, time           by the agent, before it starts a runner
    runner.json      pid and start time of the runner                      by the runner, exclusively, before it works
    intent.json      how the run shall end when it is told to end          by the agent, before it signals the runner
    statuses.jsonl   statuses in order, the last one terminal              appended by runner and agent
    delivered        how many of them the server has                       by the agent, after each delivery
    context/         what the run sees as /plx-context

A folder exists from the moment the server handed the run over until its last status was delivered.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sandbox.polyaxon.agent.proc import ProcessId, identify

TERMINAL = frozenset({"succeeded", "failed", "stopped"})


@dataclass(frozen=True)
class Status:
    """A condition as the server takes it; `meta_info` goes with it (exit code, attempt)."""

    type: str
    reason: str
    message: str
    meta_info: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """A run as the server hands it over; `content` is the compiled operation, JSON."""

    owner: str
    project: str
    uuid: str
    name: str
    runtime: str
    content: str

    @property
    def instance(self) -> str:
        """The run's full name, which every process of the run carries as POLYAXON_RUN_INSTANCE."""
        return f"{self.owner}.{self.project}.runs.{self.uuid}"


@dataclass(frozen=True)
class Process:
    """What a runner executes: whole environment, absolute paths, `timeout` in seconds over all attempts (0 = none)."""

    argv: list[str]
    environment: dict[str, str]
    directory: str
    log: str
    container: str
    max_retries: int
    timeout: float
    grace: float


class RunFolder:
    """The folder of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def uuid(self) -> str:
        """The run's uuid, which names the folder."""
        return self.path.name

    @property
    def context(self) -> Path:
        """What the run sees as /plx-context."""
        return self.path / "context"

    def create(self, run: Run) -> None:
        """Take the run over; private, because the environment of a job may hold secrets."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._write("run.json", asdict(run))

    def run(self) -> Run | None:
        """The run, None when the agent died before it had written it down."""
        data = self._read("run.json")
        return Run(**data) if data else None

    def write_process(self, process: Process) -> None:
        """Keep what the runner shall execute."""
        self._write("process.json", asdict(process))

    def process(self) -> Process | None:
        """What the runner shall execute."""
        data = self._read("process.json")
        return Process(**data) if data else None

    def claim_runner(self) -> bool:
        """Make the calling process the runner of this run; False when there already was one."""
        me = identify(os.getpid())
        assert me is not None
        temporary = self.path / f"runner.{me.pid}"
        temporary.write_text(json.dumps(asdict(me)))
        try:
            os.link(temporary, self.path / "runner.json")
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        return True

    def runner(self) -> ProcessId | None:
        """The process that is or was the runner, None before one started."""
        data = self._read("runner.json")
        return ProcessId(**data) if data else None

    def write_intent(self, status: Status) -> None:
        """Say how the run ends when its runner is terminated; the first intent stands."""
        if self.intent() is None:
            self._write("intent.json", asdict(status) | {"at": time.time()})

    def intent(self) -> Status | None:
        """How the run shall end, None while it shall go on."""
        data = self._read("intent.json")
        return Status(data["type"], data["reason"], data["message"], data["meta_info"]) if data else None

    def intent_age(self) -> float:
        """Seconds since the run was told to end, 0 while it was not."""
        data = self._read("intent.json")
        return max(0.0, time.time() - data["at"]) if data else 0.0

    def append(self, status: Status) -> None:
        """Add a status, durably; nothing follows a terminal one."""
        if self.ended():
            return
        with (self.path / "statuses.jsonl").open("a") as file:
            file.write(json.dumps(asdict(status)) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def statuses(self) -> list[Status]:
        """All statuses so far, in order; half a line left by a kill is not one yet."""
        try:
            lines = (self.path / "statuses.jsonl").read_text().split("\n")[:-1]
        except FileNotFoundError:
            return []
        return [Status(**json.loads(line)) for line in lines]

    def ended(self) -> bool:
        """Whether the last status is terminal."""
        statuses = self.statuses()
        return bool(statuses) and statuses[-1].type in TERMINAL

    def undelivered(self) -> list[Status]:
        """Statuses that the server does not have yet."""
        return self.statuses()[self._delivered() :]

    def mark_delivered(self) -> None:
        """Count one more status as delivered."""
        self._write("delivered", self._delivered() + 1)

    def remove(self) -> None:
        """Forget the run; its artifacts, which `context` only links to, stay."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _delivered(self) -> int:
        return int(self._read("delivered") or 0)

    def _read(self, name: str) -> Any:
        try:
            return json.loads((self.path / name).read_text())
        except FileNotFoundError:
            return None

    def _write(self, name: str, data: Any) -> None:
        temporary = self.path / f".{name}.new"
        temporary.write_text(json.dumps(data))
        os.replace(temporary, self.path / name)


class Journal:
    """All runs this agent looks after."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def folder(self, uuid: str) -> RunFolder:
        """The folder of a run, which need not exist."""
        return RunFolder(self.path / uuid)

    def __contains__(self, uuid: str) -> bool:
        return (self.path / uuid / "run.json").exists()

    def __iter__(self) -> Iterator[RunFolder]:
        for path in sorted(self.path.iterdir()):
            if path.is_dir():
                yield RunFolder(path)
