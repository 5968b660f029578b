"""A Polyaxon job as a step of a KFP run: the sandbox's KFP server, the real Polyaxon server, a private repository."""

from __future__ import annotations

import base64
import os
import re
import signal
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import compiler

from mlfleet.components.polyaxon_job import KFPStep
from tests.support.git_server import GitServer, git_server
from tests.support.kfp import CLIENT_WARNING, KFPSandbox
from tests.support.polyaxon import PolyaxonSandbox, job
from tests.support.processes import SERVICES_PYTHON, command_line, descendants, wait_for

pytestmark = pytest.mark.filterwarnings(CLIENT_WARNING)

GIT_TOKEN, POLYAXON_TOKEN = "ghp-5cr37-0f-g1t", "plx-5cr37-0f-p0ly4x0n"
# As HTTP Basic carries it.
ENCODED = base64.b64encode(f"x-access-token:{GIT_TOKEN}".encode()).decode()
TRAIN = """
import pathlib, sys, time
print("training with", sys.argv[1:], flush=True)
gate = pathlib.Path(sys.argv[1])
while sys.argv[2] == "wait" and not gate.exists():
    time.sleep(0.1)
if sys.argv[2] == "fail-once" and not gate.exists():
    gate.write_text("")
    sys.exit("the first try fails")
print("trained", flush=True)
"""


@dataclass
class World:
    kfp: KFPSandbox
    polyaxon: PolyaxonSandbox
    repository: GitServer
    project: str

    def start(self, gate: Path, what: str) -> str:
        """A run of the pipeline; its id."""
        from tests.support.component_pipelines import lightweight_job

        return self.kfp.start_run(
            lightweight_job, repository=self.repository.url, polyaxon=self.polyaxon.url, kfp=self.kfp.url,
            project=self.project, params={"gate": str(gate), "what": what},
        )  # fmt: skip

    def jobs(self) -> list[dict[str, Any]]:
        """The Polyaxon runs of this test's project, oldest first; none while there is no project."""
        answer = self.polyaxon.http.get(f"/api/v1/default/{self.project}/runs", params={"limit": "100"})
        return sorted(answer.json().get("results", []), key=lambda run: str(run["created_at"]))

    def newest_job(self, status: str) -> dict[str, Any]:
        """The newest of them once it has this status."""

        def probe() -> dict[str, Any] | None:
            jobs = self.jobs()
            return jobs[-1] if jobs and jobs[-1]["status"] == status else None

        return wait_for(probe, f"a job that is {status}")

    def log(self, run_id: str, task: str) -> str:
        return self.kfp.log(self.kfp.get(f"runs/{run_id}"), task)

    def processes(self) -> list[int]:
        """The Python process that is the Polyaxon step, not the shell around it: that one passes no signal on."""
        assert self.kfp.service is not None
        return [
            each.pid
            for each in descendants(self.kfp.service.pid)
            if command_line(each.pid).startswith("python3 -m kfp.dsl.executor_main")
            and command_line(each.pid).endswith("--function_to_execute polyaxon_job")
        ]


@pytest.fixture(scope="module")
def kfp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KFPSandbox]:
    sandbox = KFPSandbox(tmp_path_factory.mktemp("kfp"))
    for name, key, value in (("git-reader", "password", GIT_TOKEN), ("polyaxon", "token", POLYAXON_TOKEN)):
        folder = sandbox.root / "state" / "secrets" / name
        folder.mkdir(parents=True)
        (folder / key).write_text(value)
    sandbox.start()
    yield sandbox
    sandbox.stop()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServer]:
    component = job(
        "python", "train.py", "{{ gate }}", "{{ what }}",
        inputs=[{"name": name, "type": "str"} for name in ("gate", "what")],
    )  # fmt: skip
    with git_server(tmp_path_factory.mktemp("git"), GIT_TOKEN) as server:
        server.commit({"training/job.yaml": yaml.safe_dump(component), "training/code/train.py": TRAIN})
        yield server


@pytest.fixture
def world(kfp: KFPSandbox, polyaxon_sandbox: PolyaxonSandbox, repository: GitServer) -> World:
    return World(kfp, polyaxon_sandbox, repository, f"component-{uuid.uuid4().hex[:8]}")


