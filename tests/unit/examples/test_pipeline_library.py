"""include/pipelines/_lib: modules that travel in a compiled pipeline, and what a component hands on."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import compiler
from kfp.dsl import Artifact, Metrics, Model

from include.pipelines._lib import IMAGE, component, handover
from mlfleet.fleet.python_facts import facts_of
from tests.support import library_pipelines as pipelines
from tests.support.processes import REPOSITORY, SERVICES_PYTHON


def compiled(folder: Path) -> dict[str, Any]:
    package = folder / "package.yaml"
    compiler.Compiler().compile(pipelines.carried, str(package))
    return dict(yaml.safe_load(package.read_text()))


def container(folder: Path) -> dict[str, Any]:
    return dict(compiled(folder)["deploymentSpec"]["executors"]["exec-use"]["container"])


def executed(folder: Path, fails: bool) -> subprocess.CompletedProcess[str]:
    """The compiled component as a launcher starts it, where nothing of this repository is at hand."""
    folder.mkdir(exist_ok=True)
    outputs = {"parameters": {"Output": {"outputFile": str(folder / "output")}}, "outputFile": str(folder / "said")}
    given = {"inputs": {"parameterValues": {"fails": fails}}, "outputs": outputs}
    words = container(folder)
    args = [json.dumps(given) if word == "{{$}}" else word for word in words["args"]]
    environment = {"PATH": f"{SERVICES_PYTHON.parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run([*words["command"], *args], cwd=folder, env=environment, capture_output=True, text=True,
                          timeout=60, check=False)  # fmt: skip


def test_a_component_imports_what_travels_with_it(tmp_path: Path) -> None:
    ran = executed(tmp_path, fails=False)
    assert ran.returncode == 0, ran.stderr
    assert json.loads((tmp_path / "said").read_text())["parameterValues"] == {"Output": "12 'quoted' {\"x\": 1}\\n"}


def test_a_traceback_shows_the_lines_of_a_module_that_travels(tmp_path: Path) -> None:
    ran = executed(tmp_path, fails=True)
    assert ran.returncode != 0
    assert re.search(r'File ".*/second\.py", line 5, in fail', ran.stderr)
    assert 'raise RuntimeError("the ice is thin")' in ran.stderr


def test_nothing_is_installed_and_compiling_is_repeatable(tmp_path: Path) -> None:
    assert container(tmp_path)["image"] == IMAGE
    assert "pip install" not in str(container(tmp_path))
    before = compiled(tmp_path)
    os.utime(REPOSITORY / "include" / "pipelines" / "_lib" / "handover.py")
    assert compiled(tmp_path) == before


@pytest.mark.parametrize(
    ("modules", "sentence"),
    [
        ({"no-name": ""}, "a module can't be called 'no-name'"),
        ({"class": ""}, "a module can't be called 'class'"),
        ({"x": "def ("}, "the module x is no Python: "),
        ({"x": "\0"}, "the module x is no Python: "),
        ({"x": "y = '{{$.inputs}}'"}, "the module x holds '{{$', which KFP would take for a placeholder"),
    ],
)
def test_what_can_not_travel_is_one_sentence(modules: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValueError, match="module") as caught:
        component(modules=modules)(pipelines.plain)
    assert str(caught.value).startswith(sentence)


def test_a_component_without_modules() -> None:
    assert component(pipelines.plain).component_spec == component()(pipelines.plain).component_spec


def test_what_the_library_reads_can_be_told_from_its_text() -> None:
    """Otherwise every pipeline that uses it would count as changed with each file below include."""
    file = "include/pipelines/_lib/__init__.py"
    assert facts_of((REPOSITORY / file).read_bytes(), file).unknown == ""


def artifacts(folder: Path) -> tuple[Any, Any, Any]:
    return (
        Metrics(name="metrics", uri=str(folder / "metrics")),
        Artifact(name="mlfleet_outputs", uri=str(folder / "mlfleet_outputs")),
        Model(name="model", uri=str(folder / "model")),
    )


def test_metrics_are_shown_and_handed_on(tmp_path: Path) -> None:
    shown, outputs, _ = artifacts(tmp_path)
    handover.metrics({"mae": 1.5, "rows": 3, "data_end": "2026-01-01", "ok": True}, shown, outputs)
    assert shown.metadata == {"mae": 1.5, "rows": 3}
    assert json.loads(Path(outputs.path).read_text()) == {"mae": 1.5, "rows": 3, "data_end": "2026-01-01", "ok": True}


def test_a_model_is_laid_out_for_the_server(tmp_path: Path) -> None:
    joblib = pytest.importorskip("joblib")
    *_, model = artifacts(tmp_path)
    handover.model(model, {"b": 1, "a": 2}, fitted=[1, 2])
    assert joblib.load(Path(model.path) / "model.joblib") == [1, 2]
    assert (Path(model.path) / "model.json").read_text() == '{"a": 2, "b": 1}'
    copied = Model(name="model", uri=str(tmp_path / "copied"))
    handover.model(copied, {}, file=Path(model.path) / "model.joblib")
    assert joblib.load(Path(copied.path) / "model.joblib") == [1, 2]
    for wrong in ({}, {"fitted": 1, "file": "x"}):
        with pytest.raises(TypeError, match="either"):
            handover.model(copied, {}, **wrong)
