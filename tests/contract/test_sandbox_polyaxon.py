"""What the sandbox's Polyaxon does with runs, asked through the real server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.polyaxon import PolyaxonSandbox, job
from tests.support.processes import REPOSITORY, wait_for

TRACKING = (REPOSITORY / "include" / "components" / "polyaxon_tracking.py").read_text()


def types(conditions: list[dict[str, Any]]) -> list[str]:
    return [condition["type"] for condition in conditions]


def test_a_job_succeeds_with_outputs_metrics_and_log(polyaxon_sandbox: PolyaxonSandbox) -> None:
    program = """
import tracking
for step in range(3):
    tracking.log_metrics(step, loss=1 / (step + 1))
tracking.log_outputs(mae=0.25, rows=7, label="ok")
print(1)
print("grüße")
"""
    uuid = polyaxon_sandbox.submit(job("python", "train.py", files={"train.py": program, "tracking.py": TRACKING}))
    run = polyaxon_sandbox.wait(uuid)
    assert run["status"] == "succeeded"
    assert run["outputs"] == {"mae": 0.25, "rows": 7, "label": "ok", "loss": pytest.approx(1 / 3)}
    assert run["started_at"] < run["finished_at"]
    assert polyaxon_sandbox.log(uuid) == ["1", "grüße"]
    assert types(polyaxon_sandbox.conditions(uuid)) == [
        "created", "compiled", "queued", "scheduled", "starting", "running", "succeeded"
    ]  # fmt: skip
    metrics = polyaxon_sandbox.http.get(
        f"/streams/v1/polyaxon/default/lab/runs/{uuid}/events/metric", params={"names": "loss", "orient": "dict"}
    ).json()
    assert metrics["data"][0]["data"]["step"] == [0, 1, 2]
    assert metrics["data"][0]["data"]["metric"] == pytest.approx([1, 0.5, 1 / 3])


def test_the_official_sdk_finds_its_run(polyaxon_sandbox: PolyaxonSandbox) -> None:
    program = """
from polyaxon import tracking
tracking.init()
tracking.log_metrics(loss=0.5, step=1)
tracking.log_outputs(accuracy=0.9)
"""
    python = str(REPOSITORY / ".venv" / "bin" / "python")  # has the SDK
    uuid = polyaxon_sandbox.submit(job(python, "train.py", files={"train.py": program}))
    run = polyaxon_sandbox.wait(uuid)
    assert run["status"] == "succeeded", polyaxon_sandbox.log(uuid)
    assert run["outputs"]["accuracy"] == 0.9


def test_an_init_file_is_a_template_that_cannot_be_escaped(polyaxon_sandbox: PolyaxonSandbox) -> None:
    """Why code with double curly braces must not travel as it is: Polyaxon renders until nothing changes any more."""
    for text in ("{{ '{{' }} 1", "{% raw %}{{ }}{% endraw %}"):
        uuid = polyaxon_sandbox.submit(job("true", files={"train.py": text}))
        assert polyaxon_sandbox.wait(uuid)["status"] == "failed"
        last = polyaxon_sandbox.conditions(uuid)[-1]
        assert (last["reason"], "template" in last["message"]) == ("SchedulerPrepare", True)


def test_the_pages_of_the_ui_are_served(polyaxon_sandbox: PolyaxonSandbox) -> None:
    page = polyaxon_sandbox.http.get("/ui/", follow_redirects=True)
    assert page.status_code == 200
    assert "unpkg.com" not in page.text


def test_a_failing_job_is_tried_again_and_tells_its_exit_code(polyaxon_sandbox: PolyaxonSandbox) -> None:
    content = job("sh", "-c", "echo trying; echo no luck >&2; exit 3", termination={"maxRetries": 2})
    uuid = polyaxon_sandbox.submit(content)
    assert polyaxon_sandbox.wait(uuid)["status"] == "failed"
    conditions = polyaxon_sandbox.conditions(uuid)
    assert types(conditions)[4:] == ["starting", "running", "retrying", "running", "retrying", "running", "failed"]
    assert conditions[-1]["reason"] == "ExitCode"
    assert conditions[-1]["meta_info"] == {"attempt": 3, "exit_code": 3}
    assert "exit code 3 (attempt 3 of 3)" in conditions[-1]["message"]
    assert "no luck" in conditions[-1]["message"]
    assert polyaxon_sandbox.log(uuid) == ["trying", "no luck"] * 3


def test_a_second_attempt_may_succeed(polyaxon_sandbox: PolyaxonSandbox) -> None:
    script = "test -e here && exit 0; touch here; exit 1"
    uuid = polyaxon_sandbox.submit(job("sh", "-c", script, termination={"maxRetries": 1}))
    assert polyaxon_sandbox.wait(uuid)["status"] == "succeeded"


def test_a_timeout_ends_even_a_command_that_ignores_sigterm(polyaxon_sandbox: PolyaxonSandbox) -> None:
    content = job("sh", "-c", "trap '' TERM; echo on; while :; do sleep 0.1; done", termination={"timeout": 2})
    uuid = polyaxon_sandbox.submit(content)
    assert polyaxon_sandbox.wait(uuid)["status"] == "failed"
    last = polyaxon_sandbox.conditions(uuid)[-1]
    assert (last["reason"], last["meta_info"]["exit_code"]) == ("Timeout", 137)
    assert "2 s" in last["message"]


def test_a_command_that_does_not_exist_fails_with_its_name(polyaxon_sandbox: PolyaxonSandbox) -> None:
    uuid = polyaxon_sandbox.submit(job("no-such-command", termination={"maxRetries": 3}))
    assert polyaxon_sandbox.wait(uuid)["status"] == "failed"
    last = polyaxon_sandbox.conditions(uuid)[-1]
    assert last["reason"] == "StartError"
    assert "no-such-command" in last["message"]


def test_the_log_is_readable_while_the_run_goes_on_and_stop_ends_all_its_processes(
    polyaxon_sandbox: PolyaxonSandbox, tmp_path: Path
) -> None:
    # A background process in a session of its own, which a signal to the process group does not reach.
    script = (
        f"echo working; setsid sleep 300 & echo $! > {tmp_path}/pid; trap 'echo bye; exit 0' TERM; sleep 300 & wait"
    )
    uuid = polyaxon_sandbox.submit(job("sh", "-c", script))
    wait_for(lambda: polyaxon_sandbox.log(uuid) == ["working"], "the live log")
    polyaxon_sandbox.wait(uuid, "running")
    polyaxon_sandbox.stop(uuid)
    assert polyaxon_sandbox.wait(uuid)["status"] == "stopped"
    assert types(polyaxon_sandbox.conditions(uuid))[-2:] == ["stopping", "stopped"]
    assert polyaxon_sandbox.log(uuid) == ["working", "bye"]
    pid = int((tmp_path / "pid").read_text())
    wait_for(lambda: not Path(f"/proc/{pid}/fd").exists() or not list(Path(f"/proc/{pid}/fd").iterdir()), "its end")


def test_init_files_working_directory_and_environment(polyaxon_sandbox: PolyaxonSandbox) -> None:
    program = """
