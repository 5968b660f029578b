"""What the sandbox's KFP does with pipelines, driven by the official client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import kfp_server_api
import pytest

from tests.support import kfp_pipelines as pipelines
from tests.support.kfp import CLIENT_WARNING, KFPSandbox, sleeping_processes
from tests.support.processes import alive, identify, wait_for

pytestmark = pytest.mark.filterwarnings(CLIENT_WARNING)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KFPSandbox]:
    sandbox = KFPSandbox(tmp_path_factory.mktemp("kfp"))
    sandbox.start()
    yield sandbox
    sandbox.stop()


def outputs(sandbox: KFPSandbox, run: dict[str, Any], path: str) -> dict[str, Any]:
    return dict(sandbox.tasks(run["run_id"])[path]["outputs"]["parameters"])


def test_parameters_artifacts_and_metrics_of_both_forms_of_component(sandbox: KFPSandbox, tmp_path: Path) -> None:
    client = sandbox.client()
    created = client.create_run_from_pipeline_package(
        pipelines.compiled(pipelines.values, tmp_path),
        arguments={"rows": 5, "name": "Ada"},
        run_name="with a root",
        pipeline_root=str(tmp_path / "root"),
    )
    run = client.wait_for_run_completion(created.run_id, timeout=60, sleep_duration=1)
    assert run.state == "SUCCEEDED"
    assert run.finished_at >= run.created_at
    tasks = sandbox.tasks(run.run_id)
    assert tasks["add-2"]["outputs"]["parameters"] == {"Output": 17}
    assert tasks["describe"]["outputs"]["parameters"] == {"Output": "hi Ada 5: weights of 17"}
    (model,) = tasks["make-model"]["outputs"]["artifacts"]["model"]
    assert model["metadata"] == {"rows": "17"}
    assert model["type"]["schemaTitle"] == "system.Model"
    # <pipeline root>/<pipeline>/<run id>/<task>/<anything>/<artifact>, as the real driver has it
    file = Path(model["uri"])
    assert file.parent.parent == tmp_path / "root" / "values" / run.run_id / "make-model"
    assert (file.name, file.read_text()) == ("model", "weights")
    assert tasks["make-model"]["outputs"]["artifacts"]["metrics"][0]["metadata"] == {"mae": 1.5}


def test_task_details_are_as_poor_as_the_real_servers(sandbox: KFPSandbox) -> None:
    run = sandbox.run(pipelines.outer, n=4)
    details = run["run_details"]["task_details"]
    assert sorted(each["display_name"] for each in details) == ["add", "add", "inner"]
    for each in details:
        assert not {"inputs", "outputs", "error", "execution_id"} & set(each)
        assert each["state"] == "SUCCEEDED"
        assert each["create_time"] <= each["start_time"] <= each["end_time"]


@pytest.mark.parametrize(
    ("face", "rows", "result", "ran"),
    [("heads", 3, 1003, 1), ("heads", 1, 1003, 0), ("tails", 3, 1004, 0), ("edge", 3, 1005, 0)],
)
def test_conditions_take_one_branch(sandbox: KFPSandbox, face: str, rows: int, result: int, ran: int) -> None:
    run = sandbox.run(pipelines.branches, face=face, rows=rows)
    assert run["state"] == "SUCCEEDED"
    tasks = sandbox.tasks(run["run_id"])
    results = [task["outputs"]["parameters"].get("Output") for task in tasks.values() if task["state"] == "SUCCEEDED"]
    assert result in results
    assert results.count(102) == ran
    assert sum(task["state"] == "SKIPPED" for task in tasks.values()) == (2 if rows > 2 or face != "heads" else 3)


def test_the_exit_task_runs_after_a_failure_and_learns_of_it(sandbox: KFPSandbox, tmp_path: Path) -> None:
    run = sandbox.run(pipelines.guarded, folder=str(tmp_path))
    assert run["state"] == "FAILED"
    assert "error" not in run  # the real server does not tell
    assert sandbox.states(run["run_id"]) == {
        "exit-handler-1": "FAILED", "exit-handler-1/fall": "FAILED", "note-status": "SUCCEEDED",
    }  # fmt: skip
    status = json.loads((tmp_path / "status.json").read_text())
    assert status["state"] == "FAILED"
    assert "the ice is thin" in status["error"]
    log = sandbox.log(run, "fall")
    assert "about to fall" in log
    assert "RuntimeError: the ice is thin" in log


def test_independent_tasks_run_at_the_same_time(sandbox: KFPSandbox, tmp_path: Path) -> None:
    assert sandbox.run(pipelines.meeting, folder=str(tmp_path))["state"] == "SUCCEEDED"


def test_retries_are_counted(sandbox: KFPSandbox, tmp_path: Path) -> None:
    for needed, state in ((3, "SUCCEEDED"), (4, "FAILED")):
        folder = tmp_path / str(needed)
        folder.mkdir()
        assert sandbox.run(pipelines.attempts, folder=str(folder), needed=needed)["state"] == state
        assert (folder / "count").read_text() == "xxx"


def test_a_retried_run_goes_on_from_the_failed_task(sandbox: KFPSandbox, tmp_path: Path) -> None:
    run_id = sandbox.start_run(pipelines.resumable, folder=str(tmp_path))
    failed = sandbox.wait(run_id)
    assert failed["state"] == "FAILED"
    assert sandbox.states(run_id) == {"tally": "SUCCEEDED", "tally-2": "FAILED"}
    assert sandbox.runs_api.run_service_retry_run(run_id) == {}
    run = sandbox.wait(run_id)
    assert run["state"] == "SUCCEEDED"
    assert [each["state"] for each in run["state_history"]] == [
        "PENDING", "RUNNING", "FAILED", "PENDING", "RUNNING", "SUCCEEDED",
    ]  # fmt: skip
    counts = {name: (tmp_path / name).read_text() for name in ("first", "second", "third")}
    assert counts == {"first": "x", "second": "xx", "third": "x"}
    with pytest.raises(kfp_server_api.ApiException) as refused:
        sandbox.runs_api.run_service_retry_run(run_id)
    assert (refused.value.status, json.loads(refused.value.body)["code"]) == (409, 10)


def test_the_cache_is_on_and_can_be_switched_off(sandbox: KFPSandbox, tmp_path: Path) -> None:
    def counts() -> tuple[int, int]:
        return len((tmp_path / "cached").read_text()), len((tmp_path / "fresh").read_text())

    arguments = {"folder": str(tmp_path)}
    assert sandbox.run(pipelines.counted, **arguments)["state"] == "SUCCEEDED"
    again = sandbox.run(pipelines.counted, **arguments)
    assert counts() == (1, 2)
    assert sandbox.tasks(again["run_id"])["tally"]["cached"]
    assert outputs(sandbox, again, "tally") == {"Output": 1}
    sandbox.run(pipelines.counted, enable_caching=False, **arguments)
    assert counts() == (2, 3)
    sandbox.run(pipelines.counted_elsewhere, **arguments)  # another pipeline shares nothing
    assert counts() == (3, 3)


def test_what_ran_without_the_cache_is_not_in_it(sandbox: KFPSandbox, tmp_path: Path) -> None:
    for count, caching in ((1, False), (2, True), (2, True)):
        sandbox.run(pipelines.counted, enable_caching=caching, folder=str(tmp_path))
        assert len((tmp_path / "cached").read_text()) == count


def test_placeholders_have_the_values_of_their_run_not_of_the_cached_one(sandbox: KFPSandbox, tmp_path: Path) -> None:
    package = pipelines.compiled(pipelines.placeholders, tmp_path)
    task_ids = set()
    for name in ("first of two", "second of two"):
        created = sandbox.client().create_run_from_pipeline_package(package, run_name=name)
        run = sandbox.wait(created.run_id)
        job, resource, id_, task, task_id, created_at, due, text = outputs(sandbox, run, "repeat")["Output"]
        assert (job, id_, task) == (name, run["run_id"], "repeat")
        assert resource.startswith("placeholders-")
        assert (created_at, due) == (run["created_at"], run["scheduled_at"])
        assert text == "in {{$.pipeline_job_uuid}}"  # the real server looks at whole values only
        task_ids.add(int(task_id))
    assert len(task_ids) == 2


def test_switching_the_cache_off_does_nothing_for_a_version(sandbox: KFPSandbox, tmp_path: Path) -> None:
    """kubeflow/pipelines#8891: the SDK can rewrite only a file."""
    client = sandbox.client()
    pipeline = client.upload_pipeline(pipelines.compiled(pipelines.counted, tmp_path), pipeline_name="cache-off")
    version = client.list_pipeline_versions(pipeline.pipeline_id).pipeline_versions[0]
    experiment = client.create_experiment("cache")
    for _ in range(2):
        run = client.run_pipeline(
            experiment.experiment_id, "by version", pipeline_id=pipeline.pipeline_id,
            version_id=version.pipeline_version_id, params={"folder": str(tmp_path)}, enable_caching=False,
        )  # fmt: skip
        assert sandbox.wait(run.run_id)["state"] == "SUCCEEDED"
    assert (tmp_path / "cached").read_text() == "x"


