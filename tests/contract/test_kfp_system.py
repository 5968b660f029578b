"""KFP as a remote job, against the sandbox's server, with pipelines compiled in a child process."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from mlfleet.clients.http import HttpClient
from mlfleet.clients.kfp import KFPClient
from mlfleet.errors import ConfigError, JobFailed, SpecError
from mlfleet.manifest.pipeline_versions import version_name
from mlfleet.remote.conclusion import conclude
from mlfleet.remote.job import JobKey, JobState, TaskIdentity
from mlfleet.remote.policies import OnFailed
from mlfleet.remote.watching import End
from mlfleet.systems.kfp import KFPSystem, run_id_for
from mlfleet.systems.kfp_package import PipelinePackage, load_package
from mlfleet.systems.kfp_versions import find_version, package_of
from tests.support.processes import SERVICES_PYTHON, free_port, start_service
from tests.support.remote import MemoryStore, submission, watch

T = TypeVar("T")

PIPELINE = """
from kfp import dsl
from kfp.dsl import Artifact, Input, Model, Output


@dsl.component(packages_to_install=[], install_kfp_package=False)
def train(rounds: int, model: Output[Model]):
    import pathlib
    folder = pathlib.Path(model.path)
    folder.mkdir(parents=True)
    (folder / "model.txt").write_text("x" * rounds)
    print(f"trained {rounds} rounds")


@dsl.component(packages_to_install=[], install_kfp_package=False)
def measure(model: Input[Model], mlfleet_outputs: Output[Artifact]):
    import json, pathlib
    size = len((pathlib.Path(model.path) / "model.txt").read_text())
    pathlib.Path(mlfleet_outputs.path).write_text(json.dumps({"mae": size / 2}))


@dsl.component(packages_to_install=[], install_kfp_package=False)
def wait(seconds: int):
    import time
    print("waiting", flush=True)
    time.sleep(seconds)


@dsl.component(packages_to_install=[], install_kfp_package=False)
def fall():
    print("about to fall")
    raise RuntimeError("the ice is thin")


@dsl.component(packages_to_install=[], install_kfp_package=False)
def succeed_the_second_time(folder: str):
    import pathlib
    mark = pathlib.Path(folder) / "tried"
    if not mark.exists():
        mark.touch()
        raise RuntimeError("the first time")


@dsl.pipeline(name="shaky")
def shaky(folder: str):
    succeed_the_second_time(folder=folder).after(train(rounds=3))


@dsl.pipeline(name="good")
def good(rounds: int = 10):
    measure(model=train(rounds=rounds).outputs["model"])


@dsl.pipeline(name="slow")
def slow(seconds: int = 600):
    wait(seconds=seconds)


@dsl.pipeline(name="bad")
def bad():
    fall()
"""
WRONG = """

@dsl.pipeline(name="wrong")
def wrong():
    train(rounds=1, depth=3)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("kfp")
    port = free_port()
    command = [SERVICES_PYTHON, "-m", "sandbox.kfp", "--port", str(port), "--state", root / "state"]
    # Components run with the first python3 of the path, as in an image.
    path = {"PATH": f"{SERVICES_PYTHON.parent}{os.pathsep}{os.environ['PATH']}"}
    with start_service(command, port, "/apis/v2beta1/healthz", root / "kfp.log", env=path) as service:
        yield service.url


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pipelines") / "pipeline.py"
    path.write_text(PIPELINE)
    return path


@pytest.fixture(scope="module")
def packages(source: Path) -> dict[str, PipelinePackage]:
    return {name: load_package(source, name) for name in ("good", "slow", "bad", "shaky")}


@pytest.fixture
def task() -> TaskIdentity:
    return TaskIdentity("test", "price-suggestion", f"manual__{uuid.uuid4()}", "default.kfp")


def spec(package: PipelinePackage, root: Path | None = None, **params: Any) -> dict[str, Any]:
    return {
        "pipeline_spec": package.spec,
        "parameters": params,
        "experiment": "price-suggestion.default",
        "pipeline_root": str(root) if root else None,
    }


