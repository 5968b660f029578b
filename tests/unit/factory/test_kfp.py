"""From `training.kfp` to what its task is told."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.factory.conftest import dag_of
from tests.unit.manifest.samples import FULL


def task_of(more: str, experiment: str = "default", own: str = "") -> Any:
    text = FULL.replace("    timeout: 90m\n", f"    timeout: 90m\n{more}")
    if own:
        text = text.replace("    params: {segment: cards}\n", f"    params: {{segment: cards}}\n    {own}\n")
    return dag_of(text).get_task(f"{experiment}.kfp")


def test_without_a_version_the_file_is_compiled_and_the_environment_says_where_artifacts_go() -> None:
    task = task_of("")
    assert (task.version, task.service_account) == (None, None)
    assert task.pipeline_root == "${env.pipeline_root}"


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("{branch: main}", {"pipeline": "prices", "branch": "main"}),
        ("{commit: '${git.commit}', pipeline: shared}", {"pipeline": "shared", "commit": "${git.commit}"}),
    ],
)
def test_a_version_is_looked_for_in_the_pipeline_of_the_project(version: str, expected: dict[str, str]) -> None:
    assert task_of(f"    version: {version}\n").version == expected


def test_who_runs_it_and_where_its_artifacts_go() -> None:
    task = task_of("    service_account: trainer\n    pipeline_root: gs://models/${project.name}\n")
    assert (task.service_account, task.pipeline_root) == ("trainer", "gs://models/${project.name}")


def test_an_experiment_runs_another_version() -> None:
    own = "training: {kfp: {version: {branch: fix-1}, service_account: big}}"
    task = task_of("    version: {branch: main}\n", "trading-cards", own)
    assert (task.version["branch"], task.service_account) == ("fix-1", "big")
    assert task_of("    version: {branch: main}\n", "default", own).version["branch"] == "main"
