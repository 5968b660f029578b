"""The agent's own life: killed, restarted, stopped; no run is left hanging and no process behind."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.polyaxon import PolyaxonSandbox, job
from tests.support.processes import REPOSITORY, SERVICES_PYTHON, command_line, free_port, start_service, wait_for


@pytest.fixture
def sandbox(polyaxon_sandbox: PolyaxonSandbox) -> Iterator[PolyaxonSandbox]:
    """The shared server; whatever a test does to the agent, afterwards there is a fresh one."""
    yield polyaxon_sandbox
    polyaxon_sandbox.stop_agent()
    polyaxon_sandbox.start_agent()


def processes_of(uuid: str) -> list[int]:
    """Pids that carry the run in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f".runs.{uuid}".encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def until(gate: Path) -> str:
    return f"echo before; while ! test -e {gate}; do sleep 0.1; done; echo after"


def test_runs_live_through_a_killed_agent(sandbox: PolyaxonSandbox, tmp_path: Path) -> None:
    """One run ends while no agent is there, one after the next agent came; both keep log, retries and end."""
    while_away = sandbox.submit(job("sh", "-c", until(tmp_path / "away") + "; exit 4"))
    later = sandbox.submit(job("sh", "-c", until(tmp_path / "later")))
    for uuid in (while_away, later):
        sandbox.wait(uuid, "running")
        wait_for(lambda uuid=uuid: sandbox.log(uuid) == ["before"], "the first line")
    sandbox.kill_agent()
    (tmp_path / "away").touch()
    wait_for(lambda: not processes_of(while_away), "the end of the first run")
    assert sandbox.run(while_away)["status"] == "running"  # nobody could tell the server
    started = processes_of(later)
    sandbox.start_agent()
    assert sandbox.wait(while_away)["status"] == "failed"
    assert sandbox.conditions(while_away)[-1]["meta_info"]["exit_code"] == 4
    assert set(processes_of(later)) & set(started), "the run was started again instead of adopted"
    (tmp_path / "later").touch()
    assert sandbox.wait(later)["status"] == "succeeded"
    assert sandbox.log(later) == ["before", "after"]


def test_an_adopted_run_can_be_stopped(sandbox: PolyaxonSandbox, tmp_path: Path) -> None:
    uuid = sandbox.submit(job("sh", "-c", until(tmp_path / "never")))
    sandbox.wait(uuid, "running")
    sandbox.kill_agent()
    sandbox.start_agent()
    sandbox.stop(uuid)
    assert sandbox.wait(uuid)["status"] == "stopped"
    assert processes_of(uuid) == []


def test_a_run_that_was_handed_to_nobody_is_picked_up(sandbox: PolyaxonSandbox) -> None:
    """Reading the state makes a run `scheduled`; the answer is lost here as it would be with an agent that dies."""
    sandbox.stop_agent()
    uuid = sandbox.submit(job("echo", "picked up"))
    sandbox.http.get("/api/v1/orgs/default/agents/state").raise_for_status()
    assert sandbox.run(uuid)["status"] == "scheduled"
    sandbox.start_agent()
    assert sandbox.wait(uuid)["status"] == "succeeded"
    assert sandbox.log(uuid) == ["picked up"]


def test_a_run_without_a_record_is_failed_with_a_reason(sandbox: PolyaxonSandbox) -> None:
    sandbox.stop_agent()
    uuid = sandbox.submit(job("echo", "never"))
    sandbox.http.get("/api/v1/orgs/default/agents/state").raise_for_status()
    condition = {"type": "running", "status": "True", "reason": "Other", "message": "another agent's word"}
    answer = sandbox.http.post(f"/api/v1/default/lab/runs/{uuid}/statuses", json={"condition": condition})
    answer.raise_for_status()
    sandbox.start_agent()
    assert sandbox.wait(uuid)["status"] == "failed"
    last = sandbox.conditions(uuid)[-1]
    assert last["reason"] == "AgentLostRun"
    assert "no record" in last["message"]