def on_system(server: str, use: Callable[[KFPSystem], Awaitable[T]], root: Path | None = None, name: str = "") -> T:
    async def run() -> T:
        system = KFPSystem(KFPClient(HttpClient(server, system="kfp")), str(root) if root else None, name)
        try:
            return await use(system)
        finally:
            await system.aclose()

    return asyncio.run(run())


async def trouble(server: str, **faults: int) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        (await client.post(f"{server}/sandbox/faults", json=faults)).raise_for_status()


def executions(server: str, run_id: str) -> int:
    return int(httpx.get(f"{server}/sandbox/runs/{run_id}", trust_env=False).raise_for_status().json()["executions"])


def test_a_run_from_submit_to_the_outputs_below_its_root(
    server: str, packages: dict[str, PipelinePackage], task: TaskIdentity, tmp_path: Path
) -> None:
    async def use(system: KFPSystem) -> tuple[Any, str, dict[str, Any]]:
        entering, kinds = submission(system, MemoryStore(), task=task)
        status = await entering.enter(spec(packages["good"], tmp_path, rounds=7))
        assert kinds == ["submitted"]
        outcome, said = await watch(system, status.id)
        return outcome, said, await system.result(status.id)

    outcome, said, result = on_system(server, use, tmp_path, packages["good"].name)
    assert outcome.end is End.FINISHED
    assert outcome.status.state is JobState.SUCCEEDED, outcome.status.reason
    assert said.count("[train] trained 7 rounds") == 1
    assert result["outputs"] == {"mae": 3.5}
    assert set(result["artifacts"]) == {"train.model", "measure.mlfleet_outputs"}
    assert (Path(result["model_uri"]) / "model.txt").read_text() == "xxxxxxx"
    assert result["url"].endswith(f"/#/runs/details/{result['run_id']}")


def test_a_rerun_with_the_same_parameters_really_runs(
    server: str, packages: dict[str, PipelinePackage], task: TaskIdentity, tmp_path: Path
) -> None:
    async def use(system: KFPSystem) -> list[str]:
        store, said = MemoryStore(), []
        for generation in (1, 2):
            entering, _ = submission(system, store, task=task, generation=generation)
            said.append((await watch(system, (await entering.enter(spec(packages["good"], tmp_path))).id))[1])
        return said

    first, second = on_system(server, use)
    assert "trained 10 rounds" in first
    assert "trained 10 rounds" in second


def test_a_lost_answer_does_not_make_a_second_execution(
    server: str, packages: dict[str, PipelinePackage], task: TaskIdentity, tmp_path: Path
) -> None:
    async def use(system: KFPSystem) -> tuple[str, list[str]]:
        entering, kinds = submission(system, store := MemoryStore(), task=task)
        # The experiment is made first: the lost answer is to be the run's.
        await system._client.ensure_experiment("price-suggestion.default")
        await trouble(server, drop_after_commit=1)
        status = await entering.enter(spec(packages["good"], tmp_path))
        assert store.record is not None
        assert status.id == run_id_for(JobKey(task, store.record.incarnation, 0))
        await watch(system, status.id)
        return status.id, kinds

    run_id, kinds = on_system(server, use)
    assert kinds == ["answer_lost", "submitted"]
    assert executions(server, run_id) == 1


def test_retry_adopts_clear_stops_and_a_terminated_run_counts_as_stopped(
    server: str, packages: dict[str, PipelinePackage], task: TaskIdentity, tmp_path: Path
) -> None:
    store = MemoryStore()
    slow = spec(packages["slow"], tmp_path)

    async def use(system: KFPSystem) -> tuple[Any, str]:
        first, _ = submission(system, store, task=task, generation=1)
        one = await first.enter(slow)
        retry, retried = submission(system, store, task=task, generation=1)
        assert (await retry.enter(slow)).id == one.id
        assert retried == ["adopted"]
        clear, cleared = submission(system, store, task=task, generation=2)
        two = await clear.enter(slow)
        assert two.id != one.id
        assert cleared == ["cleared", "stopped", "submitted"]
        forgotten, kinds = submission(system, MemoryStore(), task=task, generation=2)
        three = await forgotten.enter(slow)
        assert kinds == ["reaped", "stopped", "submitted"]
        watching = asyncio.create_task(watch(system, three.id))
        await asyncio.sleep(1.5)
        await system.stop(three.id)
        await system.stop(three.id)
        outcome = await watching
        await system.stop(three.id)  # a finished one is fine
        return outcome

    outcome, said = on_system(server, use)
    assert outcome.status.native in {"FAILED", "CANCELED"}
    # A run ends FAILED after CANCELING (kfp.md 4); whoever sees only the end can't tell, for its history has no word.
    assert outcome.status.state is JobState.STOPPED or "CANCELING" not in said