def test_parameters_keep_their_types_through_files_and_return_values(sandbox: KFPSandbox) -> None:
    run = sandbox.run(pipelines.typed)
    assert run["state"] == "SUCCEEDED"
    for task in ("show", "show-2"):
        assert outputs(sandbox, run, task) == {"Output": "(True, 3, 1000.0, [1, None], {'a': [2.5]}, '007')"}


def test_a_parameter_that_is_none_of_its_type_fails_the_task(sandbox: KFPSandbox) -> None:
    run = sandbox.run(pipelines.mistyped)
    assert run["state"] == "FAILED"
    error = sandbox.tasks(run["run_id"])["write-nonsense"]["error"]
    assert error.startswith("task write-nonsense gave no output parameter count of type NUMBER_INTEGER: ")


def test_artifacts_keep_their_type_and_can_be_imported(sandbox: KFPSandbox, tmp_path: Path) -> None:
    run = sandbox.run(pipelines.artifacts, uri=str(tmp_path))
    assert outputs(sandbox, run, "classes")["Output"] == (
        f"['Model', 'Dataset', 'Metrics', 'Dataset'] {{'rows': 5}} {{'from': 'outside'}} {tmp_path}"
    )


def test_a_component_leaves_no_temporary_files(sandbox: KFPSandbox) -> None:
    run = sandbox.run(pipelines.tidy)
    program, temporary, _ = outputs(sandbox, run, "places")["Output"]
    for place in (Path(program), Path(temporary)):
        assert (sandbox.root / "state") in place.parents
        assert not place.exists()


