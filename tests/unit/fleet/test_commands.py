"""The commands over a wire that is made up: prompts, exit codes, missing connections, pools of an Airflow."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

import mlfleet.cli.apply
import mlfleet.cli.plan
from mlfleet.cli import fleet as shared
from mlfleet.cli import main
from mlfleet.clients.retry import RetryPolicy
from mlfleet.fleet.connecting import Wire
from tests.support.fleet import FleetRepository, connections

EVERYWHERE = connections(polyaxon="http://plx", kfp="http://kfp", airflow="http://airflow")


class World:
    """Polyaxon, KFP and Airflow in a few dictionaries; ``requests`` are what came."""

    def __init__(self) -> None:
        self.projects: dict[str, dict[str, Any]] = {}
        self.experiments: dict[str, dict[str, Any]] = {}
        self.pools: dict[str, dict[str, Any]] = {"default_pool": {"name": "default_pool", "slots": 128}}
        self.requests: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(f"{request.method} {request.url.host}{request.url.path}")
        body = json.loads(request.content) if request.content else {}
        return getattr(self, request.url.host)(request.method, request.url.path, body)

    def plx(self, method: str, path: str, body: dict[str, Any]) -> httpx.Response:
        if method == "GET":
            return httpx.Response(200, json={"count": len(self.projects), "results": list(self.projects.values())})
        name = body.get("name") or path.split("/")[4]
        if path.endswith("archive"):
            self.projects.pop(name)
        else:
            self.projects[name] = {**self.projects.get(name, {}), "name": name, **body}
        return httpx.Response(200, json={})

    def kfp(self, method: str, path: str, body: dict[str, Any]) -> httpx.Response:
        if method == "GET":
            return httpx.Response(200, json={path.rpartition("/")[2]: list(self.experiments.values())})
        if ":archive" in path:
            self.experiments.pop(path.rpartition("/")[2].partition(":")[0])
            return httpx.Response(200, json={})
        made = {"experiment_id": body["display_name"], **body}
        self.experiments[body["display_name"]] = made
        return httpx.Response(200, json=made)

    def airflow(self, method: str, path: str, body: dict[str, Any]) -> httpx.Response:
        if path == "/auth/token":
            return httpx.Response(201, json={"access_token": "jwt-1234"})
        name = body.get("name") or body.get("pool") or path.rpartition("/")[2]
        if method == "GET":
            return httpx.Response(200, json={"pools": list(self.pools.values()), "total_entries": len(self.pools)})
        if method == "DELETE":
            self.pools.pop(name)
            return httpx.Response(204)
        if method == "POST" and name in self.pools:
            return httpx.Response(409, json={"detail": "exists"})
        self.pools[name] = {**self.pools.get(name, {}), **body, "name": name}
        return httpx.Response(201, json=self.pools[name])


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def fleet(tmp_path: Path) -> FleetRepository:
    fleet = FleetRepository(tmp_path, "acme")
    fleet.add("prices", ("default",))
    return fleet


@pytest.fixture
def command(
    fleet: FleetRepository, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    environ = dict(EVERYWHERE)
    wire = Wire(environ, httpx.MockTransport(world), RetryPolicy.once())
    for module in (mlfleet.cli.plan, mlfleet.cli.apply):
        monkeypatch.setattr(module, "prepare", lambda root, name: shared.prepare(root, name, wire))
    monkeypatch.setenv("COLUMNS", "160")

    def call(*words: str, answers: str | None = None, without: str = "") -> tuple[int, str, str]:
        environ.clear()
        environ.update({name: value for name, value in EVERYWHERE.items() if name != without})
        typed = iter((answers or "").split())
        monkeypatch.setattr("sys.stdin", Terminal(answers is not None))
        monkeypatch.setattr("click.termui.visible_prompt_func", lambda text: next(typed))
        code = main(["--root", str(fleet.root), *words, "--env", "dev"])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


class Terminal:
    def __init__(self, there: bool) -> None:
        self._there = there

    def isatty(self) -> bool:
        return self._there


def test_the_codes_of_a_plan(command: Callable[..., tuple[int, str, str]]) -> None:
    assert command("plan")[0] == 2
    assert command("apply", "--yes")[0] == 0
    assert command("plan")[0] == 0
    # A wrong call must not look like changes.
    assert command("plan", "--oops")[0] == 64
    assert main(["--oops", "plan"]) == 64


def test_a_missing_variable_is_named_and_nothing_is_asked(
    command: Callable[..., tuple[int, str, str]], world: World
) -> None:
    code, out, err = command("plan", without="AIRFLOW_CONN_KFP_DEFAULT")
    assert (code, out) == (1, "")
    assert "mlfleet: the connection 'kfp_default' is not set" in err
    assert "AIRFLOW_CONN_KFP_DEFAULT" in err
    assert world.requests == []


def test_an_environment_that_does_not_exist(fleet: FleetRepository, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(fleet.root), "plan", "--env", "prod"]) == 1
    assert "there is no environment 'prod' (--env) (looked in include/environments)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("environment", "extra", "why"),
    [
        ("kfp: {namespace: ml-team}", {}, "the connection says nothing: tasks would go elsewhere"),
        ("kfp: {namespace: ml-team}", {"namespace": "other"}, "the connection says 'other'"),
    ],
)
def test_fleet_and_tasks_go_to_the_same_namespace(
    fleet: FleetRepository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], environment: str,
    extra: dict[str, str], why: str,
) -> None:  # fmt: skip
    fleet.say_environment(environment)
    for name, value in EVERYWHERE.items():
        monkeypatch.setenv(name, json.dumps({**json.loads(value), "extra": extra}))
    assert main(["--root", str(fleet.root), "plan"]) == 1
    assert why in capsys.readouterr().err


def test_the_namespace_that_both_say_is_asked_for(fleet: FleetRepository) -> None:
    fleet.say_environment("kfp: {namespace: ml-team}")
    asked: list[httpx.URL] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url)
        return httpx.Response(200, json={"count": 0, "results": []})

    kfp = json.dumps({"conn_type": "kfp", "host": "http://kfp", "extra": {"namespace": "ml-team"}})
    wire = Wire({**EVERYWHERE, "AIRFLOW_CONN_KFP_DEFAULT": kfp}, httpx.MockTransport(answer), RetryPolicy.once())
    fleet.prepared(wire).plan()
    assert {url.params.get("namespace") for url in asked if url.host == "kfp"} == {"ml-team"}


def test_an_environment_asks_no_other_one(fleet: FleetRepository, world: World) -> None:
    (fleet.root / "include" / "environments" / "prod.yaml").write_text(
        "name: prod\nconnections: {polyaxon: polyaxon_prod, kfp: kfp_prod}\n"
    )
    prod = connections(polyaxon="http://plx-prod", kfp="http://kfp-prod")
    environ = {**EVERYWHERE, **{name.replace("DEFAULT", "PROD"): value for name, value in prod.items()}}
    fleet.prepared(Wire(environ, httpx.MockTransport(world), RetryPolicy.once())).plan()
    assert {request.split()[1].partition("/")[0] for request in world.requests} == {"plx", "kfp"}


def test_apply_asks_once_for_changes_and_once_more_for_what_goes(
    command: Callable[..., tuple[int, str, str]], fleet: FleetRepository, world: World
) -> None:
    assert command("apply", answers="n")[0] == 130
    assert world.projects == {}
    assert command("apply", answers="y")[0] == 0
    fleet.manifest("prices").unlink()
    fleet.add("cards", ("default",), "Else")
    code, out, _ = command("apply", answers="y")
    assert code == 0
    assert "2 that nobody asks for were left alone; --prune takes them away" in out
    assert sorted(world.projects) == ["cards", "prices"]
    assert command("apply", "--prune", answers="n")[0] == 130
    assert sorted(world.projects) == ["cards", "prices"]
    code, out, _ = command("apply", "--prune", answers="y")
    assert (code, out.splitlines()[-1]) == (0, "2 archived")
    assert (sorted(world.projects), sorted(world.experiments)) == (["cards"], ["cards.default"])


def test_pools(command: Callable[..., tuple[int, str, str]], fleet: FleetRepository, world: World) -> None:
    fleet.say_environment("connections: {airflow: airflow_default}\nquotas: {pools: {gpu: {slots: 2}}}\n")
    world.pools["theirs"] = {"name": "theirs", "slots": 1, "description": "somebody's"}
    command("apply", "--yes")
    pool = world.pools["gpu"]
    assert (pool["slots"], pool["include_deferred"]) == (2, True)
    assert pool["description"].startswith("managed-by:acme#")
    assert command("plan")[0] == 0
    world.pools["gpu"]["slots"] = 99
    code, out, _ = command("plan")
    assert code == 2
    assert "! drift  gpu  slots: 99 -> 2" in out
    command("apply", "--yes")
    assert world.pools["gpu"]["slots"] == 2
    fleet.say_environment("connections: {airflow: airflow_default}\n")
    code, out, _ = command("apply", "--yes", "--prune")
    assert out.splitlines()[-1] == "1 deleted"
    assert sorted(world.pools) == ["default_pool", "theirs"]


def test_json_of_apply(command: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = command("apply", "--yes", "--output", "json")
    data = json.loads(out)
    assert code == 0
    assert data["applied"] == [
        {"kind": "Polyaxon project", "name": "prices", "outcome": "done", "verb": "created", "why": ""},
        {"kind": "KFP experiment", "name": "prices.default", "outcome": "done", "verb": "created", "why": ""},
    ]
    assert "2 created" in err


def test_partial_failure_says_what_was_done_and_what_was_not(
    command: Callable[..., tuple[int, str, str]], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = world.kfp

    def broken(method: str, path: str, body: dict[str, Any]) -> httpx.Response:
        return real(method, path, body) if method == "GET" else httpx.Response(500, json={"message": "no database"})

    monkeypatch.setattr(world, "kfp", broken)
    code, out, _ = command("apply", "--yes")
    assert code == 1
    lines = out.splitlines()
    assert lines[-2] == "1 created, 1 failed"
    assert lines[-1] == "Run it again when the cause is mended: it goes on from here"
    assert any(line.startswith("failed: KFP experiment prices.default: kfp: POST http://kfp") for line in lines)
    monkeypatch.setattr(world, "kfp", real)
    assert command("apply", "--yes")[1].splitlines()[-1] == "1 created"


def test_no_message_can_write_to_the_terminal(command: Callable[..., tuple[int, str, str]], world: World) -> None:
    world.projects["prices"] = {"name": "prices", "description": "\x1b]0;gotcha\x07", "tags": []}
    assert "\x1b" not in command("plan")[1]