def test_a_stop_asked_for_while_no_agent_is_there_is_carried_out(sandbox: PolyaxonSandbox) -> None:
    sandbox.stop_agent()
    uuid = sandbox.submit(job("echo", "never"))
    sandbox.http.get("/api/v1/orgs/default/agents/state").raise_for_status()
    sandbox.stop(uuid)
    assert sandbox.run(uuid)["status"] == "stopping"
    sandbox.start_agent()
    assert sandbox.wait(uuid)["status"] == "stopped"


def test_a_killed_runner_fails_its_run_and_leaves_no_process(sandbox: PolyaxonSandbox) -> None:
    uuid = sandbox.submit(job("sh", "-c", "sleep 300 & setsid sleep 300 & wait"))
    sandbox.wait(uuid, "running")
    wait_for(lambda: len(processes_of(uuid)) >= 3, "the run's processes")
    runner = next(
        int(path.name)
        for path in Path("/proc").glob("[0-9]*")
        if "agent.runner" in command_line(int(path.name)) and uuid in command_line(int(path.name))
    )
    subprocess.run(["kill", "-9", str(runner)], check=True)
    assert sandbox.wait(uuid)["status"] == "failed"
    assert sandbox.conditions(uuid)[-1]["reason"] == "RunnerLost"
    assert processes_of(uuid) == []


def test_an_agent_that_is_told_to_end_ends_its_runs(sandbox: PolyaxonSandbox) -> None:
    script = "trap '' TERM; sleep 300 & setsid sleep 300 & wait; sleep 300"
    uuid = sandbox.submit(job("sh", "-c", script))
    sandbox.wait(uuid, "running")
    wait_for(lambda: len(processes_of(uuid)) >= 3, "the run's processes")
    sandbox.stop_agent()  # asserts that nothing is left
    assert processes_of(uuid) == []
    assert sandbox.run(uuid)["status"] == "failed"
    assert sandbox.conditions(uuid)[-1]["reason"] == "AgentShutdown"


def test_an_agent_may_leave_its_runs_to_the_next_one(sandbox: PolyaxonSandbox, tmp_path: Path) -> None:
    sandbox.stop_agent()
    agent = sandbox.start_agent("--keep-runs")
    uuid = sandbox.submit(job("sh", "-c", until(tmp_path / "gate")))
    sandbox.wait(uuid, "running")
    agent.process.terminate()
    agent.process.wait(20)
    assert processes_of(uuid)
    sandbox.agent = None
    sandbox.start_agent()
    (tmp_path / "gate").touch()
    assert sandbox.wait(uuid)["status"] == "succeeded"


def test_a_resumed_run_runs_again_under_its_own_uuid(sandbox: PolyaxonSandbox, tmp_path: Path) -> None:
    uuid = sandbox.submit(job("sh", "-c", f"test -e {tmp_path}/repaired"))
    assert sandbox.wait(uuid)["status"] == "failed"
    (tmp_path / "repaired").touch()
    sandbox.http.post(f"/api/v1/default/lab/runs/{uuid}/resume").raise_for_status()
    wait_for(lambda: sandbox.run(uuid)["status"] == "succeeded", "the resumed run")


def test_a_second_agent_is_refused(sandbox: PolyaxonSandbox) -> None:
    ended = subprocess.run(sandbox.agent_command(), cwd=REPOSITORY, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 2
    assert "another agent" in ended.stderr


def test_a_server_whose_port_is_taken_says_so(sandbox: PolyaxonSandbox, tmp_path: Path) -> None:
    port = sandbox.url.rpartition(":")[2]
    command = [
        str(SERVICES_PYTHON),
        "-m",
        "sandbox.polyaxon.server",
        "--port",
        port,
        "--state",
        str(tmp_path / "state"),
    ]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 2
    assert port in ended.stderr
    assert "--port" in ended.stderr
    assert not (tmp_path / "state").exists()


def test_an_agent_waits_for_a_server_that_is_not_there(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    command = [SERVICES_PYTHON, "-m", "sandbox.polyaxon.agent", "--url", url, "--state", tmp_path / "state"]
    log = tmp_path / "agent.log"
    with start_service(command, log=log):
        wait_for(lambda: log.exists() and "can't be reached" in log.read_text(), "its message")
