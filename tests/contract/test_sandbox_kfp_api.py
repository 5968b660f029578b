"""The REST face of the sandbox's KFP: catalog, lists, errors and traps, driven by the official clients."""

from __future__ import annotations

import base64
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kfp_server_api
import pytest
import urllib3
import yaml
from kfp_server_api import ApiException

from tests.support import kfp_pipelines as pipelines
from tests.support.kfp import CLIENT_WARNING, KFPSandbox
from tests.support.processes import wait_for

pytestmark = pytest.mark.filterwarnings(CLIENT_WARNING)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KFPSandbox]:
    sandbox = KFPSandbox(tmp_path_factory.mktemp("kfp"))
    sandbox.start()
    yield sandbox
    sandbox.stop()


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> str:
    return pipelines.compiled(pipelines.outer, tmp_path_factory.mktemp("package"))


DANGLING = json.dumps(
    {
        "pipelineInfo": {"name": "p"},
        "components": {},
        "root": {"dag": {"tasks": {"a": {"componentRef": {"name": "comp-a"}}}}},
    }
).encode()


def page_token(*content: Any) -> str:
    return base64.b64encode(json.dumps(content).encode()).decode()


def spec(package: str) -> dict[str, Any]:
    return dict(yaml.safe_load(Path(package).read_text()))


