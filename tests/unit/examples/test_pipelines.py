"""The manifests and what they name: pipelines compiled by the official SDK, parameters, references."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlfleet.systems.kfp_package import PipelinePackage, load_package
from tests.support.processes import REPOSITORY

from .support import folder

PROJECTS = ("price-suggestion", "flight-delay")
TASKS = {"price-suggestion": {"train", "evaluate", "package"}, "flight-delay": {"train-and-evaluate"}}


def manifest(project: str) -> dict[str, Any]:
    return dict(yaml.safe_load((REPOSITORY / "include" / "projects" / f"{project}.yaml").read_text()))


@pytest.fixture(scope="module")
def packages() -> dict[str, PipelinePackage]:
    found = {}
    for project in PROJECTS:
        file, _, name = manifest(project)["training"]["kfp"]["pipeline"].partition(":")
        found[project] = load_package(folder(project) / file, name)
    return found


@pytest.mark.parametrize("project", PROJECTS)
def test_the_manifest_is_valid(project: str) -> None:
    path = f"include/projects/{project}.yaml"
    ran = subprocess.run(
        [Path(sys.executable).with_name("mlfleet"), "validate", path], cwd=REPOSITORY, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("project", PROJECTS)
def test_tasks_parameters_and_outputs(packages: dict[str, PipelinePackage], project: str) -> None:
    package = packages[project]
    assert package.name == project
    assert set(package.ir["root"]["dag"]["tasks"]) == TASKS[project]
    package.check(manifest(project)["training"]["kfp"]["params"])
    artifacts = [
        name
        for component in package.ir["components"].values()
        for name in component.get("outputDefinitions", {}).get("artifacts", {})
    ]
    # What Airflow looks for below the pipeline root: exactly one of each.
    assert artifacts.count("mlfleet_outputs") == 1
    assert artifacts.count("model") == 1


@pytest.mark.parametrize("project", PROJECTS)
def test_a_component_installs_nothing_and_carries_the_features(
    packages: dict[str, PipelinePackage], project: str
) -> None:
    text = str(packages[project].ir)
    assert "pip install" not in text
    assert "def vector(item)" in text


@pytest.mark.parametrize("project", PROJECTS)
def test_polyaxon_gets_inputs_that_its_component_has(project: str) -> None:
    polyaxon = manifest(project)["training"]["polyaxon"]
    component = yaml.safe_load((folder(project) / polyaxon["polyaxonfile"]).read_text())
    inputs = {each["name"]: each.get("isOptional", False) for each in component["inputs"]}
    tuned = polyaxon.get("matrix", {}).get("params", {})
    assert {*polyaxon["params"], *tuned} <= set(inputs)
    assert {name for name, optional in inputs.items() if not optional} <= {*polyaxon["params"], *tuned}
    passed = {name.replace("-", "_") for name in re.findall(r"--([a-z-]+)=", str(component["run"]))}
    assert passed == set(inputs)
    source = (folder(project) / "train.py").read_text()
    assert passed == {name.replace("-", "_") for name in re.findall(r'add_argument\("--([a-z-]+)"', source)}
    for name in polyaxon["files"]:  # Polyaxon takes double curly braces for a template, and there is no escape
        assert "{" + "{" not in (folder(project) / name).read_text()


@pytest.mark.parametrize("project", PROJECTS)
def test_the_metric_that_decides_is_one_that_the_training_gives(project: str) -> None:
    plan = manifest(project)
    assert f"{plan['evaluation']['metric']}=" in (folder(project) / "pipeline.py").read_text()
    best = plan["training"]["polyaxon"].get("best_by")
    if best:
        assert f"{best['metric']}=" in (folder(project) / "train.py").read_text()
    references = re.findall(r"\$\{polyaxon\.best\.inputs\.(\w+)\}", str(plan["training"]["kfp"]))
    assert set(references) == set(plan["training"]["polyaxon"].get("matrix", {}).get("params", {}))