import os, shutil, sys
import helper
print(helper.NAME, sys.argv[1:], os.environ["COLOUR"], os.environ["COUNT"], os.environ["BOTH"])
print(os.path.basename(os.getcwd()), os.access("tool.sh", os.X_OK))
print(os.environ["POLYAXON_RUN_INSTANCE"].startswith("default.lab.runs."), os.environ["POLYAXON_HOST"])
with open("{{ globals.run_outputs_path }}/model.txt", "w") as file:
    file.write("weights")
"""
    init = [
        {"file": {"filename": "train.py", "content": program}, "path": "{{ globals.artifacts_path }}/code"},
        {
            "file": {"filename": "helper.py", "content": "NAME = 'helper'\n"},
            "path": "{{ globals.artifacts_path }}/code",
        },
        {
            "file": {"filename": "tool.sh", "content": "#!/bin/sh\n", "chmod": "+x"},
            "path": "/plx-context/artifacts/code",
        },
    ]
    env = [
        {"name": "COLOUR", "value": "blue"},
        {"name": "COUNT", "value": "1"},
        {"name": "BOTH", "value": "$(COLOUR)-$(COUNT)"},
    ]
    container = {"args": ["--depth", "{{ depth }}", "$(COLOUR)"], "env": env}
    container["workingDir"] = "{{ globals.artifacts_path }}/code"
    content = job(
        "python",
        "train.py",
        container=container,
        run={"init": init},
        inputs=[{"name": "depth", "type": "int", "value": 4}],
    )
    uuid = polyaxon_sandbox.submit(content)
    assert polyaxon_sandbox.wait(uuid)["status"] == "succeeded", polyaxon_sandbox.log(uuid)
    assert polyaxon_sandbox.log(uuid) == [
        "helper ['--depth', '4', 'blue'] blue 1 blue-1",
        "code True",
        f"True {polyaxon_sandbox.url}",
    ]
    tree = polyaxon_sandbox.http.get(
        f"/streams/v1/polyaxon/default/lab/runs/{uuid}/artifacts/tree", params={"path": "outputs"}
    ).json()
    assert {"model.txt", "train.py", "helper.py", "tool.sh"} <= set(tree["files"])


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ({"volumes": [{"name": "data", "emptyDir": {}}]}, "`volumes`"),
        ({"init": [{"git": {"url": "https://example.org/x.git", "revision": "main"}}]}, "`git`"),
        ({"sidecars": [{"name": "helper", "command": ["true"]}]}, "`sidecars`"),
        ({"container": {"name": "main", "args": ["only"]}}, "no `command`"),
        ({"init": [{"file": {"filename": "x", "content": "y"}, "path": "/usr/local"}]}, "/usr/local/x"),
    ],
)
def test_what_needs_kubernetes_fails_with_one_sentence(
    polyaxon_sandbox: PolyaxonSandbox, run: dict[str, Any], words: str
) -> None:
    uuid = polyaxon_sandbox.submit(job("true", run=run))
    assert polyaxon_sandbox.wait(uuid)["status"] == "failed"
    last = polyaxon_sandbox.conditions(uuid)[-1]
    assert last["reason"] == "Unsupported"
    assert words in last["message"]


def test_a_run_that_is_deleted_is_ended(polyaxon_sandbox: PolyaxonSandbox, tmp_path: Path) -> None:
    uuid = polyaxon_sandbox.submit(job("sh", "-c", f"trap 'touch {tmp_path}/ended; exit' TERM; sleep 300 & wait"))
    polyaxon_sandbox.wait(uuid, "running")
    polyaxon_sandbox.http.delete(f"/api/v1/default/lab/runs/{uuid}").raise_for_status()
    wait_for((tmp_path / "ended").exists, "the end of the deleted run")


def tuning(matrix: dict[str, Any], inputs: list[str], program: str) -> dict[str, Any]:
    args = [f"{{{{ {name} }}}}" for name in inputs]
    component = job("python", "train.py", *args, files={"train.py": program, "tracking.py": TRACKING})
    component["inputs"] = [{"name": name, "type": "float"} for name in inputs]
    return {"version": 1.1, "kind": "operation", "matrix": matrix, "component": component}


PROGRAM = """
import sys, tracking
tracking.log_outputs(mae=sum(float(value) for value in sys.argv[1:]))
"""


def choice(*values: float) -> dict[str, Any]:
    return {"kind": "choice", "value": list(values)}


def test_a_grid_runs_its_children_two_at_a_time(polyaxon_sandbox: PolyaxonSandbox) -> None:
    matrix = {"kind": "grid", "concurrency": 2, "params": {"a": choice(1, 2), "b": choice(10, 20)}}
    uuid = polyaxon_sandbox.submit(tuning(matrix, ["a", "b"], PROGRAM))
    assert polyaxon_sandbox.wait(uuid)["status"] == "succeeded"
    children = polyaxon_sandbox.children(uuid, sort="metrics.mae")
    assert [child["outputs"]["mae"] for child in children] == [11, 12, 21, 22]
    assert children[0]["inputs"] == {"a": 1, "b": 10}
    assert {child["status"] for child in children} == {"succeeded"}
    spans = [(child["started_at"], child["finished_at"]) for child in children]
    assert max(sum(start <= moment < end for start, end in spans) for moment, _ in spans) <= 2


def test_a_random_search_runs(polyaxon_sandbox: PolyaxonSandbox) -> None:
    params = {"a": {"kind": "uniform", "value": {"low": 0, "high": 1}}}
    matrix = {"kind": "random", "numRuns": 3, "concurrency": 3, "seed": 1, "params": params}
    uuid = polyaxon_sandbox.submit(tuning(matrix, ["a"], PROGRAM))
    assert polyaxon_sandbox.wait(uuid)["status"] == "succeeded"
    children = polyaxon_sandbox.children(uuid, sort="-metrics.mae")
    assert len(children) == 3
    values = [child["outputs"]["mae"] for child in children]
    assert values == sorted(values, reverse=True)


def test_early_stopping_stops_the_rest_of_a_grid(polyaxon_sandbox: PolyaxonSandbox) -> None:
    stopping = {"kind": "metric_early_stopping", "metric": "mae", "value": 1, "optimization": "minimize"}
    matrix = {"kind": "grid", "concurrency": 1, "params": {"a": choice(1, 2, 3)}, "earlyStopping": [stopping]}
    uuid = polyaxon_sandbox.submit(tuning(matrix, ["a"], PROGRAM))
    # Not a failure: this is how Polyaxon ends a tuning that has found what it wanted.
    assert polyaxon_sandbox.wait(uuid)["status"] == "stopped"
    assert any("early stopping" in condition["message"] for condition in polyaxon_sandbox.conditions(uuid))
    statuses = sorted(child["status"] for child in polyaxon_sandbox.children(uuid))
    assert statuses == ["stopped", "stopped", "succeeded"]


@pytest.mark.parametrize("kind", ["bayes", "hyperband"])
def test_bayes_and_hyperband_fail_in_the_community_edition_itself(polyaxon_sandbox: PolyaxonSandbox, kind: str) -> None:
    metric = {"name": "mae", "optimization": "minimize"}
    params = {"a": {"kind": "uniform", "value": {"low": 0, "high": 1}}}
    more: dict[str, Any] = {
        "bayes": {
            "numInitialRuns": 1,
            "maxIterations": 1,
            "utilityFunction": {"acquisitionFunction": "ei", "eps": 1.2},
        },
        "hyperband": {"maxIterations": 2, "eta": 2, "resource": {"name": "a", "type": "int"}},
    }[kind]
    uuid = polyaxon_sandbox.submit(tuning({"kind": kind, "metric": metric, "params": params, **more}, ["a"], PROGRAM))
    assert polyaxon_sandbox.wait(uuid)["status"] == "failed"
    last = polyaxon_sandbox.conditions(uuid)[-1]
    assert "tuner" in f"{last['reason']} {last['message']}".lower()
