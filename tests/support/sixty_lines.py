"""A remote system in sixty lines: a job is a folder, and whoever works there writes `state`, `log` and `result`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlfleet.errors import RequestRefused, SpecError
from mlfleet.remote.job import JobKey, JobState, JobStatus, TaskIdentity
from mlfleet.remote.logs import whole_lines
from mlfleet.remote.protocol import Cursor, LogChunk, RemoteSystem


class Spool(RemoteSystem):
    name, lookup_grace, lane = "spool", 0.0, None  # a file is seen at once

    def __init__(self, root: Path) -> None:
        self.root = root

    def _jobs(self, pattern: str) -> list[JobStatus]:
        paths = sorted(self.root.glob(f"{pattern}/state"))
        return [JobStatus(path.parent.name, JobState(path.read_text())) for path in paths]

    async def find(self, key: JobKey) -> list[JobStatus]:
        return self._jobs(f"*-{key.value}")

    async def find_task(self, task: TaskIdentity) -> list[JobStatus]:
        return [status for status in self._jobs(f"{task.hash}-*") if not status.state.is_final]

    async def submit(self, key: JobKey, spec: Mapping[str, Any]) -> JobStatus:
        if "words" not in spec:
            raise SpecError(self.name, key.name, "refused", "there are no words")
        folder = self.root / f"{key.task.hash}-{key.value}"
        folder.mkdir(exist_ok=True)
        for name, text in {"words": spec["words"], "log": "", "state": JobState.PENDING}.items():
            (folder / name).write_text(text)  # the state comes last: without one there is no job
        return self._jobs(folder.name)[0]

    async def poll_many(self, jobs: Mapping[str, RemoteSystem]) -> dict[str, JobStatus]:
        return {status.id: status for status in self._jobs("*") if status.id in jobs}

    async def stop(self, job_id: str, state: JobState = JobState.STOPPED) -> None:
        if any(status.state.is_final == (state is JobState.PENDING) for status in self._jobs(job_id)):
            (self.root / job_id / "state").write_text(state)

    discard = stop

    async def resume(self, job_id: str) -> None:
        if not any(status.state.is_final for status in self._jobs(job_id)):
            raise RequestRefused(self.name, "only what has ended goes on")
        await self.stop(job_id, JobState.PENDING)

    async def logs(self, job_id: str, cursor: Cursor) -> LogChunk:
        text, read = (self.root / job_id / "log").read_text(), int(cursor.get("read", 0))
        lines, taken = whole_lines(text[read:], closed=self._jobs(job_id)[0].state.is_final)
        return LogChunk(tuple(lines), {"read": read + taken})

    async def result(self, job_id: str) -> dict[str, Any]:
        return {"said": (self.root / job_id / "result").read_text()}
