"""The two files in dags/ as Airflow's DAG processor and its workers read them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG

from mlfleet.errors import ConfigError
from mlfleet.factory.dags import assemble
from tests.unit.factory.conftest import ROOT
from tests.unit.manifest.samples import FULL, MINIMAL


def bag_of(root: Path) -> DagBag:
    return DagBag(root / "dags", bundle_path=root / "dags", safe_mode=True)


@pytest.fixture
def write(root: Path) -> Callable[[str, str], None]:
    def write_manifest(name: str, text: str) -> None:
        (root / "include" / "projects" / name).write_text(text, encoding="utf-8")

    return write_manifest


def test_all_good_manifests_are_dags(root: Path, write: Callable[[str, str], None]) -> None:
    write("second.yml", MINIMAL.replace("prices", "second"))
    bag = bag_of(root)
    assert bag.import_errors == {}
    assert set(bag.dags) == {"prices", "second"}
    assert {Path(dag.fileloc).name for dag in bag.dags.values()} == {"projects.py"}


def test_broken_manifests_are_named_and_break_nobody(root: Path, write: Callable[[str, str], None]) -> None:
    write("a-broken.yaml", MINIMAL.replace("prices", "a-broken").replace("experiments:", "experimnets:"))
    write("b-broken.yaml", "name: [")
    bag = bag_of(root)
    assert set(bag.dags) == {"prices"}
    assert set(bag.import_errors) == {"broken_projects.py"}
    (message,) = bag.import_errors.values()
    assert "include/projects/a-broken.yaml:5:1: error MF010: unknown key 'experimnets'" in message
    assert "did you mean 'experiments'?" in message
    assert "^^^^^^^^^^^" in message
    assert "include/projects/b-broken.yaml:1:7: error MF002" in message


def test_a_fault_of_the_factory_stays_with_its_project(
    root: Path, write: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlfleet.factory import dags

    def build(plan: dags.Plan) -> DAG:
        if plan.project.name == "second":
            raise RuntimeError("no such luck")
        return real(plan)

    real = dags.build_dag
    monkeypatch.setattr(dags, "build_dag", build)
    write("second.yaml", MINIMAL.replace("prices", "second"))
    assembly = assemble(root)
    assert set(assembly.dags) == {"prices"}
    (problem,) = assembly.problems
    assert (problem.id, problem.file) == ("MF020", "include/projects/second.yaml")
    assert "RuntimeError: no such luck" in str(problem)


def test_a_worker_builds_only_its_own_dag(
    root: Path, write: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    write("second.yaml", MINIMAL.replace("prices", "second"))
    write("broken.yaml", "name: [")
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "second")
    bag = bag_of(root)
    assert set(bag.dags) == {"second"}
    assert bag.import_errors == {}


def test_a_worker_is_told_why_its_dag_is_gone(
    root: Path, write: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    write("prices.yaml", FULL.replace("kind: Project", "kind: Projekt"))
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "prices")
    bag = bag_of(root)
    assert bag.dags == {}
    assert "include/projects/prices.yaml:2:7" in bag.import_errors["projects.py"]


def test_an_unknown_environment_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLEET_ENV", "prd")
    with pytest.raises(ConfigError, match="Did you mean 'prod'"):
        assemble(root)


def test_the_projects_of_this_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    assembly = assemble(ROOT)
    assert assembly.problems == []
    assert {"price-suggestion", "flight-delay"} <= set(assembly.dags)
