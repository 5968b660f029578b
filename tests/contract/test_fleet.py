"""Plan and apply against the real Polyaxon CE server and the sandbox's KFP server."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException

from mlfleet.cli import main
from mlfleet.fleet.apply import Applied, Outcome, apply_steps, steps_of
from mlfleet.fleet.plan import Action, Plan
from tests.support import kfp_pipelines as pipelines
from tests.support.fleet import Between, Crash, FleetRepository, connections, wire_to
from tests.support.kfp import CLIENT_WARNING, KFPSandbox
from tests.support.polyaxon import PolyaxonSandbox
from tests.support.processes import REPOSITORY

pytestmark = pytest.mark.filterwarnings(CLIENT_WARNING)
Send = Callable[[], Awaitable[httpx.Response]]


@pytest.fixture(scope="module")
def kfp_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KFPSandbox]:
    sandbox = KFPSandbox(tmp_path_factory.mktemp("kfp"))
    sandbox.start()
    yield sandbox
    sandbox.stop()


@pytest.fixture
def urls(polyaxon_sandbox: PolyaxonSandbox, kfp_sandbox: KFPSandbox) -> dict[str, str]:
    return {"polyaxon": polyaxon_sandbox.url, "kfp": kfp_sandbox.url}


@pytest.fixture
def mark() -> str:
    return f"f-{uuid.uuid4().hex[:10]}"


@pytest.fixture
def fleet(tmp_path: Path, mark: str) -> FleetRepository:
    fleet = FleetRepository(tmp_path / "repository", mark)
    fleet.add(f"{mark}-a")
    fleet.add(f"{mark}-b", ("default",))
    return fleet


@pytest.fixture
def command(
    fleet: FleetRepository, urls: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    for name, value in connections(**urls).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COLUMNS", "160")

    def call(*words: str) -> tuple[int, str]:
        code = main(["--root", str(fleet.root), *words, "--env", "dev"])
        said = capsys.readouterr()
        return code, "\n".join(line.rstrip() for line in (said.out + said.err).splitlines())

    return call


def changes(plan: Plan) -> dict[str, str]:
    return {change.name: change.action.value for change in plan.changes}


def apply(fleet: FleetRepository, urls: dict[str, str], between: Between | None = None, prune: bool = False) -> Applied:
    prepared = fleet.prepared(wire_to(urls, between))
    applied = steps_of(prepared.plan(), prune=prune)
    asyncio.run(apply_steps(applied, prepared.systems, concurrency=1))
    return applied


def plan(fleet: FleetRepository, urls: dict[str, str]) -> Plan:
    return fleet.prepared(wire_to(urls)).plan()


def experiments(kfp: KFPSandbox, mark: str) -> list[str]:
    rows: list[dict[str, Any]] = kfp.get("experiments", page_size=200)["experiments"]
    return sorted(row["display_name"] for row in rows if mark in row["display_name"])


def test_plan_apply_and_nothing_is_left(
    command: Callable[..., tuple[int, str]], polyaxon_sandbox: PolyaxonSandbox, kfp_sandbox: KFPSandbox, mark: str
) -> None:
    code, said = command("plan")
    assert code == 2
    assert said.splitlines() == [
        "Polyaxon projects",
        f" + create  {mark}-a  include/projects/{mark}-a.yaml",
        f" + create  {mark}-b  include/projects/{mark}-b.yaml",
        "KFP experiments",
        f" + create  {mark}-a.default  include/projects/{mark}-a.yaml",
        f" + create  {mark}-a.other    include/projects/{mark}-a.yaml",
        f" + create  {mark}-b.default  include/projects/{mark}-b.yaml",
        "dev: 5 to create, 0 to change, 0 drifted, 0 orphaned; 0 as they should be",
    ]
    assert experiments(kfp_sandbox, mark) == []
    code, said = command("apply", "--yes")
    assert (code, said.splitlines()[-1]) == (0, "5 created")
    project = polyaxon_sandbox.http.get(f"/api/v1/default/{mark}-a").json()
    assert project["description"] == f"What {mark}-a is"
    assert [tag.partition("#")[0] for tag in project["tags"]] == ["owner:@acme/pricing", f"managed-by:{mark}"]
    assert experiments(kfp_sandbox, mark) == [f"{mark}-a.default", f"{mark}-a.other", f"{mark}-b.default"]
    assert command("plan") == (0, "dev: 0 to create, 0 to change, 0 drifted, 0 orphaned; 5 as they should be")
    assert command("apply", "--yes")[1].splitlines()[-1] == "nothing changed"


def test_apply_asks_and_nobody_there_is_no_yes(command: Callable[..., tuple[int, str]], mark: str) -> None:
    code, said = command("apply")
    assert code == 64
    assert "add --yes" in said
    assert command("plan")[0] == 2


def test_a_manifest_that_changes_and_a_hand_that_does(
    fleet: FleetRepository, urls: dict[str, str], polyaxon_sandbox: PolyaxonSandbox, mark: str
) -> None:
    apply(fleet, urls)
    fleet.add(f"{mark}-a", description="Changed in the manifest")
    page = f"/api/v1/default/{mark}-b"
    tags = polyaxon_sandbox.http.get(page).json()["tags"]
    polyaxon_sandbox.http.patch(page, json={"description": "changed by hand", "tags": tags}).raise_for_status()
    found = plan(fleet, urls)
    assert changes(found) == {f"{mark}-a": "change", f"{mark}-b": "drift"}
    (drift,) = [change for change in found.changes if change.action is Action.DRIFT]
    assert [(each.setting, each.before, each.after) for each in drift.differences] == [
        ("description", "changed by hand", f"What {mark}-b is")
    ]
    apply(fleet, urls)
    assert changes(plan(fleet, urls)) == {}
    assert polyaxon_sandbox.http.get(page).json()["description"] == f"What {mark}-b is"


def test_a_project_that_was_there_before_is_taken_over(
    fleet: FleetRepository, urls: dict[str, str], polyaxon_sandbox: PolyaxonSandbox, kfp_sandbox: KFPSandbox, mark: str
) -> None:
    polyaxon_sandbox.create_project(f"{mark}-a")
    kfp_sandbox.client().create_experiment(f"{mark}-a.default")
    found = changes(plan(fleet, urls))
    assert found[f"{mark}-a"] == "change"
    assert f"{mark}-a.default" not in found
    apply(fleet, urls)
    assert changes(plan(fleet, urls)) == {}


def test_a_renamed_project_is_told_on_both_sides_and_pruned_only_when_asked(
    fleet: FleetRepository, urls: dict[str, str], polyaxon_sandbox: PolyaxonSandbox, mark: str
) -> None:
    apply(fleet, urls)
    old, new = f"{mark}-a", f"{mark}-renamed"
    fleet.manifest(old).unlink()
    fleet.add(new, description=f"What {old} is")
    hints = {change.name: change.hint for change in plan(fleet, urls).changes}
    assert hints[new] == f"renamed from {old}? What that has stays under the old name"
    assert hints[old] == f"renamed to {new}?"
    assert hints[f"{new}.other"] == f"renamed from {old}.other? What that has stays under the old name"
    apply(fleet, urls)
    assert changes(plan(fleet, urls)) == {old: "orphan", f"{old}.default": "orphan", f"{old}.other": "orphan"}
    run = polyaxon_sandbox.http.get(f"/api/v1/default/{old}/runs").raise_for_status()
    assert run.json()["count"] == 0
    pruned = apply(fleet, urls, prune=True)
    assert {(step.change.name, step.verb) for step in pruned.steps} == {
        (old, "archived"), (f"{old}.default", "archived"), (f"{old}.other", "archived"),
    }  # fmt: skip
    assert changes(plan(fleet, urls)) == {}
    # Nothing was lost: the project and its experiments come back with their name.
    fleet.add(old)
    assert changes(plan(fleet, urls)) == {old: "drift", f"{old}.default": "change", f"{old}.other": "change"}
    apply(fleet, urls)
    assert changes(plan(fleet, urls)) == {}
    assert polyaxon_sandbox.http.get(f"/api/v1/default/{old}").json()["live_state"] == 1


def test_another_fleet_on_the_same_servers_is_left_alone(
    fleet: FleetRepository, urls: dict[str, str], tmp_path: Path, mark: str
) -> None:
    other = FleetRepository(tmp_path / "other", f"{mark}-too")
    other.add(f"{mark}-theirs")
    apply(other, urls)
    apply(fleet, urls)
    assert changes(plan(fleet, urls)) == {}
    apply(fleet, urls, prune=True)
    assert changes(plan(other, urls)) == {}


def test_a_recurring_run_of_ours_is_drift(
    fleet: FleetRepository, urls: dict[str, str], kfp_sandbox: KFPSandbox, mark: str, tmp_path: Path
) -> None:
    apply(fleet, urls)
    client, package = kfp_sandbox.client(), pipelines.compiled(pipelines.outer, tmp_path)
    ours = client.get_experiment(experiment_name=f"{mark}-b.default").experiment_id
    theirs = client.create_experiment(f"somebody-{mark}").experiment_id
    stored = client.upload_pipeline(package, f"{mark}-a").pipeline_id
    (version,) = client.list_pipeline_versions(stored).pipeline_versions
    schedule: dict[str, Any] = {"cron_expression": "0 0 3 * * *", "params": {"n": 1}}
    client.create_recurring_run(ours, f"in-ours-{mark}", pipeline_package_path=package, **schedule)
    client.create_recurring_run(theirs, f"of-ours-{mark}", pipeline_id=stored, version_id=version.pipeline_version_id,
                                **schedule)  # fmt: skip
    client.create_recurring_run(theirs, f"not-ours-{mark}", pipeline_package_path=package, **schedule)
    client.create_recurring_run(ours, f"off-{mark}", pipeline_package_path=package, enabled=False, **schedule)
    found = plan(fleet, urls)
    assert changes(found) == {f"in-ours-{mark}": "drift", f"of-ours-{mark}": "drift"}
    assert [change.hint for change in found.changes] == [
        f"a second scheduler: it runs in our experiment {mark}-b.default",
        f"a second scheduler: it runs the pipeline of {mark}-a",
    ]
    assert apply(fleet, urls).steps == []
    assert [step.verb for step in apply(fleet, urls, prune=True).steps] == ["disabled", "disabled"]
    assert changes(plan(fleet, urls)) == {}


def test_two_manifests_with_one_name_are_told_before_anything_is_asked(
    command: Callable[..., tuple[int, str]], fleet: FleetRepository, kfp_sandbox: KFPSandbox, mark: str
) -> None:
    (fleet.manifest("copy")).write_text(fleet.manifest(f"{mark}-a").read_text())
    for words in (("plan",), ("apply", "--yes", "--prune")):
        code, said = command(*words)
        assert code == 1
        assert f"include/projects/copy.yaml:2:7: error MF015: '{mark}-a' is include/projects/{mark}-a.yaml" in said
        assert said.endswith("3 manifests, 1 error, 0 warnings; nothing was looked at")
    assert experiments(kfp_sandbox, mark) == []


def test_names_of_experiments_with_slashes_and_pictures(
    tmp_path: Path, urls: dict[str, str], kfp_sandbox: KFPSandbox, mark: str
) -> None:
    fleet = FleetRepository(tmp_path / "repository", mark)
    fleet.add(mark, ("EU/West 🎉 Trading Cards", "naïve"))
    apply(fleet, urls)
    assert experiments(kfp_sandbox, mark) == [f"{mark}.eu-west-trading-cards", f"{mark}.naive"]
    assert changes(plan(fleet, urls)) == {}


def test_a_name_that_is_too_long_is_told_with_its_place(
    command: Callable[..., tuple[int, str]], fleet: FleetRepository, mark: str
) -> None:
    fleet.add(f"{mark}-a", ("x" * 300,))
    code, said = command("plan")
    assert code == 1
    assert f"include/projects/{mark}-a.yaml:5:22: error MF012" in said


# Two projects, three experiments: four lists and five writes.
@pytest.mark.parametrize("number", range(9))
@pytest.mark.parametrize("answer", ["not sent", "lost"])
def test_a_crash_at_any_request_is_cured_by_a_rerun(
    fleet: FleetRepository, urls: dict[str, str], kfp_sandbox: KFPSandbox, mark: str, number: int, answer: str
) -> None:
    async def die(now: int, request: httpx.Request, send: Send) -> httpx.Response:
        if now == number:
            if answer == "lost":
                await (await send()).aread()
            raise Crash
        return await send()

    between = Between(die)
    with pytest.raises(BaseException) as caught:
        apply(fleet, urls, between)
    assert isinstance(caught.value, Crash) or caught.group_contains(Crash)
    assert len(between.requests) >= number + 1
    apply(fleet, urls)
    assert changes(plan(fleet, urls)) == {}
    assert experiments(kfp_sandbox, mark) == [f"{mark}-a.default", f"{mark}-a.other", f"{mark}-b.default"]


def test_there_are_no_requests_beyond_those_that_were_killed(fleet: FleetRepository, urls: dict[str, str]) -> None:
    apply(fleet, urls, between := Between())
    assert len(between.requests) == 9


def test_two_who_apply_at_once_make_each_thing_once(
    fleet: FleetRepository, urls: dict[str, str], kfp_sandbox: KFPSandbox, mark: str
) -> None:
    """Both have planned before either has done anything: the second finds that each name is taken."""
    prepared = [fleet.prepared(wire_to(urls)) for _ in range(2)]
    both = [steps_of(each.plan(), prune=False) for each in prepared]

    async def at_once() -> None:
        await asyncio.gather(
            *(apply_steps(applied, each.systems) for applied, each in zip(both, prepared, strict=True))
        )

    asyncio.run(at_once())
    for applied in both:
        assert {step.outcome for step in applied.steps} == {Outcome.DONE}, applied.steps
    assert changes(plan(fleet, urls)) == {}
    assert experiments(kfp_sandbox, mark) == [f"{mark}-a.default", f"{mark}-a.other", f"{mark}-b.default"]


def test_a_half_working_server(
    command: Callable[..., tuple[int, str]], fleet: FleetRepository, urls: dict[str, str], mark: str
) -> None:
    async def sometimes(number: int, request: httpx.Request, send: Send) -> httpx.Response:
        if request.method == "POST" and b".other" in request.content:
            return httpx.Response(500, json={"code": 13, "message": "the database is away"})
        return await send()

    applied = apply(fleet, urls, Between(sometimes))
    assert {step.change.name for step in applied.of(Outcome.DONE)} == {
        f"{mark}-a", f"{mark}-b", f"{mark}-a.default", f"{mark}-b.default"
    }  # fmt: skip
    (failed,) = applied.of(Outcome.FAILED)
    assert failed.change.name == f"{mark}-a.other"
    assert "the database is away" in failed.why
    assert command("apply", "--yes")[1].splitlines()[-1] == "1 created"
    assert command("plan")[0] == 0


@pytest.mark.parametrize("broken", ["polyaxon", "kfp"])
def test_a_server_that_is_away_keeps_the_other_from_nothing(
    fleet: FleetRepository, urls: dict[str, str], mark: str, broken: str
) -> None:
    prepared = fleet.prepared(wire_to({**urls, broken: "http://127.0.0.1:1"}))
    found = prepared.plan()
    assert [unread.system for unread in found.unread] == [broken]
    kinds = {change.kind.value for change in found.changes}
    assert kinds == {{"polyaxon": "KFP experiment", "kfp": "Polyaxon project"}[broken]}
    asyncio.run(apply_steps(steps_of(found, prune=True), prepared.systems))
    apply(fleet, urls)
    assert changes(plan(fleet, urls)) == {}


def test_a_namespace_without_permission(fleet: FleetRepository, urls: dict[str, str], mark: str) -> None:
    """Reading is allowed there, writing is not: the rest is done, and the refusal is told once."""

    async def refuse(number: int, request: httpx.Request, send: Send) -> httpx.Response:
        if request.method == "POST" and "/experiments" in request.url.path:
            message = "User 'ci' is not authorized with reason: (create experiments in namespace 'ml-team')"
            return httpx.Response(403, json={"code": 7, "message": message})
        return await send()

    between = Between(refuse)
    applied = apply(fleet, urls, between)
    assert {step.change.kind.value for step in applied.of(Outcome.DONE)} == {"Polyaxon project"}
    (failed,) = applied.of(Outcome.FAILED)
    assert "not authorized" in failed.why
    assert {step.why for step in applied.of(Outcome.NOT_TRIED)} == {"kfp refused the credentials before"}
    assert sum("/experiments" in call for call in between.writes) == 1


def test_the_drift_dag(
    fleet: FleetRepository, urls: dict[str, str], monkeypatch: pytest.MonkeyPatch, mark: str
) -> None:
    for name, value in connections(**urls).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLEET_ENV", "dev")
    (fleet.root / "dags").mkdir()
    file = shutil.copy(REPOSITORY / "dags" / "fleet_drift.py", fleet.root / "dags")
    spec = importlib.util.spec_from_file_location(f"fleet_drift_{uuid.uuid4().hex}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (dag,) = [value for value in vars(module).values() if isinstance(value, DAG)] or [module.fleet_drift()]
    assert {task.task_id: task.downstream_task_ids for task in dag.tasks} == {"compare": {"in_step"}, "in_step": set()}
    compare, in_step = module.compare.function, module.in_step.function
    with pytest.raises(AirflowFailException, match=f"create Polyaxon project {mark}-a, .*mlfleet plan --env dev"):
        in_step(compare())
    apply(fleet, urls)
    in_step(compare())
    monkeypatch.setenv("AIRFLOW_CONN_KFP_DEFAULT", connections(kfp="http://127.0.0.1:1")["AIRFLOW_CONN_KFP_DEFAULT"])
    with pytest.raises(RuntimeError, match="kfp could not be read"):
        compare()
