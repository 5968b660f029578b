"""The operator that runs a remote job, over KFP on the wire: submit, defer, resume, retry, clear, kill."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.sdk import DAG, BaseOperator
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred
from airflow.sdk.observability import stats
from structlog.testing import capture_logs

from mlfleet.errors import JobFailed, JobTimedOut, TransientError
from mlfleet.operators.kfp import KFPRunOperator
from mlfleet.operators.polyaxon import PolyaxonRunOperator
from mlfleet.operators.spinnaker import SpinnakerDeployOperator
from mlfleet.triggers.kfp import KFPTrigger
from tests.support.airflow_channel import airflow_says
from tests.support.delivery import Run
from tests.support.kfp_wire import CONNECTION, IR, KFPWire, kfp_wire


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[KFPWire]:
    monkeypatch.setenv("AIRFLOW_CONN_KFP_DEFAULT", CONNECTION)
    with kfp_wire() as wire:
        yield wire


@pytest.fixture
def package(tmp_path: Path) -> Path:
    path = tmp_path / "churn.yaml"
    path.write_text(yaml.safe_dump(IR))
    return path


def operator(package: Path, **changes: Any) -> KFPRunOperator:
    given = {"task_id": "kfp", "pipeline": str(package), "experiment": "churn", "poll_interval": 0.01, **changes}
    return KFPRunOperator(**given)


def deferred(task: BaseOperator, run: Run) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as caught:
        task.execute(run.context())
    return caught.value


def event(waiting: TaskDeferred) -> Any:
    async def first() -> Any:
        trigger = KFPTrigger(**{**waiting.trigger.serialize()[1], "not_before": 0.0})
        found = await trigger.run().__anext__()
        await trigger.cleanup()
        return json.loads(json.dumps(found.payload))

    return asyncio.run(first())


def resume(task: Any, run: Run, waiting: TaskDeferred, happened: Any) -> Any:
    kwargs = json.loads(json.dumps(waiting.kwargs or {}))
    return getattr(task, waiting.method_name)(run.context(), happened, **kwargs)


def test_it_submits_defers_and_hands_on_the_result(wire: KFPWire, package: Path, tmp_path: Path) -> None:
    run = Run()
    task = operator(package, params={"depth": 5}, pipeline_root=str(tmp_path))
    waiting = deferred(task, run)
    (run_id,) = wire.runs
    assert wire.runs[run_id]["runtime_config"] == {"parameters": {"depth": 5}, "pipeline_root": str(tmp_path)}
    assert run.pushed["remote_url"] == f"http://kfp.test/#/runs/details/{run_id}"  # the link works while it waits
    outputs = tmp_path / "churn" / run_id / "measure" / "u" / "mlfleet_outputs"
    outputs.parent.mkdir(parents=True)
    outputs.write_text('{"mae": 2}')
    wire.finish()
    result = resume(task, run, waiting, event(waiting))
    assert (result["run_id"], result["outputs"], result["status"]) == (run_id, {"mae": 2}, "SUCCEEDED")


def test_the_trigger_carries_no_credential(wire: KFPWire, package: Path) -> None:
    waiting = deferred(operator(package, timeout=timedelta(minutes=5)), Run())
    path, kwargs = waiting.trigger.serialize()
    assert path == "mlfleet.triggers.kfp.KFPTrigger"
    assert kwargs["conn_id"] == "kfp_default"
    assert kwargs["deadline"] is not None
    assert "s3cr3t" not in json.dumps([path, kwargs, waiting.kwargs])
    assert all(r.headers["authorization"] == "Bearer s3cr3t-token-42" for r in wire.requests)


def test_a_retry_carries_on_and_a_clear_runs_again(wire: KFPWire, package: Path) -> None:
    run = Run()
    first = deferred(operator(package), run).trigger.serialize()[1]["job_id"]
    assert deferred(operator(package), run).trigger.serialize()[1]["job_id"] == first
    assert len(wire.runs) == 1
    second = deferred(operator(package), run.cleared()).trigger.serialize()[1]["job_id"]
    assert second != first
    assert wire.runs[first]["state"] == "CANCELED"
    wire.finish(run_id=second)
    # A worker that dies after the end: the next try finds the result and does not defer again.
    assert operator(package).execute(run.context())["run_id"] == second


def test_the_record_is_kept_for_good(wire: KFPWire, package: Path) -> None:
    kept: list[Any] = []
    run = Run()
    run.store.set = lambda key, value, *, retention=None: kept.append((key, value, retention))  # type: ignore[method-assign]
    deferred(operator(package), run)
    assert [(key, value["phase"]) for key, value, _ in kept] == [
        ("mlfleet_job", "submitting"),
        ("mlfleet_job", "submitted"),
    ]
    assert all(retention == timedelta.max for _, _, retention in kept)


def test_a_failed_job_is_a_retryable_failure(wire: KFPWire, package: Path) -> None:
    run, task = Run(), operator(package)
    waiting = deferred(task, run)
    wire.finish("FAILED")
    with pytest.raises(JobFailed):
        resume(task, run, waiting, event(waiting))


def test_a_stopped_job_is_not_started_again(wire: KFPWire, package: Path) -> None:
    run, task = Run(), operator(package)
    waiting = deferred(task, run)
    wire.finish("CANCELED")
    with pytest.raises(AirflowFailException, match="was stopped"):
        resume(task, run, waiting, event(waiting))


def test_the_deadline_stops_the_job_and_fails_the_task(wire: KFPWire, package: Path) -> None:
    run, task = Run(), operator(package, timeout=timedelta(seconds=0.05))
    waiting = deferred(task, run)
    happened = event(waiting)
    assert happened["outcome"] == "timeout"
    assert [found["state"] for found in wire.runs.values()] == ["CANCELED"]
    with pytest.raises(JobTimedOut):
        resume(task, run, waiting, happened)


def test_airflows_own_time_limit_counts_while_deferred(wire: KFPWire, package: Path) -> None:
    task = operator(package, timeout=timedelta(hours=9), execution_timeout=timedelta(hours=1))
    early = deferred(task, Run()).trigger.serialize()[1]["deadline"]
    late = deferred(operator(package, timeout=timedelta(hours=9)), Run(task_id="x")).trigger.serialize()[1]["deadline"]
    assert 7.9 * 3600 < late - early < 8.1 * 3600


def test_giving_up_is_retried_and_a_refusal_is_not(wire: KFPWire, package: Path) -> None:
    run, task = Run(), operator(package)
    waiting = deferred(task, run)
    with pytest.raises(TransientError, match="away"):
        resume(task, run, waiting, {"outcome": "gave_up", "status": None, "error": "away"})
    with pytest.raises(AirflowFailException, match="expired"):
        resume(task, run, waiting, {"outcome": "refused", "status": None, "error": "expired"})


def test_without_deferring_the_same_core_waits_in_the_worker(wire: KFPWire, package: Path) -> None:
    task = operator(package, deferrable=False)
    wire.ends_after = 4
    result = task.execute(Run().context())
    assert result["status"] == "SUCCEEDED"


def test_a_person_who_marks_the_task_stops_the_job(wire: KFPWire, package: Path) -> None:
    waiting = deferred(operator(package), Run())

    async def kill() -> None:
        trigger = KFPTrigger(**{**waiting.trigger.serialize()[1], "not_before": 0.0})
        await trigger.on_kill()
        await trigger.cleanup()

    asyncio.run(kill())
    assert [found["state"] for found in wire.runs.values()] == ["CANCELED"]


def test_a_stop_goes_on_when_airflow_cancels_on_kill(wire: KFPWire, package: Path) -> None:
    waiting = deferred(operator(package), Run())

    async def kill() -> None:
        trigger = KFPTrigger(**{**waiting.trigger.serialize()[1], "not_before": 0.0})
        killing = asyncio.ensure_future(trigger.on_kill())
        await asyncio.sleep(0)
        killing.cancel()
        await asyncio.gather(killing, return_exceptions=True)
        await trigger.cleanup()
        for _ in range(200):
            if [found["state"] for found in wire.runs.values()] == ["CANCELED"]:
                return
            await asyncio.sleep(0.01)

    asyncio.run(kill())
    assert [found["state"] for found in wire.runs.values()] == ["CANCELED"]


def test_a_job_may_be_left_alone(wire: KFPWire, package: Path) -> None:
    waiting = deferred(operator(package, on_kill_policy="leave"), Run())
    asyncio.run(KFPTrigger(**waiting.trigger.serialize()[1]).on_kill())
    assert [found["state"] for found in wire.runs.values()] == ["RUNNING"]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("failed", "CANCELED"),
        ("success", "CANCELED"),
        (None, "CANCELED"),
        ("running", "RUNNING"),
        (ConnectionError("no channel"), "RUNNING"),
    ],
)
def test_a_kill_in_the_worker_stops_the_job_of_a_person_and_a_restart_stops_nothing(
    wire: KFPWire, package: Path, monkeypatch: pytest.MonkeyPatch, state: Any, expected: str
) -> None:
    airflow_says(monkeypatch, state, of=("churn", "release", "scheduled__1"))
    task = operator(package)
    deferred(task, Run())
    task.on_kill()
    assert [found["state"] for found in wire.runs.values()] == [expected]


@pytest.mark.parametrize(
    ("state", "told"),
    [("running", "no person ended its task"), (ConnectionError("no channel"), "not known whether a person")],
)
def test_a_kill_that_leaves_the_job_alone_says_why(
    wire: KFPWire, package: Path, monkeypatch: pytest.MonkeyPatch, state: Any, told: str
) -> None:
    airflow_says(monkeypatch, state, of=("churn", "release", "scheduled__1"))
    task = operator(package)
    deferred(task, Run())
    with capture_logs() as logs:
        task.on_kill()
    assert [told in each["event"] for each in logs if "left alone" in each["event"]] == [True]


IN_THE_MIDDLE = """
import sys
from types import SimpleNamespace
from airflow.sdk.execution_time import task_runner
from mlfleet.errors import ConfigError
from mlfleet.operators.remote_job import BaseRemoteJobOperator