def test_a_failed_run_names_its_task_and_shows_its_last_lines(
    server: str, packages: dict[str, PipelinePackage], task: TaskIdentity, tmp_path: Path
) -> None:
    async def use(system: KFPSystem) -> Any:
        entering, _ = submission(system, MemoryStore(), task=task)
        status = await entering.enter(spec(packages["bad"], tmp_path))
        outcome, _ = await watch(system, status.id)
        return await conclude(lambda: system, outcome)

    with pytest.raises(JobFailed) as caught:
        on_system(server, use)
    assert "fall" in caught.value.reason
    assert any("the ice is thin" in line for line in caught.value.log_tail)


def test_a_failed_run_is_resumed_from_its_failed_step(
    server: str, packages: dict[str, PipelinePackage], task: TaskIdentity, tmp_path: Path
) -> None:
    store, shaky = MemoryStore(), spec(packages["shaky"], tmp_path, folder=str(tmp_path))

    async def use(system: KFPSystem) -> tuple[Any, Any, list[str]]:
        entering, _ = submission(system, store, task=task)
        first, _ = await watch(system, (await entering.enter(shaky)).id)
        again, kinds = submission(system, store, task=task, on_failed=OnFailed.RESUME)
        second, _ = await watch(system, (await again.enter(shaky)).id)
        return first, second, kinds

    first, second, kinds = on_system(server, use)
    assert (first.status.state, second.status.state) == (JobState.FAILED, JobState.SUCCEEDED)
    assert (second.status.id, kinds) == (first.status.id, ["resumed"])
    trained = list((tmp_path / "shaky" / second.status.id / "train").glob("*/model"))
    assert len(trained) == 1  # what had succeeded was kept


def test_an_unknown_version_is_a_spec_error_before_anything_is_sent(server: str, task: TaskIdentity) -> None:
    """The server would answer 500, which looks like its own fault (kfp.md 4)."""
    missing = {"pipeline_id": str(uuid.uuid4()), "pipeline_version_id": str(uuid.uuid4())}
    wanted = {"version": missing, "experiment": "price-suggestion.default", "parameters": {}}

    async def use(system: KFPSystem) -> list[Any]:
        entering, _ = submission(system, MemoryStore(), task=task)
        with pytest.raises(SpecError, match=missing["pipeline_version_id"]):
            await entering.enter(wanted)
        return await system.find_task(task)

    assert on_system(server, use) == []


def test_a_stored_version_runs(
    server: str, packages: dict[str, PipelinePackage], task: TaskIdentity, tmp_path: Path
) -> None:
    async def use(system: KFPSystem) -> Any:
        async with KFPClient(HttpClient(server, system="kfp")) as client:
            pipeline = await client.ensure_pipeline(f"stored-{uuid.uuid4().hex[:6]}")
            package = json.dumps(packages["good"].spec).encode()
            version, _ = await client.ensure_version(pipeline.pipeline_id, "main_abc1234", package)
        named = {"pipeline_id": pipeline.pipeline_id, "pipeline_version_id": version.version_id}
        wanted = {"version": named, "experiment": "price-suggestion.default", "pipeline_root": str(tmp_path)}
        entering, _ = submission(system, MemoryStore(), task=task)
        outcome, _ = await watch(system, (await entering.enter(wanted)).id)
        return outcome

    assert on_system(server, use).status.state is JobState.SUCCEEDED


