"""The sandbox's KFP runs components through kfp.local, in warm children of one fork server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support import kfp_pipelines as pipelines
from tests.support.kfp import CLIENT_WARNING, KFPSandbox, sleeping_processes
from tests.support.processes import REPOSITORY, SERVICES_PYTHON, ProcessId, alive, descendants, identify, wait_for

pytestmark = pytest.mark.filterwarnings(CLIENT_WARNING)
# A server of its own in this process: what is it made of once it has run a component?
IN_PROCESS = """
import json, sys, time
from pathlib import Path

from fastapi.testclient import TestClient

from sandbox.kfp.__main__ import application

runs = "/apis/v2beta1/runs"
with TestClient(application(Path(sys.argv[1]))) as client:
    body = {"display_name": "one", "pipeline_spec": json.loads(sys.argv[2])}
    run = client.post(runs, json=body).json()
    while run["state"] not in ("SUCCEEDED", "FAILED"):
        time.sleep(0.1)
        run = client.get(f"{runs}/{run['run_id']}").json()
print(json.dumps({"state": run["state"], "sdk": [name for name in sys.modules if name.split(".")[0] == "kfp"]}))
"""


@pytest.fixture
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KFPSandbox]:
    sandbox = KFPSandbox(tmp_path_factory.mktemp("kfp"))
    sandbox.start(PYTHONPROFILEIMPORTTIME="1")  # each import is a line on standard error
    try:
        yield sandbox
    finally:
        sandbox.stop()


def traced(sandbox: KFPSandbox) -> list[int]:
    """The processes above a component, up to the server."""
    run = sandbox.run(pipelines.tracing)
    assert run["state"] == "SUCCEEDED"
    assert "kfp.local" not in sandbox.log(run, "trace")
    assert sandbox.service is not None
    found: list[int] = sandbox.tasks(run["run_id"])["trace"]["outputs"]["parameters"]["Output"]
    return found[: found.index(sandbox.service.pid) + 1]


def fork_server(sandbox: KFPSandbox) -> ProcessId:
    """The only child of the server."""
    assert sandbox.service is not None
    (found,) = [each for each in descendants(sandbox.service.pid) if parent(each.pid) == sandbox.service.pid]
    return found


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_each_component_has_a_warm_child_of_one_fork_server(sandbox: KFPSandbox) -> None:
    def imports(module: str) -> int:
        return sum(line.split("|")[-1].strip() == module for line in sandbox.log_file.read_text().splitlines())

    modules = [f"kfp.local.{each}" for each in ("subprocess_task_handler", "placeholder_utils", "executor_input_utils")]
    assert (imports("sandbox.kfp.engine"), [imports(each) for each in modules]) == (1, [0, 0, 0])
    children = []
    for _ in range(2):
        *_, child, above, server = traced(sandbox)
        assert [above, server] == [fork_server(sandbox).pid, sandbox.service.pid if sandbox.service else 0]
        children.append(child)
    assert children[0] != children[1]
    assert [imports(each) for each in modules] == [1, 1, 1]


def test_the_server_itself_never_imports_the_sdk(tmp_path: Path) -> None:
    spec = yaml.safe_load(Path(pipelines.compiled(pipelines.tracing, tmp_path)).read_text())
    state = tmp_path / "state"
    state.mkdir()
    command = [SERVICES_PYTHON, "-c", IN_PROCESS, state, json.dumps(spec)]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == {"state": "SUCCEEDED", "sdk": []}


def test_a_killed_fork_server_fails_what_it_ran_and_the_next_task_starts_another(
    sandbox: KFPSandbox, tmp_path: Path
) -> None:
    run_id = sandbox.start_run(pipelines.sleeping, folder=str(tmp_path))
    sleepers = sleeping_processes(tmp_path)
    killed = fork_server(sandbox)
    family = descendants(killed.pid)
    os.kill(killed.pid, signal.SIGKILL)
    assert sandbox.wait(run_id, timeout=10)["state"] == "FAILED"
    assert sandbox.tasks(run_id)["sleep"]["error"] == (
        f"task sleep was ended: the fork server that ran it, process {killed.pid}, was killed by signal 9;"
        " the next task starts another one"
    )
    assert not any(alive(each) for each in {*sleepers, *family})
    assert fork_server_after(sandbox) != killed


def fork_server_after(sandbox: KFPSandbox) -> ProcessId:
    """The fork server once another component has run."""
    traced(sandbox)
    return fork_server(sandbox)


def test_a_fork_server_that_was_killed_while_idle_is_not_missed(sandbox: KFPSandbox) -> None:
    killed = fork_server_after(sandbox)
    os.kill(killed.pid, signal.SIGKILL)
    assert fork_server_after(sandbox) != killed


def test_a_killed_child_fails_its_task_only(sandbox: KFPSandbox) -> None:
    before = fork_server_after(sandbox)
    run = sandbox.run(pipelines.broken_off)
    assert run["state"] == "FAILED"
    error = sandbox.tasks(run["run_id"])["break-off"]["error"]
    assert error.startswith("task break-off was ended: process ")
    assert error.endswith(", which ran it, was killed")
    assert {each for each in descendants(before.pid) if each != before} == set()
    assert fork_server_after(sandbox) == before


def test_the_fork_server_ends_with_a_server_that_was_killed(sandbox: KFPSandbox) -> None:
    left = fork_server_after(sandbox)
    assert sandbox.service is not None
    sandbox.service.kill()
    wait_for(lambda: not alive(left), "the fork server to end", 10)


def test_a_signal_to_the_whole_process_group_does_not_fail_what_runs(sandbox: KFPSandbox, tmp_path: Path) -> None:
    """The supervisor ends a program in this way; what ran is told by the next start."""
    run_id = sandbox.start_run(pipelines.sleeping, folder=str(tmp_path))
    sleepers = sleeping_processes(tmp_path)
    assert sandbox.service is not None
    server = identify(sandbox.service.pid)
    os.killpg(sandbox.service.pid, signal.SIGTERM)
    wait_for(lambda: server and not alive(server), "the server to end", 20)
    assert not any(alive(each) for each in sleepers)
    sandbox.stop()
    sandbox.start()
    run = sandbox.get(f"runs/{run_id}")
    assert run["error"]["message"] == "The sandbox's KFP server was restarted while this ran."
    assert sandbox.states(run_id) == {"sleep": "FAILED"}


@pytest.mark.parametrize("text", ["python3 stays python3", "{{$}} and {{$.outputs.output_file}}"])
def test_values_and_logs_arrive_as_they_are_and_nobody_waits_for_stragglers(sandbox: KFPSandbox, text: str) -> None:
    run = sandbox.run(pipelines.straggling, text=text)
    assert run["state"] == "SUCCEEDED"
    assert sandbox.tasks(run["run_id"])["straggle"]["outputs"]["parameters"] == {"Output": text}
    (detail,) = run["run_details"]["task_details"]
    pod = detail["child_tasks"][0]["pod_name"]
    log = sandbox.http("GET", f"/apis/v1alpha1/runs/{run['run_id']}/nodes/{pod}/log").content
    assert b"50%\r100% \xff" in log


def test_an_output_that_no_message_can_hold_fails_the_task(sandbox: KFPSandbox) -> None:
    run = sandbox.run(pipelines.unmeasured)
    assert run["state"] == "FAILED"
    error = sandbox.tasks(run["run_id"])["count-to-nothing"]["error"]
    assert error.startswith("task count-to-nothing wrote an output message that can't be read: ")
    assert "NaN" in error