class Hook:
    def __init__(self, conn_id): ...
    def client_factory(self): return object

class Channel:
    def send(self, message): return SimpleNamespace(task_states={"r": {"t": "failed"}})

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("mlfleet"):
            print("imports", name)

class Operator(BaseRemoteJobOperator):
    hook_class = Hook
    def make_spec(self, values, context): return {}
    def system_args(self, spec): return {}
    def make_trigger(self, common, args): ...
    def make_system(self, client, args): return SimpleNamespace(lane="one")
    def values(self, context): ...
    def _begun(self, connect, spec, context):
        self._job_id = "job"
        sys.meta_path.insert(0, Finder())
        self.on_kill()
        raise ConfigError("enough")

task_runner.SUPERVISOR_COMMS = Channel()
task = Operator(task_id="t", conn_id="c")
try:
    task.execute({"ti": SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1, max_tries=0)})
except Exception as error:
    print("ended by a person:", task._ended_by_person, error)
"""


def test_a_kill_imports_nothing() -> None:
    """It may come in the middle of an import of the main thread, which waits for it: both would wait for ever."""
    ran = subprocess.run([sys.executable, "-c", IN_THE_MIDDLE], capture_output=True, text=True, timeout=120, check=True)
    told = [line for line in ran.stdout.splitlines() if line.startswith(("imports", "ended"))]
    assert told == ["ended by a person: True enough"]


def test_a_time_out_in_the_worker_stops_the_job(wire: KFPWire, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    airflow_says(monkeypatch, "running", of=("churn", "release", "scheduled__1"))
    task = operator(package, execution_timeout=timedelta(seconds=0.5))
    deferred(task, Run())
    task.on_kill()
    assert [found["state"] for found in wire.runs.values()] == ["CANCELED"]


def test_a_person_who_comes_during_the_submit_call_stops_the_job_too(
    wire: KFPWire, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    airflow_says(monkeypatch, "failed", of=("churn", "release", "scheduled__1"))
    task = operator(package)
    begin = task.begin

    async def interrupted(*args: Any, **kwargs: Any) -> Any:
        task.on_kill()
        return await begin(*args, **kwargs)

    task.begin = interrupted  # type: ignore[method-assign]
    with pytest.raises(AirflowFailException, match="was stopped"):
        task.execute(Run().context())
    assert [found["state"] for found in wire.runs.values()] == ["CANCELED"]


def test_a_person_may_ask_for_one_fresh_job(wire: KFPWire, package: Path) -> None:
    run = Run()
    first = deferred(operator(package), run).trigger.serialize()[1]["job_id"]
    run.store["rerun_mode"] = "fresh"
    second = deferred(operator(package), run).trigger.serialize()[1]["job_id"]
    assert second != first
    assert "rerun_mode" not in run.store
    assert deferred(operator(package), run).trigger.serialize()[1]["job_id"] == second


def test_a_person_may_ask_for_one_resume(wire: KFPWire, package: Path) -> None:
    run = Run()
    first = deferred(operator(package), run).trigger.serialize()[1]["job_id"]
    wire.finish("FAILED")
    run.store["rerun_mode"] = " Resume "
    assert deferred(operator(package), run.cleared()).trigger.serialize()[1]["job_id"] == first
    assert len(wire.calls("POST", f"/runs/{first}:retry")) == 1


def test_a_wish_that_is_none_is_told_and_kept(wire: KFPWire, package: Path) -> None:
    run = Run()
    run.store["rerun_mode"] = "frehs"
    with pytest.raises(AirflowFailException, match=r"rerun_mode is 'frehs'.*Set it to fresh or resume"):
        operator(package).execute(run.context())
    assert not wire.runs
    assert run.store["rerun_mode"] == "frehs"


def test_what_the_job_did_is_kept(wire: KFPWire, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[tuple[str, Any]] = []
    monkeypatch.setattr(stats, "incr", lambda name, **more: counted.append((name, more["tags"])))
    run = Run()
    deferred(operator(package), run)
    waiting = deferred(operator(package), run)
    wire.finish()
    resume(operator(package), run, waiting, event(waiting))
    (run_id,) = wire.runs
    told = run.pushed["job"]
    assert (told["job_id"], told["state"], told["end"]) == (run_id, "succeeded", "2026-11-10T04:00:00+00:00")
    counts = {"attempts": 2, "submissions": 1, "adoptions": 1, "stops": 0, "resumes": 0, "duplicates": 0}
    assert {name: told[name] for name in counts} == counts
    assert [name for name, _ in counted] == ["mlfleet.remote_job.submitted", "mlfleet.remote_job.adopted"]
    assert all(tags == {"system": "kfp"} for _, tags in counted)
    assert run.store["mlfleet_job"]["ended"] == "succeeded"


def test_a_resume_carries_on_and_a_second_job_never_hits_the_cache(wire: KFPWire, tmp_path: Path) -> None:
    path = tmp_path / "churn.yaml"
    task = {"cachingOptions": {"enableCache": True}}
    path.write_text(yaml.safe_dump({**IR, "root": {**IR["root"], "dag": {"tasks": {"train": task}}}}))
    run = Run()
    first = deferred(operator(path, enable_caching=True), run).trigger.serialize()[1]["job_id"]
    wire.finish("FAILED")
    again = deferred(operator(path, enable_caching=True, on_failed="resume"), run).trigger.serialize()[1]["job_id"]
    assert again == first
    second = deferred(operator(path, enable_caching=True), run.cleared()).trigger.serialize()[1]["job_id"]
    caching = [
        wire.runs[n]["pipeline_spec"]["root"]["dag"]["tasks"]["train"]["cachingOptions"] for n in (first, second)
    ]
    assert caching == [{"enableCache": True}, {}]
    off = Run()
    third = deferred(operator(path), off).trigger.serialize()[1]["job_id"]
    assert wire.runs[third]["pipeline_spec"]["root"]["dag"]["tasks"]["train"]["cachingOptions"] == {}


def test_what_another_try_cannot_cure_fails_at_once(wire: KFPWire, package: Path) -> None:
    with pytest.raises(AirflowFailException, match=r"no parameter dept \(it has: depth\)"):
        operator(package, params={"dept": 1}).execute(Run().context())
    with pytest.raises(AirflowFailException, match=r"nowhere\.py does not exist"):
        operator(Path("nowhere.py:f")).execute(Run().context())
    with pytest.raises(AirflowFailException, match="AIRFLOW_CONN_NO_SUCH"):
        operator(package, kfp_conn_id="no_such").execute(Run().context())
    assert not wire.runs


def test_the_params_of_a_dag_are_not_those_of_the_run(package: Path) -> None:
    with DAG("d", params={"unrelated": 1, "depth": 2}, schedule=None):
        given = operator(package, params={"depth": 9, "list": [1]})
        none = operator(package, task_id="other")
    assert given.run_params == {"depth": 9, "list": [1]}
    assert none.run_params == {}


def test_a_run_has_the_params_that_were_asked_for_in_the_trigger_dialog(tmp_path: Path) -> None:
    (tmp_path / "polyaxonfile.yaml").write_text(
        "kind: component\ninputs: [{name: rounds, type: int}, {name: segment, type: str}]\n"
        "run: {kind: job, container: {image: python}}\n"
    )
    task = PolyaxonRunOperator(
        task_id="polyaxon",
        project="prices",
        polyaxonfile=str(tmp_path / "polyaxonfile.yaml"),
        params={"rounds": 5, "segment": "${project.name}"},
        references={"static": {"project.name": "prices"}},
    )

    def params(asked: dict[str, Any]) -> Any:
        context = {**Run().context(), "params": asked}
        return json.loads(task.make_spec(task.values(context), context)["content"])["params"]

    assert {name: item["value"] for name, item in params({}).items()} == {"rounds": 5, "segment": "prices"}
    asked = params({"polyaxon.rounds": 9, "kfp.rounds": 7, "rounds": 8})
    assert {name: item["value"] for name, item in asked.items()} == {"rounds": 9, "segment": "prices"}


def test_a_polyaxon_run_takes_its_code_with_it(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print(1)\n")
    (tmp_path / "polyaxonfile.yaml").write_text(
        "{kind: component, version: 1.1, inputs: [{name: end, type: str}], run: {kind: job, container: {command: [x]}}}"
    )
    task = PolyaxonRunOperator(
        task_id="polyaxon",
        project="churn",
        polyaxonfile=str(tmp_path / "polyaxonfile.yaml"),
        files={"train.py": str(tmp_path / "train.py")},
        params={"end": "${data.end}"},
    )
    context = Run().context()
    operation = json.loads(task.make_spec(task.values(context), context)["content"])
    assert operation["params"] == {"end": {"value": "2026-11-10"}}
    assert operation["component"]["run"]["init"][0]["file"]["content"] == "print(1)\n"


def test_files_are_looked_for_above_the_dags_file(tmp_path: Path, wire: KFPWire) -> None:
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "p.yaml").write_text(yaml.safe_dump(IR))
    context = Run().context()
    context["dag"].fileloc = str(tmp_path / "dags" / "projects.py")
    with pytest.raises(TaskDeferred):
        operator(Path("include/p.yaml")).execute(context)


def test_deploy_without_a_release_says_so() -> None:
    task = SpinnakerDeployOperator(task_id="deploy", application="churn", pipeline="p", release_task_id="release")
    with pytest.raises(AirflowFailException, match=r"no release to follow.*release has handed on nothing"):
        task.execute(Run().context())


def test_a_deployment_goes_on_unless_asked_otherwise() -> None:
    given = {"task_id": "deploy", "application": "a", "pipeline": "p", "release_task_id": "r"}
    assert SpinnakerDeployOperator(**given).on_kill_policy == "leave"
    assert SpinnakerDeployOperator(**given, on_kill_policy="cancel").on_kill_policy == "stop"