def test_the_newest_version_of_a_branch_runs_as_somebody(
    server: str, packages: dict[str, PipelinePackage], task: TaskIdentity, tmp_path: Path
) -> None:
    pipeline = f"chosen-{uuid.uuid4().hex[:6]}"
    names = [version_name(branch, commit * 40) for branch, commit in (("main", "a"), ("main", "b"), ("fix/1", "c"))]

    async def use(system: KFPSystem) -> tuple[list[str], Any, Any]:
        async with KFPClient(HttpClient(server, system="kfp")) as client:
            stored = await client.ensure_pipeline(pipeline)
            for name in names:
                await client.ensure_version(stored.pipeline_id, name, json.dumps(packages["good"].spec).encode())
                await asyncio.sleep(1.1)  # the server's times have whole seconds
            selectors = ({"branch": "main"}, {"branch": "fix/1"}, {"commit": "a" * 40}, {"name": names[1]})
            found = [await find_version(client, pipeline, selector) for selector in selectors]
            with pytest.raises(SpecError, match=f"no version of branch dev; it has {names[2]}, {names[1]}"):
                await find_version(client, pipeline, {"branch": "dev"})
            package = package_of(found[0], enable_caching=False)
            wanted = {"pipeline_spec": package.spec, "experiment": "price-suggestion.default",
                      "labels": {"commit": "b" * 40, "version": found[0].name}, "service_account": "trainer",
                      "parameters": {"rounds": 3}, "pipeline_root": str(tmp_path)}  # fmt: skip
            entering, _ = submission(system, MemoryStore(), task=task)
            status = await entering.enter(wanted)
            outcome, _ = await watch(system, status.id)
            return [version.name for version in found], outcome, await client.get_run(status.id)

    chosen, outcome, run = on_system(server, use)
    assert chosen == [names[1], names[2], names[0], names[1]]
    assert outcome.status.state is JobState.SUCCEEDED
    assert json.loads(run.description)["version"] == names[1]
    assert json.loads(run.description)["commit"] == "b" * 40


def test_a_server_that_is_away_for_a_while_does_not_end_the_wait(
    server: str, packages: dict[str, PipelinePackage], task: TaskIdentity, tmp_path: Path
) -> None:
    async def use(system: KFPSystem) -> tuple[Any, str]:
        entering, _ = submission(system, MemoryStore(), task=task)
        status = await entering.enter(spec(packages["slow"], tmp_path, seconds=2))
        await trouble(server, unavailable=7)
        return await watch(system, status.id)

    outcome, _ = on_system(server, use)
    assert outcome.status.state is JobState.SUCCEEDED


def test_compiling_switches_the_cache_off_unless_asked(source: Path, packages: dict[str, PipelinePackage]) -> None:
    assert [t["cachingOptions"] for t in packages["good"].ir["root"]["dag"]["tasks"].values()] == [{}, {}]
    kept = load_package(source, "good", enable_caching=True)
    assert {"enableCache": True} in [t["cachingOptions"] for t in kept.ir["root"]["dag"]["tasks"].values()]


def test_what_does_not_compile_says_where(source: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text(PIPELINE + WRONG)
    with pytest.raises(SpecError, match=rf"wrong\.py:{len((PIPELINE + WRONG).splitlines())}: TypeError.*depth"):
        load_package(wrong, "wrong")
    with pytest.raises(SpecError, match=r"no 'god'; its pipelines: shaky, good, slow, bad"):
        load_package(source, "god")
    broken = tmp_path / "broken.py"
    broken.write_text("def f(:\n")
    with pytest.raises(SpecError, match=r"broken\.py:1: SyntaxError"):
        load_package(broken, "f")


def test_an_interpreter_without_the_sdk_is_named(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLEET_KFP_PYTHON", "/usr/bin/python3")
    with pytest.raises(ConfigError, match=r"has no KFP SDK.*set MLFLEET_KFP_PYTHON"):
        load_package(source, "good")
    monkeypatch.setenv("MLFLEET_KFP_PYTHON", "/no/such/python")
    with pytest.raises(ConfigError, match="can't be run"):
        load_package(source, "good")


def test_parameters_are_checked_before_anything_is_sent(packages: dict[str, PipelinePackage]) -> None:
    packages["good"].check({"rounds": 3})
    with pytest.raises(SpecError, match=r"no parameter depth \(it has: rounds\)"):
        packages["good"].check({"depth": 3})
