"""The commit that a task trains: pinned into the clone, labelled on the run, kept for reruns."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlfleet.errors import ConfigError
from mlfleet.operators.polyaxon import PolyaxonRunOperator
from tests.support.delivery import Run

OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture
def polyaxonfile(tmp_path: Path) -> str:
    path = tmp_path / "polyaxonfile.yaml"
    path.write_text("{kind: component, version: 1.1, run: {kind: job, container: {command: [x]}}}")
    return str(path)


def spec_of(polyaxonfile: str, run: Run, commit: str, version: str | None = None, **code: Any) -> dict[str, Any]:
    """What a task sends whose DAG was built from `commit`, of a bundle with this version."""
    task = PolyaxonRunOperator(
        task_id="polyaxon",
        project="churn",
        polyaxonfile=polyaxonfile,
        settings={"code": {"connection": "fleet", "folder": "fleet", **code}, "image": "train:${git.commit}"},
        references={"static": {"git.commit": commit}},
    )
    context = run.context()
    context["ti"].bundle_instance = SimpleNamespace(version=version)
    spec = task.make_spec(task.values(context), context)
    return {**spec, "run": json.loads(spec["content"])["component"]["run"]}


def revision(spec: dict[str, Any]) -> str:
    return str(spec["run"]["init"][0]["git"]["revision"])


def test_the_commit_is_cloned_and_labelled(polyaxonfile: str) -> None:
    spec = spec_of(polyaxonfile, Run(), OLD, version=OLD)
    assert revision(spec) == OLD
    assert spec["labels"] == {"commit": OLD}
    assert spec["run"]["container"]["image"] == f"train:{OLD}"


def test_without_bundle_versions_a_rerun_trains_what_the_first_try_did(polyaxonfile: str) -> None:
    run = Run()
    first = spec_of(polyaxonfile, run, OLD)
    again = spec_of(polyaxonfile, run.cleared(), NEW)
    assert again == first
    run.store.delete("mlfleet_commit")
    assert revision(spec_of(polyaxonfile, run, NEW)) == NEW


def test_with_bundle_versions_airflow_decides(polyaxonfile: str) -> None:
    """A clear keeps the version of the run, and so its commit, unless it was asked to take the latest."""
    run = Run()
    assert revision(spec_of(polyaxonfile, run, OLD, version=OLD)) == OLD
    assert revision(spec_of(polyaxonfile, run.cleared(), NEW, version=NEW)) == NEW
    assert "mlfleet_commit" not in run.store


def test_a_revision_of_the_manifest_is_taken_as_it_is(polyaxonfile: str) -> None:
    """The run is labelled with the commit of the files that travel with it, which is the present one."""
    run = Run()
    spec = spec_of(polyaxonfile, run, OLD, revision="v1.4")
    assert (revision(spec), spec["labels"]) == ("v1.4", {"commit": OLD})
    assert spec_of(polyaxonfile, run, NEW, revision="v1.4")["labels"] == {"commit": NEW}
    assert "mlfleet_commit" not in run.store


def test_a_commit_that_nobody_knows_cannot_be_pinned(polyaxonfile: str) -> None:
    with pytest.raises(ConfigError, match=r"commit of the code is not known"):
        spec_of(polyaxonfile, Run(), "unknown")
    assert "labels" not in spec_of(polyaxonfile, Run(), "unknown", revision="main")