def test_from_a_private_repository_to_a_trained_job_and_its_outputs(world: World, tmp_path: Path) -> None:
    run_id = world.start(tmp_path / "gate", "go")
    run = world.kfp.wait(run_id, 120)
    log = world.log(run_id, "polyaxon-job")
    assert run["state"] == "SUCCEEDED", log
    (made,) = world.jobs()
    told = world.kfp.tasks(run_id)["tell"]["outputs"]["parameters"]["Output"]
    assert told == f"{world.project}/default/{made['uuid']}/succeeded/{{}}"
    assert f"logged in to {world.polyaxon.url} as default" in log
    assert f"training with ['{tmp_path}/gate', 'go']" in log
    assert log.index("training with") < log.index("trained")
    # A later process finds it by this alone.
    number = world.kfp.tasks(run_id)["polyaxon-job"]["inputs"]["parameters"]["iteration"]
    step = KFPStep("test", run_id, "polyaxon-job", number)
    assert made["meta_info"]["mlfleet_task"] == step.identity.hash
    assert made["meta_info"]["mlfleet_n"] == 0


def test_a_terminated_run_stops_its_job_and_a_retry_submits_the_next_one(world: World, tmp_path: Path) -> None:
    run_id = world.start(tmp_path / "gate", "wait")
    world.newest_job("running")
    world.kfp.runs_api.run_service_terminate_run(run_id)
    assert world.kfp.wait(run_id)["state"] == "FAILED"
    assert "the KFP run is CANCELING: stopping its Polyaxon job" in world.log(run_id, "polyaxon-job")
    world.newest_job("stopped")

    (tmp_path / "gate").write_text("")
    world.kfp.runs_api.run_service_retry_run(run_id)
    assert world.kfp.wait(run_id, 120)["state"] == "SUCCEEDED", world.log(run_id, "polyaxon-job")
    jobs = world.jobs()
    assert [(each["status"], each["meta_info"]["mlfleet_n"]) for each in jobs] == [("stopped", 0), ("succeeded", 1)]


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_step_that_is_killed_leaves_its_job_and_the_retry_adopts_it(
    world: World, tmp_path: Path, end: signal.Signals
) -> None:
    run_id = world.start(tmp_path / "gate", "wait")
    before = world.newest_job("running")
    for pid in wait_for(world.processes, "the step's process"):
        os.kill(pid, end)
    adopted = f"job {before['uuid']} is running: carrying on with it, nothing is submitted"
    wait_for(lambda: adopted in world.log(run_id, "polyaxon-job"), "the second try")
    (tmp_path / "gate").write_text("")
    assert world.kfp.wait(run_id, 120)["state"] == "SUCCEEDED"
    (after,) = world.jobs()
    assert (after["uuid"], after["status"]) == (before["uuid"], "succeeded")
    if end is signal.SIGTERM:
        told = "told to end while the KFP run is RUNNING: the Polyaxon job is left for the retry to adopt"
        assert told in world.log(run_id, "polyaxon-job")


def test_a_retried_run_adopts_the_job_of_a_server_that_went_down(world: World, tmp_path: Path) -> None:
    """All processes of KFP die at once, as a cluster's may; Polyaxon works on, and a person retries the run."""
    run_id = world.start(tmp_path / "gate", "wait")
    before = world.newest_job("running")
    assert world.kfp.service is not None
    world.kfp.service.kill()
    world.kfp.start()
    assert world.kfp.wait(run_id)["state"] == "FAILED"
    world.repository.commit({"training/code/train.py": TRAIN + "# changed meanwhile\n"})
    world.kfp.runs_api.run_service_retry_run(run_id)
    (tmp_path / "gate").write_text("")
    assert world.kfp.wait(run_id, 120)["state"] == "SUCCEEDED", world.log(run_id, "polyaxon-job")
    (after,) = world.jobs()
    assert (after["uuid"], after["status"]) == (before["uuid"], "succeeded")


def test_a_job_that_failed_is_followed_by_the_next_number(world: World, tmp_path: Path) -> None:
    run_id = world.start(tmp_path / "gate", "fail-once")
    assert world.kfp.wait(run_id, 120)["state"] == "SUCCEEDED", world.log(run_id, "polyaxon-job")
    jobs = world.jobs()
    assert [(each["status"], each["meta_info"]["mlfleet_n"]) for each in jobs] == [("failed", 0), ("succeeded", 1)]
    assert "the first try fails" in world.log(run_id, "polyaxon-job")


