"""What a poll of KFP runs costs and tells, over the real client."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from mlfleet.clients.http import HttpClient
from mlfleet.clients.kfp import KFPClient
from mlfleet.clients.retry import RetryPolicy
from mlfleet.errors import MlfleetError
from mlfleet.remote.job import JobState, JobStatus
from mlfleet.systems.kfp import KFPSystem

RUN, OTHER = "3f2c9a1e-0000-4000-8000-000000000001", "3f2c9a1e-0000-4000-8000-000000000002"


def row(run_id: str = RUN, state: str = "RUNNING", **more: Any) -> dict[str, Any]:
    """A run as a list shows it; one that is not finished ends at the epoch (kfp.md 4)."""
    times = {"created_at": "2026-11-01T00:00:00Z", "finished_at": "1970-01-01T00:00:00Z"}
    return {"run_id": run_id, "state": state, "pipeline_spec": {"root": {}}, **times, **more}


class Server(httpx.AsyncBaseTransport):
    """Answers lists with `rows`, or with `raw` when there is one; `asked` holds the paths."""

    def __init__(self, *rows: dict[str, Any]) -> None:
        self.rows, self.raw = list(rows), ""
        self.asked: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path.rpartition("/")[2])
        if self.asked[-1] != "runs":
            return httpx.Response(200, json=next(run for run in self.rows if run["run_id"] == self.asked[-1]))
        text = self.raw or json.dumps({"runs": self.rows})
        return httpx.Response(200, text=text, headers={"Content-Type": "application/json"})


def polled(server: Server, times: int = 1, change: Any = None) -> list[dict[str, JobStatus]]:
    """What polls of two runs tell, one after the other; `change` happens before the last."""

    async def ask() -> list[dict[str, JobStatus]]:
        http = HttpClient("http://kfp", system="kfp", transport=server, retry=RetryPolicy.once())
        views = {run_id: KFPSystem(KFPClient(http)) for run_id in (RUN, OTHER)}
        told = []
        for number in range(times):
            if change is not None and number == times - 1:
                change()
            told.append(await views[RUN].poll_many(views))
        return told

    return asyncio.run(ask())


def test_an_unchanged_run_is_not_read_again() -> None:
    first, second = polled(Server(row(), row(OTHER)), times=2)
    assert first == second
    assert all(second[run_id] is first[run_id] for run_id in (RUN, OTHER))


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({"state": "SUCCEEDED", "finished_at": "2026-11-01T01:00:00Z"}, JobState.SUCCEEDED),
        ({"state": "CANCELING"}, JobState.STOPPING),
        ({"state": "NEWLY_INVENTED"}, JobState.UNKNOWN),
        ({"state": None}, JobState.UNKNOWN),
    ],
)
def test_a_change_is_told_of_the_run_that_has_changed(change: dict[str, Any], state: JobState) -> None:
    server = Server(row(), row(OTHER))
    first, second = polled(server, 2, lambda: server.rows[1].update(change))
    assert second[OTHER].state is state
    assert (second[OTHER].finished_at is not None) == ("finished_at" in change)
    assert second[RUN] is first[RUN]


def test_why_a_run_failed_is_asked_for() -> None:
    server = Server(row(), row(OTHER))
    task = {"task_id": "t", "display_name": "train", "state": "FAILED", "error": {"message": "no disk"}}
    failed = {"state": "FAILED", "run_details": {"task_details": [task]}}
    second = polled(server, 2, lambda: server.rows[1].update(failed))[1]
    assert (second[OTHER].state, second[OTHER].reason) == (JobState.FAILED, "task train: no disk")
    assert server.asked == ["runs", "runs", OTHER]


def test_a_run_that_is_gone_is_left_out() -> None:
    server = Server(row(), row(OTHER))
    assert list(polled(server, 2, lambda: server.rows.pop())[1]) == [RUN]


def test_a_list_with_a_number_that_is_none_is_read_all_the_same() -> None:
    server = Server(row(), row(OTHER))
    server.raw = json.dumps({"runs": [row(runtime_config={"parameters": {"loss": float("nan")}}), row(OTHER)]})
    assert {status.state for status in polled(server)[0].values()} == {JobState.RUNNING}


@pytest.mark.parametrize("raw", ["<html>Sign in</html>", '{"runs": [{"run_id": "3f2c', '{"runs": [7]}', "[]"])
def test_what_is_no_list_of_runs_says_nothing_about_them(raw: str) -> None:
    server = Server(row(), row(OTHER))
    server.raw = raw
    with pytest.raises(MlfleetError) as raised:
        polled(server)
    assert raised.value.retryable