def test_packages_are_never_installed(sandbox: KFPSandbox) -> None:
    run = sandbox.run(pipelines.supplied)
    assert outputs(sandbox, run, "supplied-one") == {"Output": "pandas"}
    run = sandbox.run(pipelines.needy)
    assert run["state"] == "FAILED"
    assert run["error"]["message"].startswith(
        "task needy-one needs a package that the sandbox does not install: pandas>=900, and it has pandas "
    )
    assert "pandas>=900" in sandbox.log(run, "needy-one")


def test_many_runs_at_once_all_end_and_few_components_work(sandbox: KFPSandbox, tmp_path: Path) -> None:
    package = pipelines.compiled(pipelines.crowded, tmp_path)

    def start(number: int) -> str:
        arguments = {"folder": str(tmp_path), "number": number}
        run = sandbox.client().create_run_from_pipeline_package(package, arguments, run_name=f"crowd {number}")
        return str(run.run_id)

    with ThreadPoolExecutor(20) as pool:
        run_ids = list(pool.map(start, range(20)))
    runs = [sandbox.wait(run_id, timeout=120) for run_id in run_ids]
    assert [run["state"] for run in runs] == ["SUCCEEDED"] * 20
    assert len(list(tmp_path.glob("*.done"))) == 20
    assert max(outputs(sandbox, run, "occupy")["Output"] for run in runs) <= 2


def test_a_pipeline_in_a_pipeline(sandbox: KFPSandbox) -> None:
    run = sandbox.run(pipelines.outer, n=4)
    assert outputs(sandbox, run, "add") == {"Output": 36}
    assert outputs(sandbox, run, "inner") == {"Output": 6}
    assert outputs(sandbox, run, "inner/add") == {"Output": 6}


