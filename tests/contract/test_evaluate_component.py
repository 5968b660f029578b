"""The evaluate component in the sandbox's KFP server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import component_pipelines as pipelines
from tests.support.kfp import CLIENT_WARNING, KFPSandbox

pytestmark = pytest.mark.filterwarnings(CLIENT_WARNING)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KFPSandbox]:
    sandbox = KFPSandbox(tmp_path_factory.mktemp("kfp"))
    sandbox.start()
    yield sandbox
    sandbox.stop()


def judged(sandbox: KFPSandbox, **arguments: Any) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    run = sandbox.run(pipelines.judged, **arguments)
    return run, sandbox.tasks(run["run_id"])


def test_a_good_model_goes_on(sandbox: KFPSandbox) -> None:
    run, tasks = judged(sandbox, mae=4.5, bounds={"mae": {"max": 5}, "rmse": {"min": 1, "max": 2}})
    assert run["state"] == "SUCCEEDED", sandbox.log(run, "evaluate")
    said = tasks["evaluate"]["outputs"]
    assert said["parameters"]["passed"] is True
    assert said["parameters"]["results"]["mae"] == {
        "value": 4.5, "bound": "at most 5", "passed": True, "reason": "mae is 4.5, asked for: at most 5",
    }  # fmt: skip
    assert said["artifacts"]["checked"][0]["metadata"] == {"mae": 4.5, "rmse": 2.0}
    assert tasks["evaluate-2"]["outputs"]["parameters"]["passed"] is True  # from the artifact's file
    assert "released" in str(tasks["condition-1/tell"]["outputs"])
    assert "passed: rmse is 2, asked for: at least 1 and at most 2" in sandbox.log(run, "evaluate")


def test_a_bad_model_does_not(sandbox: KFPSandbox) -> None:
    run, tasks = judged(sandbox, mae=5.5, bounds={"mae": {"max": 5}, "auc": {"min": 0.8}})
    assert run["state"] == "SUCCEEDED"
    assert tasks["condition-1"]["state"] == "SKIPPED"
    said = tasks["evaluate"]["outputs"]["parameters"]
    assert said["passed"] is False
    assert said["results"]["auc"]["reason"] == "there is no metric auc; there are: mae, rmse"


def test_a_bad_model_may_fail_the_run(sandbox: KFPSandbox) -> None:
    run, tasks = judged(sandbox, mae=5.5, bounds={"mae": {"max": 5}}, fail=True)
    assert run["state"] == "FAILED"
    assert tasks["evaluate"]["error"].endswith("the model is not good enough: see above")
    assert "NOT passed: mae is 5.5, asked for: at most 5" in sandbox.log(run, "evaluate")
