"""Training that cannot begin or fails, on the real Polyaxon and the KFP server: one message, and a rerun that works."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlfleet.operators.kfp import KFPRunOperator
from mlfleet.operators.polyaxon import PolyaxonRunOperator
from tests.support.delivery import Run
from tests.support.kfp import KFPSandbox
from tests.support.polyaxon import PolyaxonSandbox, job
from tests.support.trouble import connection, fails_at_once, fails_for_now

PIPELINE = """
from kfp import dsl


@dsl.component(packages_to_install=[], install_kfp_package=False)
def measure(rounds: int):
    print(f"measuring {rounds} rounds")
    if rounds > 3:
        raise ValueError("the validation set is empty")


def helper(rounds: int):
    return rounds


@dsl.pipeline(name="measure")
def pipeline(rounds: int = 1):
    measure(rounds=rounds)
"""
BAD_ARGUMENT = PIPELINE.replace("measure(rounds=rounds)", "measure(rounds=rounds, depth=3)")


@pytest.fixture(scope="module")
def kfp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KFPSandbox]:
    sandbox = KFPSandbox(tmp_path_factory.mktemp("kfp"))
    sandbox.start()
    try:
        yield sandbox
    finally:
        sandbox.stop()


@pytest.fixture
def run() -> Run:
    """A run whose task nobody else has on the shared servers."""
    return Run(task_id=f"default.task-{uuid.uuid4().hex[:8]}")


@pytest.fixture
def polyaxon(polyaxon_sandbox: PolyaxonSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PolyaxonSandbox:
    monkeypatch.setenv("AIRFLOW_CONN_POLYAXON_DEFAULT", connection("polyaxon", polyaxon_sandbox.url))
    return polyaxon_sandbox


@pytest.fixture
def pipeline(kfp: KFPSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIRFLOW_CONN_KFP_DEFAULT", connection("kfp", kfp.url))
    path = tmp_path / "pipeline.py"
    path.write_text(PIPELINE)
    return path


def train(file: Path, **changes: Any) -> PolyaxonRunOperator:
    given: dict[str, Any] = {"task_id": "polyaxon", "project": "lab", "polyaxonfile": str(file), "deferrable": False}
    return PolyaxonRunOperator(**{**given, "poll_interval": 0.5, **changes})


def evaluate(pipeline: Path, function: str = "pipeline", **changes: Any) -> KFPRunOperator:
    given: dict[str, Any] = {"task_id": "kfp", "pipeline": f"{pipeline}:{function}", "experiment": "trouble"}
    return KFPRunOperator(**{**given, "deferrable": False, "poll_interval": 0.5, **changes})


def polyaxonfile(folder: Path, component: dict[str, Any] | str) -> Path:
    path = folder / "polyaxonfile.yaml"
    path.write_text(component if isinstance(component, str) else yaml.safe_dump(component))
    return path


def runs_of(sandbox: PolyaxonSandbox, run: Run) -> list[str]:
    """Statuses of the task's runs on the server, oldest first."""
    path = "/api/v1/default/lab/runs"
    listed = sandbox.http.get(path, params={"sort": "created_at", "limit": "100"}).raise_for_status().json()["results"]
    mine = [each for each in listed if run.task_id.replace(".", "-") in each["name"]]
    return [each["status"] for each in mine]


GOOD = job("sh", "-c", "echo trained")


@pytest.mark.parametrize(
    ("component", "sentence", "left"),
    [
        ("kind: component\nversion: 1.1\nrun: {kind: job\n", "polyaxonfile.yaml:4:1", []),
        ({**GOOD, "kind": "componnent"}, "`kind` is 'componnent'", []),
        ({**GOOD, "ruun": 1}, "ruun", []),
        ({**GOOD, "run": {"kind": "job", "containr": {}}}, "containr", []),
        (job("true", run={"connections": ["my-s3"]}), "my-s3", ["failed"]),
    ],
)
def test_a_polyaxonfile_that_is_refused(
    component: Any, sentence: str, left: list[str], polyaxon: PolyaxonSandbox, run: Run, tmp_path: Path
) -> None:
    file = polyaxonfile(tmp_path, component)
    told = fails_at_once(train(file), run)
    assert sentence in told
    assert f"Correct {file}" in told
    assert runs_of(polyaxon, run) == left
    polyaxonfile(tmp_path, GOOD)
    assert train(file).execute(run.cleared().context())["status"] == "succeeded"
    assert runs_of(polyaxon, run) == [*left, "succeeded"]


def test_training_that_fails_on_polyaxon(polyaxon: PolyaxonSandbox, run: Run, tmp_path: Path) -> None:
    file = polyaxonfile(tmp_path, job("sh", "-c", "echo reading; echo 'no rows for 2026-11-10' >&2; exit 3"))
    told = fails_for_now(train(file), run)
    head, _, tail = told.partition("\nlast lines of its log:\n")
    assert "3" in head
    assert f"see {polyaxon.url}/ui/default/lab/runs/" in head
    assert "clear the task" in head
    assert "  reading" in tail.splitlines()
    assert "  no rows for 2026-11-10" in tail.splitlines()
    polyaxonfile(tmp_path, GOOD)
    assert train(file).execute(run.context())["status"] == "succeeded"  # Airflow's own retry
    assert runs_of(polyaxon, run) == ["failed", "succeeded"]


@pytest.mark.parametrize(
    ("source", "function", "sentence"),
    [
        (PIPELINE + "\ndef f(:\n", "pipeline", "pipeline.py:20: SyntaxError"),
        (PIPELINE + "\nimport no_such_package\n", "pipeline", "pipeline.py:20: ModuleNotFoundError"),
        (BAD_ARGUMENT, "pipeline", "pipeline.py:18: TypeError"),
        (PIPELINE, "helper", "helper"),
        (PIPELINE, "pipelin", "has no 'pipelin'; its pipelines: pipeline"),
    ],
)
def test_a_pipeline_that_does_not_compile(
    source: str, function: str, sentence: str, kfp: KFPSandbox, pipeline: Path, run: Run
) -> None:
    pipeline.write_text(source)
    told = fails_at_once(evaluate(pipeline, function), run)
    assert sentence in told
    assert f"Correct {pipeline}" in told
    assert run.store == {}, "nothing was begun"
    pipeline.write_text(PIPELINE)
    assert evaluate(pipeline).execute(run.cleared().context())["status"] == "SUCCEEDED"


def test_a_component_that_fails(kfp: KFPSandbox, pipeline: Path, run: Run) -> None:
    told = fails_for_now(evaluate(pipeline, params={"rounds": 4}), run)
    assert "measure" in told
    assert f"see {kfp.url}/" in told
    assert "ValueError: the validation set is empty" in told
    assert "clear the task" in told
    assert evaluate(pipeline, params={"rounds": 2}).execute(run.context())["status"] == "SUCCEEDED"


def test_missing_connections(
    polyaxon: PolyaxonSandbox, pipeline: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = polyaxonfile(tmp_path, GOOD)
    for name, task in (("POLYAXON", train(file)), ("KFP", evaluate(pipeline))):
        with monkeypatch.context() as without:
            without.delenv(f"AIRFLOW_CONN_{name}_DEFAULT")
            told = fails_at_once(task, run)
            assert f"the Airflow connection '{name.lower()}_default'" in told
            assert f"set AIRFLOW_CONN_{name}_DEFAULT=" in told
        assert run.store == {}, "nothing was begun"
    assert train(file).execute(run.context())["status"] == "succeeded"