def post(sandbox: KFPSandbox, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
    answer = sandbox.http("POST", f"/apis/v2beta1/{path}", json=body)
    return answer.status_code, answer.json()


def names(sandbox: KFPSandbox, path: str, *predicates: dict[str, Any], **params: Any) -> list[str]:
    filter_ = {"filter": json.dumps({"predicates": predicates})} if predicates else {}
    found = sandbox.get(path, **filter_, **params)
    return [row["display_name"] for row in found.get(path.rpartition("/")[2], [])]


def equals(key: str, value: str) -> dict[str, Any]:
    return {"operation": "EQUALS", "key": key, "stringValue": value}


def test_healthz_and_unknown_paths(sandbox: KFPSandbox) -> None:
    assert sandbox.client().get_kfp_healthz().multi_user is False
    assert sandbox.http("GET", "/apis/v2beta1/schedules").json() == {
        "code": 5, "message": "Not Found", "details": [],
    }  # fmt: skip


def test_an_experiment_through_its_life(sandbox: KFPSandbox, package: str) -> None:
    client = sandbox.client()
    created = client.create_experiment("life", description="of an experiment")
    assert client.create_experiment("life").experiment_id == created.experiment_id  # the client looks first
    assert post(sandbox, "experiments", display_name="life")[0] == 409
    assert post(sandbox, "experiments", display_name="")[0] == 400
    run_id = client.create_run_from_pipeline_package(package, experiment_name="life").run_id
    sandbox.wait(run_id)
    client.archive_experiment(created.experiment_id)
    assert client.get_experiment(experiment_name="life").storage_state == "ARCHIVED"
    assert client.get_run(run_id).storage_state == "ARCHIVED"
    with pytest.raises(ApiException, match="must be un-archived first") as refused:
        client.unarchive_run(run_id)
    assert refused.value.status == 400
    client.unarchive_experiment(created.experiment_id)
    client.unarchive_run(run_id)
    client.delete_experiment(created.experiment_id)
    with pytest.raises(ApiException) as gone:
        client.get_experiment(created.experiment_id)
    assert gone.value.status == 404
    default = client.get_experiment(experiment_name="Default")
    with pytest.raises(ApiException) as refused:
        client.delete_experiment(default.experiment_id)
    assert (refused.value.status, json.loads(refused.value.body)["code"]) == (409, 10)


def test_uploads_and_the_name_of_the_first_version(sandbox: KFPSandbox, package: str, tmp_path: Path) -> None:
    client = sandbox.client()
    pipeline = client.upload_pipeline(package, pipeline_name="prices", description="of things")
    (first,) = client.list_pipeline_versions(pipeline.pipeline_id).pipeline_versions
    assert (first.name, first.description) == ("prices", "of things")
    assert first.pipeline_spec["pipelineInfo"]["name"] == "outer"
    second = client.upload_pipeline_version(package, "main_abc1234", pipeline_id=pipeline.pipeline_id)
    assert client.get_pipeline_version(pipeline.pipeline_id, second.pipeline_version_id).name == "main_abc1234"
    assert client.get_pipeline_id("prices") == pipeline.pipeline_id
    for call, message in (
        (lambda: client.upload_pipeline(package, "prices"), "Failed to create a pipeline and a pipeline version"),
        (
            lambda: client.upload_pipeline_version(package, "main_abc1234", pipeline_id=pipeline.pipeline_id),
            "Failed to create a pipeline version",
        ),
    ):
        with pytest.raises(ApiException) as taken:
            call()
        assert taken.value.status == 409
        assert json.loads(taken.value.body)["error_message"] == message
    zipped = tmp_path / "pipeline.zip"
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.write(package, "pipeline.yaml")
    other = client.upload_pipeline(str(zipped), pipeline_name="zipped")  # another pipeline may reuse version names
    client.upload_pipeline_version(str(zipped), "main_abc1234", pipeline_id=other.pipeline_id)
    with pytest.raises(ApiException) as refused:
        client.delete_pipeline(other.pipeline_id)
    assert refused.value.status == 400
    assert (
        sandbox.http("DELETE", f"/apis/v2beta1/pipelines/{other.pipeline_id}", params={"cascade": "true"}).json() == {}
    )
    assert sandbox.http("GET", "/apis/v2beta1/pipelines/names/zipped").status_code == 404


def test_a_version_can_be_shown_under_another_name(sandbox: KFPSandbox, package: str) -> None:
    status, pipeline = post(sandbox, "pipelines", display_name="empty first")
    assert status == 200
    base = f"pipelines/{pipeline['pipeline_id']}/versions"
    assert sandbox.get(base) == {}
    version = sandbox.client().upload_pipeline_version(package, "v1", pipeline_id=pipeline["pipeline_id"])
    path = f"/apis/v2beta1/{base}/{version.pipeline_version_id}"
    changed = sandbox.http("PATCH", path, json={"display_name": "first"}).json()
    assert (changed["name"], changed["display_name"]) == ("v1", "first")
    assert sandbox.get("pipelines/names/empty first")["pipeline_id"] == pipeline["pipeline_id"]
    sandbox.client().delete_pipeline_version(pipeline["pipeline_id"], version.pipeline_version_id)
    sandbox.client().delete_pipeline(pipeline["pipeline_id"])


@pytest.mark.parametrize(
    ("content", "params", "message"),
    [
        (b"{not: yaml: [", {"name": "x"}, "Failed to read a pipeline spec file"),
        (b"a: 1", {"name": "x"}, "unknown template format"),
        (b"[" * 20000, {"name": "x"}, "Failed to read a pipeline spec file"),
        (b"\x00\xff\xfe", {"name": "x"}, "Failed to read a pipeline spec file"),
        (b"\x1f\x8b\x08 cut off", {"name": "x"}, "Failed to read a pipeline spec file"),
        (b"- 1", {"name": "x"}, "unknown template format"),
        (b"", {"name": "x"}, "unknown template format"),
        (b'{"pipelineInfo": {"name": "p"}, "root": {"dag": []}}', {"name": "x"}, "unknown template format"),
        (DANGLING, {"name": "x"}, "task a of root has no component"),
        (b"PK\x03\x04 not really", {"name": "x"}, "Failed to read a pipeline spec file"),
        (b"", {"name": "n" * 129}, "Pipeline.Name length cannot exceed 128"),
    ],
)
def test_bad_uploads_are_refused_in_their_own_shape(
    sandbox: KFPSandbox, content: bytes, params: dict[str, str], message: str
) -> None:
    files = {"uploadfile": ("p.yaml", content)}
    answer = sandbox.http("POST", "/apis/v2beta1/pipelines/upload", params=params, files=files)
    assert answer.status_code == 400
    assert set(answer.json()) == {"error_message", "error_details"}
    assert message in answer.json()["error_message"]


def test_an_upload_without_a_file_or_for_no_pipeline(sandbox: KFPSandbox, package: str) -> None:
    answer = sandbox.http("POST", "/apis/v2beta1/pipelines/upload", params={"name": "x"})
    assert (answer.status_code, answer.json()["error_message"]) == (400, "Failed to read pipeline from file")
    with pytest.raises(ApiException) as refused:
        sandbox.client().upload_pipeline_version(package, "v", pipeline_id="no-such-pipeline")
    assert refused.value.status == 400


def test_a_run_of_a_version_names_the_latest_when_none_is_named(sandbox: KFPSandbox, package: str) -> None:
    client = sandbox.client()
    pipeline = client.upload_pipeline(package, pipeline_name="latest")
    newest = client.upload_pipeline_version(package, "newest", pipeline_id=pipeline.pipeline_id)
    experiment = client.create_experiment("versions")
    # `Client.run_pipeline` insists on a version; the server does not.
    run = sandbox.runs_api.run_service_create_run(
        {
            "display_name": "by pipeline",
            "experiment_id": experiment.experiment_id,
            "pipeline_version_reference": {"pipeline_id": pipeline.pipeline_id},
        }
    )
    assert run.pipeline_version_reference.pipeline_version_id == newest.pipeline_version_id
    assert run.pipeline_spec is None
    assert client.get_experiment(experiment.experiment_id).last_run_created_at == run.created_at
    sandbox.wait(run.run_id)


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"labels": {"a": "b"}}, 400, 'unknown field "labels"'),
        ({"runtime_config": {"params": {}}}, 400, 'unknown field "params"'),
        ({"display_name": 3}, 400, "invalid value for string field display_name"),
        ({"display_name": ""}, 500, "Run name cannot be empty"),
        ({"pipeline_spec": None, "pipeline_version_reference": {"pipeline_id": "x"}}, 500, "error fetching manifest"),
        ({"pipeline_spec": {"a": 1}}, 500, "error fetching manifest"),
        ({"experiment_id": "no-such"}, 404, "Experiment no-such not found"),
        ({"runtime_config": {"parameters": {"m": 1}}}, 400, "not required by pipeline: m"),
        ({"runtime_config": {"parameters": {"n": "one"}}}, 400, "requires type double or integer"),
        ({"run_id": "not a label!"}, 500, "invalid label value"),
    ],
)
def test_bad_creates(sandbox: KFPSandbox, package: str, change: dict[str, Any], status: int, message: str) -> None:
    body = {"display_name": "bad", "pipeline_spec": spec(package), **change}
    code, answer = post(sandbox, "runs", **body)
    assert code == status
    assert message in answer["message"]
    assert names(sandbox, "runs", equals("display_name", "bad")) == []


