"""The Polyaxon step of a KFP run at the wire: logging in, answers that get lost, and what it does when told to end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlfleet.clients.auth import Credentials
from mlfleet.clients.http import HttpClient
from mlfleet.clients.kfp import KFPClient
from mlfleet.clients.polyaxon import PolyaxonClient
from mlfleet.clients.retry import RetryPolicy
from mlfleet.components import running
from mlfleet.components.ending import EXIT_CODE, Terminated
from mlfleet.components.polyaxon_job import JobRequest, JobResult, KFPStep, Servers, run_polyaxon_job
from mlfleet.components.running import Addresses, Log
from mlfleet.errors import AuthError, ConfigError, JobFailed, SpecError, TransientError
from mlfleet.remote.policies import OnFailed

TOKEN = "plx-5cr37-0f-p0ly4x0n"
STEP = KFPStep("test", "6b1d2a5e", "polyaxon-job", "17")
FILE = "version: 1.1\nkind: component\nrun: {kind: job, container: {command: [python, train.py]}}\n"


class Polyaxon:
    """The few calls of a server of the enterprise edition; `before` may answer in its place."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.ends = "succeeded"
        self.requests: list[str] = []
        self.before: Callable[[httpx.Request], httpx.Response | None] = lambda request: None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/v1/")
        self.requests.append(f"{request.method} {path}")
        assert request.headers["Authorization"] == f"Token {TOKEN}"
        return self.before(request) or self.answer(request, path)

    def answer(self, request: httpx.Request, path: str) -> httpx.Response:
        if path == "installation":
            return httpx.Response(200, json={"dist": "ee", "version": "2.18.0"})
        if path == "users":
            return httpx.Response(200, json={"username": "ada"})
        if path == "acme/lab":
            return httpx.Response(200, json={"name": "lab"})
        if path == "acme/lab/runs":
            return self.submitted(request) if request.method == "POST" else self.listed(request)
        if path.startswith("/streams"):
            logs = [{"value": f"loss {number} {TOKEN}"} for number in range(2)]
            return httpx.Response(200, json={"logs": logs})
        return self.act(request, path.removeprefix("acme/lab/runs/").split("/"))

    def submitted(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        uuid = f"{len(self.runs):032x}"
        self.runs[uuid] = {
            "uuid": uuid,
            "status": "created",
            "meta_info": body["meta_info"],
            "content": body["content"],
        }
        return httpx.Response(201, json=self.runs[uuid])

    def listed(self, request: httpx.Request) -> httpx.Response:
        key, _, value = request.url.params["query"].removeprefix("meta_info.").partition(":")
        rows = [run for run in self.runs.values() if value in (run["uuid"], run["meta_info"].get(key))]
        return httpx.Response(200, json={"count": len(rows), "results": rows})

    def act(self, request: httpx.Request, words: list[str]) -> httpx.Response:
        run = self.runs[words[0]]
        if words[1:] == ["approve"]:
            run["status"] = self.ends if run["status"] == "created" else run["status"]
        elif words[1:] == ["stop"]:
            run["status"] = "stopped"
        elif words[1:] == ["statuses"]:
            conditions = [{"type": "running"}, {"type": run["status"], "reason": "Error", "message": "exit code 3"}]
            return httpx.Response(200, json={**run, "status_conditions": conditions})
        return httpx.Response(200, json={**run, "outputs": {"mae": 1.5}})


class World:
    """A Polyaxon, a KFP whose run is in `state`, and what the step said."""

    def __init__(self, folder: Path) -> None:
        self.polyaxon, self.state, self.said = Polyaxon(), "RUNNING", []
        (folder / "job.yaml").write_text(FILE)
        (folder / "train.py").write_text("print(1)")
        self.request = JobRequest(folder, "job.yaml", "lab", files={"train.py": "train.py"}, poll_interval=0.05)

    def kfp(self, request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/apis/v2beta1/runs/6b1d2a5e"
        if not self.state:
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(200, json={"run_id": "6b1d2a5e", "state": self.state})

    def servers(self) -> Servers:
        def polyaxon() -> PolyaxonClient:
            http = HttpClient(
                "http://polyaxon.test", system="polyaxon", transport=httpx.MockTransport(self.polyaxon),
                credentials=Credentials.token(TOKEN, "Token"), retry=RetryPolicy(3, 5, 0.01),
            )  # fmt: skip
            return PolyaxonClient(http, owner="acme")

        def kfp() -> KFPClient:
            transport = httpx.MockTransport(self.kfp)
            return KFPClient(HttpClient("http://kfp.test", system="kfp", transport=transport, retry=RetryPolicy.once()))

        return Servers(polyaxon, polyaxon, kfp)

    def run(self, **changes: Any) -> JobResult:
        request = JobRequest(**{**vars(self.request), **changes})
        return asyncio.run(run_polyaxon_job(request, STEP, self.servers(), self.said.append))

    def told_to_end(self, when: Callable[[], bool]) -> None:
        """Runs the step, sends the process SIGTERM once `when` holds; the step must end with Terminated."""

        async def work() -> None:
            step = asyncio.create_task(run_polyaxon_job(self.request, STEP, self.servers(), self.said.append))
            async with asyncio.timeout(10):
                while not when():  # noqa: ASYNC110 - it looks at what others did
                    await asyncio.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)
            with pytest.raises(Terminated):
                await asyncio.wait_for(step, 10)

        asyncio.run(work())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_project_user_job_status_and_outputs(world: World) -> None:
    assert world.run() == ("lab", "ada", f"{0:032x}", "succeeded", {"mae": 1.5})
    assert world.said[0] == "logged in to http://polyaxon.test as ada"
    (run,) = world.polyaxon.runs.values()
    assert json.loads(run["content"])["component"]["run"]["init"][0]["file"]["filename"] == "train.py"
    assert world.run().job_id == run["uuid"]  # and once more finds it


def test_a_login_that_is_refused_is_one_sentence_and_submits_nothing(world: World) -> None:
    refused = httpx.Response(401, json={"detail": "Invalid token."})
    world.polyaxon.before = lambda request: refused if request.url.path.endswith("users") else None
    with pytest.raises(AuthError) as caught:
        world.run()
    assert (
        str(caught.value)
        == "polyaxon: GET http://polyaxon.test/api/v1/users: refused with 401 Unauthorized: Invalid token."
    )
    assert world.polyaxon.runs == {}


def test_a_lost_answer_to_the_submit_call_makes_no_second_job(world: World) -> None:
    lost = []

    def lose(request: httpx.Request) -> httpx.Response | None:
        if request.method == "POST" and request.url.path.endswith("/runs") and not lost:
            lost.append(world.polyaxon.submitted(request))
            raise httpx.ReadTimeout("", request=request)
        return None

    world.polyaxon.before = lose
    assert world.run().status == "succeeded"
    assert len(world.polyaxon.runs) == 1
    assert any("the answer to the submit call was lost" in line for line in world.said)


def test_a_server_that_is_down_submits_nothing(world: World) -> None:
    world.polyaxon.before = lambda request: httpx.Response(503)
    with pytest.raises(TransientError):
        world.run()
    assert world.polyaxon.runs == {}


def test_a_job_that_failed_says_why_and_fail_keeps_it_failed(world: World) -> None:
    world.polyaxon.ends = "failed"
    with pytest.raises(JobFailed, match="exit code 3"):
        world.run()
    with pytest.raises(JobFailed):
        world.run(on_failed=OnFailed.FAIL)
    assert len(world.polyaxon.runs) == 1


@pytest.mark.parametrize(
    ("changes", "kind", "sentence"),
    [
        ({"polyaxonfile": "no.yaml"}, ConfigError, "no.yaml can't be read as text: No such file"),
        ({"polyaxonfile": "../secret"}, ConfigError, "../secret leads out of the repository"),
        ({"files": {"x": "/etc/hostname"}}, ConfigError, "/etc/hostname leads out of the repository"),
        ({"params": {"x": 1}}, SpecError, "it has no input x"),
    ],
)
def test_wrong_inputs_are_one_sentence_before_anything_is_asked(
    world: World, changes: dict[str, Any], kind: type[Exception], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        world.run(**changes)
    assert world.polyaxon.requests == []


def running_job(world: World) -> Callable[[], bool]:
    world.polyaxon.ends = "running"
    return lambda: any("is running" in line for line in world.said)


@pytest.mark.parametrize("state", ["CANCELING", "CANCELED"])
def test_a_cancelled_run_stops_its_job(world: World, state: str) -> None:
    world.state = state
    world.told_to_end(running_job(world))
    assert [run["status"] for run in world.polyaxon.runs.values()] == ["stopped"]
    assert f"the KFP run is {state}: stopping its Polyaxon job" in world.said


@pytest.mark.parametrize("state", ["RUNNING", "PENDING", "FAILED", ""])
def test_any_other_end_leaves_the_job_to_the_retry(world: World, state: str) -> None:
    world.state = state
    world.told_to_end(running_job(world))
    assert [run["status"] for run in world.polyaxon.runs.values()] == ["running"]
    assert "left for the retry to adopt" in world.said[-1]
    world.polyaxon.runs[f"{0:032x}"]["status"] = "succeeded"
    assert world.run().job_id == f"{0:032x}"
    assert len(world.polyaxon.runs) == 1


def test_an_end_in_the_middle_of_the_submission_stops_what_came_of_it(world: World) -> None:
    """The run is there and waits for its approval; nobody has told the step its id."""
    world.state = "CANCELING"
    told = []

    async def slow(request: httpx.Request) -> httpx.Response:
        answer = world.polyaxon(request)
        if request.method == "POST" and request.url.path.endswith("/runs"):
            told.append(True)
            await asyncio.sleep(30)
        return answer

    def servers() -> Servers:
        made = World.servers(world)

        def client() -> PolyaxonClient:
            http = HttpClient("http://polyaxon.test", system="polyaxon", transport=httpx.MockTransport(slow),
                              credentials=Credentials.token(TOKEN, "Token"))  # fmt: skip
            return PolyaxonClient(http, owner="acme")

        return Servers(client, made.hurried_polyaxon, made.hurried_kfp)

    world.servers = servers  # type: ignore[method-assign]
    world.told_to_end(lambda: bool(told))
    assert [run["status"] for run in world.polyaxon.runs.values()] == ["stopped"]


def test_a_job_that_can_not_be_stopped_is_said(world: World) -> None:
    world.state = "CANCELING"
    running = running_job(world)

    def refuse(request: httpx.Request) -> httpx.Response | None:
        return httpx.Response(403, json={}) if request.url.path.endswith("/stop") else None

    world.polyaxon.before = refuse
    world.told_to_end(running)
    assert world.said[-1].startswith("the Polyaxon job could NOT be stopped and may still run: ")


def test_the_log_hides_the_token_that_a_job_prints(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("POLYAXON_AUTH_TOKEN", f" {TOKEN}\n")
    monkeypatch.setattr(Addresses, "servers", lambda self, token: world.servers() if token == TOKEN else None)
    result = running.polyaxon_job(world.request, STEP, Addresses("http://polyaxon.test", "http://kfp.test"))
    assert result.status == "succeeded"
    out = capsys.readouterr().out
    assert "loss 1 ***" in out
    assert TOKEN not in out


def test_how_the_process_ends(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Addresses, "servers", lambda self, token: world.servers())
    world.polyaxon.before = lambda request: httpx.Response(401, json={"detail": f"no user with {TOKEN}"})
    with pytest.raises(SystemExit) as ended:
        running.polyaxon_job(world.request, STEP, Addresses("http://polyaxon.test", "http://kfp.test"))
    assert ended.value.code == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("error: polyaxon: GET http://polyaxon.test/api/v1/installation: refused with 401")
    assert TOKEN not in line
    assert EXIT_CODE == 143


def test_short_and_overlapping_secrets() -> None:
    assert Log(["abc", "abcdef", ""]).masked("abcdef abc") == "*** ***"