def container_program(pipeline: Any, task: str, folder: Path, given: dict[str, str]) -> list[str]:
    """The command of a compiled container component with its placeholders filled in, as a pod's launcher does it."""
    package = folder / "package.yaml"
    compiler.Compiler().compile(pipeline, str(package))
    ir = next(yaml.safe_load_all(package.read_text()))
    label = ir["components"][ir["root"]["dag"]["tasks"][task]["componentRef"]["name"]]["executorLabel"]
    container = ir["deploymentSpec"]["executors"][label]["container"]

    def filled(word: str) -> str:
        found = re.fullmatch(r"\{\{\$\.(?:in|out)puts\.\w+\['(\w+)'\](?:\.\w+)?\}\}", word)
        return given[found[1]] if found else word

    return [filled(word) for word in [*container["command"], *container["args"]]]


def test_the_container_form_as_the_processes_that_a_pod_would_run(world: World, tmp_path: Path) -> None:
    from tests.support.component_pipelines import container_job

    def run(step: str, secrets: dict[str, str], given: dict[str, str]) -> str:
        words = container_program(container_job, step, tmp_path, {**places, **given})
        environment = {"PATH": f"{SERVICES_PYTHON.parent}{os.pathsep}{os.environ['PATH']}", **secrets}
        ran = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert not any(secret in ran.stdout + ran.stderr for secret in (GIT_TOKEN, POLYAXON_TOKEN))
        return ran.stdout

    places = {name: str(tmp_path / "out" / name) for name in ("source", "commit", "project", "user", "job_id",
                                                               "status", "outputs")}  # fmt: skip
    run(
        "clone-repository", {"GIT_TOKEN": GIT_TOKEN},
        {"repository": world.repository.url, "ref": "main", "path": "training", "user": "x-access-token"},
    )  # fmt: skip
    head = world.repository.git("rev-parse", "HEAD").strip()
    assert Path(places["commit"]).read_text() == head
    said = run(
        "polyaxon-job", {"POLYAXON_AUTH_TOKEN": POLYAXON_TOKEN},
        {
            "environment": "prod", "run_id": uuid.uuid4().hex, "task": "polyaxon-job", "iteration": "17", "name": "",
            "polyaxon": world.polyaxon.url, "kfp": world.kfp.url, "owner": "default", "namespace": "polyaxon",
            "polyaxonfile": "job.yaml", "polyaxon_project": world.project, "on_failed": "resubmit", "timeout": "60",
            "params": '{"gate": "none", "what": "go"}', "files": '{"train.py": "code/train.py"}',
        },
    )  # fmt: skip
    assert "training with ['none', 'go']" in said
    (made,) = world.jobs()
    told = {name: Path(places[name]).read_text() for name in ("project", "user", "job_id", "status", "outputs")}
    assert told == {"project": world.project, "user": "default", "job_id": made["uuid"], "status": "succeeded",
                    "outputs": "{}"}  # fmt: skip


def test_a_secret_that_is_not_there_is_one_sentence(world: World, tmp_path: Path) -> None:
    secret = world.kfp.root / "state" / "secrets" / "polyaxon" / "token"
    secret.unlink()
    try:
        run_id = world.start(tmp_path / "gate", "go")
        assert world.kfp.wait(run_id)["state"] == "FAILED"
    finally:
        secret.write_text(POLYAXON_TOKEN)
    error = "there is no secret polyaxon with a key token; it would be in secrets/polyaxon/token"
    assert world.kfp.tasks(run_id)["polyaxon-job"]["error"] == error
    assert world.jobs() == []


def test_no_secret_is_anywhere_but_where_it_belongs(world: World) -> None:
    """After all of the above: the server's database, logs, artifacts and compiled packages, and Polyaxon's."""
    held = [world.kfp.root / "state" / "secrets"]
    looked = 0
    for root in (world.kfp.root, world.polyaxon.state, world.repository.work):
        for path in root.rglob("*"):
            if path.is_file() and not any(path.is_relative_to(folder) for folder in held):
                content = path.read_bytes()
                looked += 1
                for secret in (GIT_TOKEN, POLYAXON_TOKEN, ENCODED):
                    assert secret.encode() not in content, path
    assert looked > 20