def test_camel_case_is_taken_and_snake_case_answered(sandbox: KFPSandbox, package: str) -> None:
    config = {"parameters": {"n": 2}, "pipelineRoot": str(sandbox.root / "elsewhere")}
    _, run = post(sandbox, "runs", displayName="camel", pipelineSpec=spec(package), runtimeConfig=config)
    assert run["runtime_config"] == {"parameters": {"n": 2}, "pipeline_root": str(sandbox.root / "elsewhere")}
    assert (run["state"], run["finished_at"]) == ("PENDING", "1970-01-01T00:00:00Z")
    assert "description" not in run  # empty fields are left out
    sandbox.wait(run["run_id"])


def test_not_found_has_the_servers_shape(sandbox: KFPSandbox) -> None:
    for path in ("runs/x", "experiments/x", "pipelines/x"):
        answer = sandbox.http("GET", f"/apis/v2beta1/{path}")
        assert answer.status_code == 404
        body = answer.json()
        assert body["code"] == 5
        assert body["details"][0]["@type"] == "type.googleapis.com/google.rpc.Status"
        assert "ResourceNotFoundError" in body["message"]
    for verb in ("terminate", "retry", "archive", "unarchive"):
        assert post(sandbox, f"runs/x:{verb}")[0] == 404


def test_a_run_id_of_ours_is_kept_and_a_second_submit_shows(sandbox: KFPSandbox, tmp_path: Path) -> None:
    package = pipelines.compiled(pipelines.counted, tmp_path)
    body = kfp_server_api.V2beta1Run(
        run_id="5f3a9c1e-0000-5000-8000-000000000001",
        display_name="mine",
        pipeline_spec=spec(package),
        runtime_config=kfp_server_api.V2beta1RuntimeConfig(parameters={"folder": str(tmp_path)}),
    )
    assert sandbox.runs_api.run_service_create_run(body).run_id == body.run_id
    sandbox.wait(body.run_id)
    with pytest.raises(ApiException, match="Failed to store run mine") as refused:
        sandbox.runs_api.run_service_create_run(body)
    assert refused.value.status == 500
    assert sandbox.inside(body.run_id)["executions"] == 2
    # It is not only counted: the component that the cache does not know runs again.
    wait_for(lambda: (tmp_path / "fresh").read_text() == "xx", "the second execution")
    assert names(sandbox, "runs", equals("run_id", body.run_id)) == ["mine"]
    assert "submitted more than once" in sandbox.http("GET", f"/runs/{body.run_id}").text