@pytest.mark.parametrize(
    ("pipeline", "sentence"),
    [
        (pipelines.looping, "task for-loop-2 is a loop (ParallelFor), which the sandbox can't run"),
        (pipelines.collecting, "task for-loop-2 is a loop (ParallelFor), which the sandbox can't run"),
        (
            pipelines.optional,
            "task condition-1 got neither a value nor a default for its parameter pipelinechannel--face",
        ),
        (pipelines.contained, "task whale is a container component, which the sandbox can't run: it has no containers"),
    ],
)
def test_what_it_cannot_run_it_says_in_one_sentence(sandbox: KFPSandbox, pipeline: Any, sentence: str) -> None:
    run = sandbox.run(pipeline)
    assert run["state"] == "FAILED"
    assert run["error"]["message"] == sentence


def test_artifacts_elsewhere_than_in_a_folder_are_refused(sandbox: KFPSandbox, tmp_path: Path) -> None:
    created = sandbox.client().create_run_from_pipeline_package(
        pipelines.compiled(pipelines.outer, tmp_path), arguments={"n": 77}, pipeline_root="s3://bucket/there"
    )
    run = sandbox.wait(created.run_id)
    assert run["error"]["message"] == "the sandbox keeps artifacts in local folders only, not in s3://"


def test_terminate_kills_everything_and_ends_failed(sandbox: KFPSandbox, tmp_path: Path) -> None:
    run_id = sandbox.start_run(pipelines.sleeping, folder=str(tmp_path))
    sleepers = sleeping_processes(tmp_path)
    running = sandbox.get(f"runs/{run_id}")
    assert (running["state"], running["finished_at"]) == ("RUNNING", "1970-01-01T00:00:00Z")
    sandbox.client().terminate_run(run_id)
    run = sandbox.wait(run_id, timeout=10)
    assert run["state"] == "FAILED"  # never CANCELED
    assert [each["state"] for each in run["state_history"]] == ["PENDING", "RUNNING", "FAILED"]
    assert sandbox.states(run_id) == {"sleep": "FAILED"}
    wait_for(lambda: not any(alive(each) for each in sleepers), "its processes to be gone", 5)
    with pytest.raises(kfp_server_api.ApiException) as refused:
        sandbox.client().terminate_run(run_id)
    assert refused.value.status == 400
    assert "Row not found" in refused.value.body


def test_terminate_asks_first(sandbox: KFPSandbox, tmp_path: Path) -> None:
    run_id = sandbox.start_run(pipelines.staying, folder=str(tmp_path))
    wait_for((tmp_path / "pid").exists, "the component")
    component = identify(int((tmp_path / "pid").read_text()))
    assert component is not None
    sandbox.client().terminate_run(run_id)
    assert sandbox.get(f"runs/{run_id}")["state"] == "CANCELING"
    with pytest.raises(kfp_server_api.ApiException, match="Row not found"):
        sandbox.client().terminate_run(run_id)
    assert sandbox.wait(run_id, timeout=15)["state"] == "FAILED"
    assert (tmp_path / "asked").exists()
    assert not alive(component)


def test_a_log_is_whole_each_time(sandbox: KFPSandbox, tmp_path: Path) -> None:
    run_id = sandbox.start_run(pipelines.talking, folder=str(tmp_path))

    def log() -> str:
        run = sandbox.get(f"runs/{run_id}")
        return sandbox.log(run, "talk") if "run_details" in run else ""

    wait_for(lambda: "first line" in log(), "the first line")
    assert log().splitlines()[-1] == "first line"
    (tmp_path / "go-on").touch()
    run = sandbox.wait(run_id)
    whole = sandbox.log(run, "talk").splitlines()
    assert whole.index("zweite Zeile, größer") == whole.index("first line") + 1
    answer = sandbox.http("GET", f"/apis/v1alpha1/runs/{run_id}/nodes/no-such-pod/log")
    assert answer.status_code == 200  # the real one has sent 200 before it looks
    assert "Failed to read logs" in answer.json()["error_message"]
