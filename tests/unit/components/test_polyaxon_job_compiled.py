"""Both forms of the Polyaxon component, compiled by the official SDK; no secret, no difference in their interface."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import compiler

from include.components.polyaxon_job import container, lightweight
from tests.support import component_pipelines as pipelines

NAMES = ("clone_repository", "polyaxon_job")


def compiled(pipeline: Any, folder: Path) -> list[dict[str, Any]]:
    """The pipeline and its platform settings."""
    package = folder / "package.yaml"
    compiler.Compiler().compile(pipeline, str(package))
    return list(yaml.safe_load_all(package.read_text()))


@pytest.mark.parametrize("pipeline", [pipelines.lightweight_job, pipelines.container_job], ids=lambda each: each.name)
def test_secrets_are_named_and_caching_is_off(pipeline: Any, tmp_path: Path) -> None:
    ir, platform = compiled(pipeline, tmp_path)
    tasks = ir["root"]["dag"]["tasks"]
    for task, secret, key, variable in (("clone-repository", "git-reader", "password", "GIT_TOKEN"),
                                        ("polyaxon-job", "polyaxon", "token", "POLYAXON_AUTH_TOKEN")):  # fmt: skip
        assert tasks[task]["cachingOptions"] == {}
        assert tasks[task]["retryPolicy"]["maxRetryCount"] >= 1
        label = ir["components"][tasks[task]["componentRef"]["name"]]["executorLabel"]
        (found,) = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"][label]["secretAsEnv"]
        assert found["secretName"] == secret
        assert found["keyToEnv"] == [{"envVar": variable, "secretKey": key}]
        # Neither has the other one's.
        assert "env" not in ir["deploymentSpec"]["executors"][label]["container"]
    constants = tasks["polyaxon-job"]["inputs"]["parameters"]
    assert {name: constants[name]["runtimeValue"]["constant"] for name in ("run_id", "task", "iteration")} == {
        "run_id": "{{$.pipeline_job_uuid}}", "task": "{{$.pipeline_task_name}}",
        "iteration": "{{$.pipeline_task_uuid}}",
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_both_forms_have_the_same_interface(name: str) -> None:
    forms = [getattr(form, name).component_spec for form in (container, lightweight)]
    assert forms[0].inputs == forms[1].inputs
    assert forms[0].outputs == forms[1].outputs


@pytest.mark.parametrize("name", NAMES)
def test_every_input_and_output_is_described(name: str) -> None:
    spec = getattr(container, name).component_spec
    described = getattr(container, name).pipeline_func.__doc__
    assert described
    for key in (*spec.inputs, *spec.outputs):
        assert f"\n        {key}: " in described


def test_no_command_word_can_hold_a_secret(tmp_path: Path) -> None:
    """Values of variables would be in the compiled file; there is none, in either form."""
    for pipeline in (pipelines.lightweight_job, pipelines.container_job):
        ir, _ = compiled(pipeline, tmp_path)
        for executor in ir["deploymentSpec"]["executors"].values():
            assert "env" not in executor["container"]
            assert not any("--token" in word or "--password" in word for word in executor["container"].get("args", []))


def test_compiling_is_repeatable(tmp_path: Path) -> None:
    assert compiled(pipelines.container_job, tmp_path) == compiled(pipelines.container_job, tmp_path)


def test_a_loop_needs_nothing_more(tmp_path: Path) -> None:
    ir, _ = compiled(pipelines.job_per_segment, tmp_path)
    (loop,) = [each for name, each in ir["components"].items() if name.startswith("comp-for-loop")]
    number = loop["dag"]["tasks"]["polyaxon-job"]["inputs"]["parameters"]["iteration"]
    assert number == {"runtimeValue": {"constant": "{{$.pipeline_task_uuid}}"}}