def test_an_answer_lost_after_the_commit(sandbox: KFPSandbox, package: str) -> None:
    sandbox.trouble(drop_after_commit=1)
    with pytest.raises(urllib3.exceptions.ProtocolError, match="closed connection without response"):
        sandbox.client().create_run_from_pipeline_package(package, run_name="ambiguous", experiment_name="Default")
    (run,) = sandbox.get("runs", filter=json.dumps({"predicates": [equals("display_name", "ambiguous")]}))["runs"]
    assert sandbox.wait(run["run_id"])["state"] == "SUCCEEDED"
    assert sandbox.inside(run["run_id"])["executions"] == 1
    sandbox.trouble(unavailable=1)
    assert sandbox.http("GET", "/apis/v2beta1/runs").status_code == 503
    assert sandbox.http("GET", "/apis/v2beta1/runs").status_code == 200
    assert sandbox.http("POST", "/sandbox/faults", json={"fire": 1}).status_code == 400


def test_filters(sandbox: KFPSandbox) -> None:
    ids = {name: post(sandbox, "experiments", display_name=name)[1]["experiment_id"]
           for name in ("Filter-A", "filter-b", "filterXc")}  # fmt: skip
    one = sandbox.get(f"experiments/{ids['Filter-A']}")

    def found(operation: str | int, key: str, **value: Any) -> set[str]:
        predicate = {"operation": operation, "key": key, **value}
        return set(names(sandbox, "experiments", predicate, page_size=100)) & set(ids)

    assert found("EQUALS", "display_name", stringValue="filter-a") == {"Filter-A"}  # MySQL ignores case
    assert found(2, "name", string_value="Filter-A") == {"filter-b", "filterXc"}
    assert found("IS_SUBSTRING", "display_name", stringValue="FILTER-") == {"Filter-A", "filter-b"}
    assert found(9, "display_name", stringValue="filter_") == set(ids)  # LIKE's wildcard
    both = {"values": ["filter-b", "FILTERXC", "other"]}
    assert found("IN", "display_name", stringValues=both) == {"filter-b", "filterXc"}
    assert found("GREATER_THAN_EQUALS", "created_at", timestampValue=one["created_at"]) == set(ids)
    assert found("GREATER_THAN", "created_at", timestampValue="2126-01-01T00:00:00Z") == set()
    assert found("LESS_THAN", "created_at", long_value="4922553600") == set(ids)
    assert found(7, "last_run_created_at", intValue=0) == set(ids)
    assert names(sandbox, "experiments", equals("id", ids["filter-b"]), equals("storage_state", "AVAILABLE")) == [
        "filter-b"
    ]
    assert names(sandbox, "experiments", equals("id", ids["filter-b"]), equals("storage_state", "ARCHIVED")) == []


