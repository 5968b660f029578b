"""What really ran, as the jobs themselves wrote it down, and what the servers say of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

ENDED = frozenset({"succeeded", "failed", "stopped", "skipped", "upstream_failed", "canceled"})


@dataclass(frozen=True)
class Execution:
    """One time that a job ran; times in epoch seconds, ``end`` None when it never wrote one (killed, or running)."""

    job_id: str
    start: float
    end: float | None
    how: str


@dataclass(frozen=True)
class Job:
    """A job as the server's API shows it; ``state`` in lower case."""

    id: str
    state: str

    @property
    def live(self) -> bool:
        return self.state not in ENDED


def executions(folder: Path) -> list[Execution]:
    """All executions below the folder of a case, in the order in which they began."""
    events = folder / "events"
    if not events.exists():
        return []
    found: list[Execution] = []
    for line in events.read_text().splitlines():
        word, job_id, moment = line.split()
        if word == "start":
            found.append(Execution(job_id, float(moment), None, "started"))
            continue
        index = max(i for i, each in enumerate(found) if each.job_id == job_id)
        found[index] = Execution(job_id, found[index].start, float(moment), word)
    return found


def overlapping(found: Iterable[Execution]) -> int:
    """How many executions began while an earlier one still ran."""
    count, busy_until = 0, 0.0
    for each in sorted(found, key=lambda each: each.start):
        if each.start < busy_until:
            count += 1
        busy_until = max(busy_until, each.start if each.end is None else each.end)
    return count


class Servers:
    """Asks the servers directly, not by the way that mlfleet takes."""

    def __init__(self, polyaxon: str, kfp: str) -> None:
        self._clients = {
            "polyaxon": httpx.Client(base_url=polyaxon, timeout=60, trust_env=False),
            "kfp": httpx.Client(base_url=kfp, timeout=60, trust_env=False),
        }

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def jobs(self, system: str, dag_id: str) -> list[Job]:
        """All jobs that the task of the DAG ever submitted, oldest first."""
        return self._polyaxon(dag_id) if system == "polyaxon" else self._kfp(dag_id)

    def _polyaxon(self, project: str) -> list[Job]:
        answer = self._clients["polyaxon"].get(f"/api/v1/default/{project}/runs", params={"limit": 100})
        if answer.status_code == httpx.codes.NOT_FOUND:
            return []
        runs = sorted(answer.raise_for_status().json()["results"], key=lambda run: str(run["created_at"]))
        return [Job(run["uuid"], run["status"]) for run in runs]

    def _kfp(self, dag_id: str) -> list[Job]:
        params: dict[str, Any] = {"page_size": 200, "sort_by": "created_at"}
        answer = self._clients["kfp"].get("/apis/v2beta1/runs", params=params).raise_for_status().json()
        runs = [run for run in answer.get("runs", []) if run["display_name"].startswith(f"{dag_id}.job-")]
        return [Job(run["run_id"], run["state"].lower()) for run in runs]
