"""The sandbox's KFP as a process: restarts, what it leaves behind, and its web page."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import kfp_pipelines as pipelines
from tests.support.kfp import CLIENT_WARNING, KFPSandbox, sleeping_processes
from tests.support.processes import REPOSITORY, SERVICES_PYTHON, alive, free_port, wait_for

pytestmark = pytest.mark.filterwarnings(CLIENT_WARNING)


@pytest.fixture
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KFPSandbox]:
    sandbox = KFPSandbox(tmp_path_factory.mktemp("kfp"))
    sandbox.start()
    try:
        yield sandbox
    finally:
        sandbox.stop()


def test_what_it_knows_outlives_a_restart_and_what_ran_has_failed(sandbox: KFPSandbox, tmp_path: Path) -> None:
    done = sandbox.run(pipelines.outer, n=1)
    pipeline = sandbox.client().upload_pipeline(pipelines.compiled(pipelines.outer, tmp_path), pipeline_name="kept")
    run_id = sandbox.start_run(pipelines.sleeping, folder=str(tmp_path))
    sleepers = sleeping_processes(tmp_path)
    sandbox.stop()  # asserts that none is left
    assert not any(alive(each) for each in sleepers)
    sandbox.start()
    assert sandbox.get(f"runs/{done['run_id']}") == done
    assert sandbox.get("pipelines/names/kept")["pipeline_id"] == pipeline.pipeline_id
    run = sandbox.get(f"runs/{run_id}")
    assert (run["state"], run["error"]["message"]) == (
        "FAILED", "The sandbox's KFP server was restarted while this ran.",
    )  # fmt: skip
    assert sandbox.states(run_id) == {"sleep": "FAILED"}
    # The cache is kept as well.
    again = sandbox.run(pipelines.outer, n=1)
    assert all(task.get("cached") for path, task in sandbox.tasks(again["run_id"]).items() if path != "inner")


def test_after_a_kill_the_next_start_ends_what_was_left(sandbox: KFPSandbox, tmp_path: Path) -> None:
    run_id = sandbox.start_run(pipelines.sleeping, folder=str(tmp_path))
    sleepers = sleeping_processes(tmp_path)
    assert sandbox.service is not None
    sandbox.service.kill()
    assert all(alive(each) for each in sleepers)
    sandbox.start()
    assert not any(alive(each) for each in sleepers)
    assert sandbox.get(f"runs/{run_id}")["state"] == "FAILED"
    assert sandbox.runs_api.run_service_retry_run(run_id) == {}  # and it can go on
    (tmp_path / "pids").unlink()
    sleepers = sleeping_processes(tmp_path)
    sandbox.client().delete_run(run_id)
    wait_for(lambda: not any(alive(each) for each in sleepers), "the deleted run's processes to be gone", 5)


def test_a_taken_port_is_one_sentence() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        command = [SERVICES_PYTHON, "-m", "sandbox.kfp", "--port", str(port), "--state", "unused"]
        ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"kfp: port {port} is in use; set MLFLEET_KFP_PORT to another one\n"


def test_a_folder_has_one_server(sandbox: KFPSandbox) -> None:
    state = sandbox.root / "state"
    command = [SERVICES_PYTHON, "-m", "sandbox.kfp", "--port", str(free_port()), "--state", state]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"kfp: another server uses the folder {state}; stop it or take another one\n"


def test_the_page_shows_what_the_api_does_not(sandbox: KFPSandbox, tmp_path: Path) -> None:
    run = sandbox.run(pipelines.values, name="<Ada>", rows=4)
    page = sandbox.http("GET", f"/runs/{run['run_id']}").text
    for shown in (
        "make-model",
        "&quot;mae&quot;: 1.5",
        "&quot;rows&quot;: &quot;16&quot;",
        "system.Model",
        "hi &lt;Ada&gt; 4",
    ):
        assert shown in page, shown
    assert "<Ada>" not in page
    index = sandbox.http("GET", "/").text
    assert run["run_id"] in index
    if (browser := shutil.which("chromium")) is None:
        return
    # The address that the official client prints and mlfleet links to.
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/browser",
               "--virtual-time-budget=3000", "--dump-dom", f"{sandbox.url}/#/runs/details/{run['run_id']}"]  # fmt: skip
    seen = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "make-model" in seen
    assert json.dumps(run["run_id"]).strip('"') in seen