@pytest.mark.parametrize(
    ("filter_", "message"),
    [
        ('{"predicates":[{"operation":"EQUALS","key":"pipeline_id","stringValue":"x"}]}', "unrecognized field"),
        ('{"predicates":[{"operation":"IN","key":"name","stringValue":"x"}]}', "cannot use IN operator with scalar"),
        ('{"predicates":[{"operation":"EQUALS","key":"name","stringValues":{"values":["x"]}}]}', "on array type"),
        ('{"predicates":[{"operation":9,"key":"created_at","intValue":1}]}', "non string value type"),
        ('{"predicates":[{"operation":4,"key":"name","stringValue":"x"}]}', "Predicate.Operation"),
        ('{"predicates":[{"operation":1,"key":"name"}]}', "failed to parse"),
        ('{"predicates":[{"operation":1,"key":"name","value":"x"}]}', "failed to parse"),
        ('{"predicate":[]}', "failed to parse"),
        ("[", "failed to parse"),
        ('{"predicates":[{"operation":1,"key":"name","stringValue":"100%"}]}', "invalid URL escape"),
    ],
)
def test_filters_that_are_refused(sandbox: KFPSandbox, filter_: str, message: str) -> None:
    answer = sandbox.http("GET", "/apis/v2beta1/runs", params={"filter": filter_})
    assert answer.status_code == 400
    assert message in answer.json()["message"]


def test_pages_and_order(sandbox: KFPSandbox) -> None:
    wanted = [f"paged-{number:02}" for number in range(25)]
    for name in wanted:
        post(sandbox, "experiments", display_name=name)
    only = {"operation": "IS_SUBSTRING", "key": "name", "stringValue": "paged-"}
    query = {"filter": json.dumps({"predicates": [only]}), "sort_by": "name desc"}
    page = sandbox.get("experiments", **query)
    assert (len(page["experiments"]), page["total_size"]) == (20, 25)  # 20 when nobody says
    # A row that appears meanwhile moves no page; the token alone is enough.
    post(sandbox, "experiments", display_name="paged-99")
    rest = sandbox.get("experiments", page_token=page["next_page_token"])
    seen = [row["display_name"] for row in (*page["experiments"], *rest["experiments"])]
    assert seen == wanted[::-1]
    assert "next_page_token" not in rest
    assert len(sandbox.get("experiments", page_token=page["next_page_token"], page_size=2, **query)["experiments"]) == 2
    for bad in (
        {"page_token": page["next_page_token"], "sort_by": "name asc"},
        {"page_token": "nonsense"}, {"page_size": -1}, {"page_size": "many"}, {"sort_by": "colour"},
        {"sort_by": "name up"}, {"page_token": page_token("", "", "now", "x")}, {"page_token": page_token(1, 2, 3, 4)},
        {"page_token": page_token("", "", {}, "x")}, {"page_token": page_token("name", '{"predicates":[1]}', "x", "x")},
        {"page_token": base64.b64encode(b"[" * 20000).decode()}, {"page_token": "é"}, {"page_token": "a" * 30000},
    ):  # fmt: skip
        assert sandbox.http("GET", "/apis/v2beta1/experiments", params=bad).status_code == 400
    listed = sandbox.client().list_experiments(page_size=10, sort_by="name asc", filter=query["filter"])
    assert [each.display_name for each in listed.experiments] == wanted[:10]


def test_runs_are_listed_by_experiment_and_state_and_can_be_deleted(sandbox: KFPSandbox, package: str) -> None:
    client = sandbox.client()
    experiment = client.create_experiment("listing runs")
    run_id = client.create_run_from_pipeline_package(
        package, run_name="only", experiment_id=experiment.experiment_id
    ).run_id
    sandbox.wait(run_id)
    runs = client.list_runs(experiment_id=experiment.experiment_id)
    assert ([run.run_id for run in runs.runs], runs.total_size) == ([run_id], 1)
    state = json.dumps({"predicates": [equals("state", "FAILED")]})
    assert client.list_runs(experiment_id=experiment.experiment_id, filter=state).runs is None
    client.archive_run(run_id)  # an archived run is listed unless a filter says otherwise
    assert client.list_runs(experiment_id=experiment.experiment_id).runs[0].storage_state == "ARCHIVED"
    available = json.dumps({"predicates": [equals("storage_state", "AVAILABLE")]})
    assert client.list_runs(experiment_id=experiment.experiment_id, filter=available).runs is None
    client.delete_run(run_id)
    assert sandbox.get("runs", experiment_id=experiment.experiment_id) == {}


def test_recurring_runs_through_their_life(sandbox: KFPSandbox, package: str) -> None:
    client = sandbox.client()
    experiment = client.create_experiment("recurring")
    pipeline = client.upload_pipeline(package, "recurring-pipeline")
    (version,) = client.list_pipeline_versions(pipeline.pipeline_id).pipeline_versions
    cron = client.create_recurring_run(
        experiment.experiment_id, "nightly", cron_expression="0 0 3 * * *", params={"n": 1}, max_concurrency=2,
        pipeline_id=pipeline.pipeline_id, version_id=version.pipeline_version_id, no_catchup=True,
    )  # fmt: skip
    assert (cron.status, cron.mode, cron.max_concurrency) == ("ENABLED", "ENABLE", "2")
    assert (cron.trigger.cron_schedule.cron, cron.no_catchup) == ("0 0 3 * * *", True)
    assert cron.pipeline_version_reference.pipeline_version_id == version.pipeline_version_id
    hourly = client.create_recurring_run(
        experiment.experiment_id, "nightly", interval_second=3600, pipeline_package_path=package, params={"n": 1},
        enabled=False,
    )  # fmt: skip
    assert (hourly.status, hourly.trigger.periodic_schedule.interval_second) == ("DISABLED", "3600")
    assert hourly.pipeline_spec["pipelineInfo"]["name"] == "outer"
    listed = client.list_recurring_runs(experiment_id=experiment.experiment_id)
    assert {each.recurring_run_id for each in listed.recurring_runs} == {cron.recurring_run_id, hourly.recurring_run_id}
    assert "recurringRuns" in sandbox.get("recurringruns")
    client.disable_recurring_run(cron.recurring_run_id)
    client.enable_recurring_run(hourly.recurring_run_id)
    client.enable_recurring_run(hourly.recurring_run_id)
    assert client.get_recurring_run(cron.recurring_run_id).status == "DISABLED"
    assert client.get_recurring_run(hourly.recurring_run_id).status == "ENABLED"
    client.delete_recurring_run(cron.recurring_run_id)
    with pytest.raises(ApiException) as gone:
        client.get_recurring_run(cron.recurring_run_id)
    assert gone.value.status == 404


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"display_name": ""}, 500),
        ({"experiment_id": "nowhere"}, 404),
        ({"trigger": {"cron_schedule": {"cron": "0 3 * * *"}}}, 400),
        ({"trigger": {"periodic_schedule": {"interval_second": "0"}}}, 400),
        ({"max_concurrency": "11"}, 400),
        ({"max_concurrency": "many"}, 400),
        ({"mode": "SOMETIMES"}, 400),
        ({"labels": {}}, 400),
        ({"pipeline_version_reference": {"pipeline_id": "nowhere"}, "pipeline_spec": None}, 500),
    ],
    ids=str,
)
def test_recurring_runs_that_are_refused(
    sandbox: KFPSandbox, package: str, change: dict[str, Any], status: int
) -> None:  # fmt: skip
    good = {
        "display_name": "refused", "pipeline_spec": spec(package), "runtime_config": {"parameters": {"n": 1}},
        "trigger": {"cron_schedule": {"cron": "0 0 3 * * *"}}, "max_concurrency": "1", "mode": "ENABLE",
    }  # fmt: skip
    before = len(sandbox.get("recurringruns").get("recurringRuns", []))
    assert post(sandbox, "recurringruns", **{**good, **change})[0] == status
    assert len(sandbox.get("recurringruns").get("recurringRuns", [])) == before
