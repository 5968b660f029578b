from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from urllib.parse import unquote_plus

import httpx
import pytest

from mlfleet.clients.kfp import KFPClient, Predicate
from mlfleet.errors import (
    AuthError,
    Conflict,
    NotFound,
    OutcomeUnknown,
    RequestRefused,
    TransientError,
    UnexpectedAnswer,
)

from .support import Server, Step, answer, client, run

R = "3f2c9a1e-0000-4000-8000-000000000001"
MISSING = answer({"code": 5, "message": "run not found", "details": []}, 404)


def kfp(*steps: Step, namespace: str | None = None) -> tuple[KFPClient, Server]:
    server = Server(*steps)
    return KFPClient(client(server, url="http://remote:8000/pipeline", system="kfp"), namespace=namespace), server


def create(c: KFPClient):
    return c.create_run(run_id=R, display_name="n", experiment_id="e", pipeline_spec={"root": {}})


CALLS = {
    "healthz": (True, lambda c: c.healthz()),
    "find_experiment": (True, lambda c: c.find_experiment("e")),
    "ensure_experiment": (True, lambda c: c.ensure_experiment("e")),
    "get_pipeline_by_name": (True, lambda c: c.get_pipeline_by_name("p")),
    "ensure_pipeline": (True, lambda c: c.ensure_pipeline("p")),
    "upload_pipeline_version": (False, lambda c: c.upload_pipeline_version("i", "v", b"x")),
    "ensure_version": (True, lambda c: c.ensure_version("i", "v", b"x")),
    "find_version": (True, lambda c: c.find_version("i", "v")),
    "list_versions": (True, lambda c: c.list_versions("i")),
    "create_run": (False, create),
    "get_run": (True, lambda c: c.get_run(R)),
    "list_runs": (True, lambda c: c.list_runs()),
    "delete_version": (True, lambda c: c.delete_version("i", "v")),
    "unfinished_runs": (True, lambda c: c.unfinished_runs()),
    "find_runs": (True, lambda c: c.find_runs("n")),
    "runs_by_id": (True, lambda c: c.runs_by_id([R])),
    "terminate": (True, lambda c: c.terminate(R)),
    "retry": (False, lambda c: c.retry(R)),
    "node_log": (True, lambda c: c.node_log(R, "n")),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("failure", [httpx.ReadTimeout(""), answer({"message": "x"}, 500)], ids=["time-out", "500"])
def test_every_call_is_repeated_only_if_it_may_be(name, failure):
    repeatable, call = CALLS[name]
    kfp_client, server = kfp(failure)

    with pytest.raises(TransientError) as caught:
        run(call(kfp_client))

    assert len(server.requests) == (5 if repeatable else 1)
    assert isinstance(caught.value, OutcomeUnknown) is not repeatable
    assert server.last.url.path.startswith("/pipeline/apis/")


@pytest.mark.parametrize("name", CALLS)
def test_every_call_refuses_a_login_page(name):
    repeatable, call = CALLS[name]
    kfp_client, _ = kfp(httpx.Response(200, html="<html>login</html>"))
    with pytest.raises(UnexpectedAnswer if repeatable else OutcomeUnknown, match=r"(?i)html"):
        run(call(kfp_client))


def test_a_bad_create_is_not_repeated_and_keeps_the_server_s_words():
    kfp_client, server = kfp(answer({"code": 13, "message": "Run name cannot be empty"}, 500))
    with pytest.raises(OutcomeUnknown, match="Run name cannot be empty") as caught:
        run(create(kfp_client))
    assert len(server.requests) == 1
    assert caught.value.status == 500


def test_create_run_sends_what_the_reference_says():
    kfp_client, server = kfp(answer({"run_id": R, "state": "PENDING"}))
    made = run(
        kfp_client.create_run(
            run_id=R,
            display_name="job-1",
            experiment_id="e",
            pipeline_version_reference={"pipeline_id": "p", "pipeline_version_id": "v"},
            parameters={"rows": 3},
            pipeline_root="file:///data",
            service_account="sa",
        )
    )
    assert server.last.url.path == "/pipeline/apis/v2beta1/runs"
    # Unknown and null fields are refused by the server: nothing more than this may be sent.
    assert server.body() == {
        "run_id": R,
        "display_name": "job-1",
        "experiment_id": "e",
        "pipeline_version_reference": {"pipeline_id": "p", "pipeline_version_id": "v"},
        "runtime_config": {"parameters": {"rows": 3}, "pipeline_root": "file:///data"},
        "service_account": "sa",
    }
    assert made.run_id == R


def test_create_run_from_a_spec_needs_no_runtime_config():
    kfp_client, server = kfp(answer({"run_id": R}))
    run(create(kfp_client))
    assert server.body() == {"run_id": R, "display_name": "n", "experiment_id": "e", "pipeline_spec": {"root": {}}}


def test_a_live_run_has_no_end_and_an_absent_state_is_running():
    kfp_client, _ = kfp(
        answer(
            {
                "run_id": R,
                "state": "running",
                "finished_at": "1970-01-01T00:00:00Z",
                "created_at": "2026-11-23T00:00:00Z",
            }
        ),
        answer({"run_id": R}),
    )
    live = run(kfp_client.get_run(R))
    assert (live.state, live.is_final, live.finished_at) == ("RUNNING", False, None)
    assert live.created_at == datetime(2026, 11, 23, tzinfo=UTC)
    absent = run(kfp_client.get_run(R))
    assert (absent.state, absent.is_final) == ("RUNTIME_STATE_UNSPECIFIED", False)


@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED", "SKIPPED", "CANCELED", "failed"])
def test_final_states(state):
    kfp_client, _ = kfp(answer({"run_id": R, "state": state}))
    assert run(kfp_client.get_run(R)).is_final


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "CANCELING", "PAUSED", "SOMETHING_NEW"])
def test_states_that_are_not_final(state):
    kfp_client, _ = kfp(answer({"run_id": R, "state": state}))
    assert not run(kfp_client.get_run(R)).is_final


def test_tasks_are_read_with_the_name_that_logs_want():
    failed = {"task_id": "t1", "display_name": "train", "state": "FAILED", "execution_id": "42", "pod_name": "pod-1"}
    details = [
        {**failed, "error": {"message": "boom"}},
        {"task_id": "t2", "display_name": "eval", "child_tasks": [{"task_id": "x"}, {"pod_name": "pod-2"}]},
        {"task_id": "t3", "display_name": "root"},
    ]
    kfp_client, _ = kfp(answer({"run_id": R, "run_details": {"task_details": details}, "error": {"message": "failed"}}))
    got = run(kfp_client.get_run(R))
    assert [(t.display_name, t.node_id, t.error) for t in got.tasks] == [
        ("train", "pod-1", "boom"),
        ("eval", "pod-2", ""),
        ("root", "t3", ""),
    ]
    assert got.error == "failed"


def test_a_missing_run_is_not_found():
    kfp_client, _ = kfp(MISSING)
    with pytest.raises(NotFound, match="run not found"):
        run(kfp_client.get_run(R))


def test_predicates():
    at = datetime(2026, 11, 1, tzinfo=UTC)
    predicates = [
        Predicate("display_name", "x"),
        Predicate("created_at", at, "GREATER_THAN_EQUALS"),
        Predicate("n", 5, "LESS_THAN"),
        Predicate("run_id", ["a", "b"], "IN"),
    ]
    kfp_client, server = kfp(answer({}))
    page = run(kfp_client.list_runs(predicates, experiment_id="e"))
    assert (page.runs, page.next_page_token) == ((), "")
    assert json.loads(unquote_plus(server.query()["filter"])) == {
        "predicates": [
            {"operation": "EQUALS", "key": "display_name", "string_value": "x"},
            {"operation": "GREATER_THAN_EQUALS", "key": "created_at", "timestamp_value": "2026-11-01T00:00:00+00:00"},
            {"operation": "LESS_THAN", "key": "n", "long_value": "5"},
            {"operation": "IN", "key": "run_id", "string_values": {"values": ["a", "b"]}},
        ]
    }
    assert server.query()["experiment_id"] == "e"


def test_an_unknown_filter_key_is_refused():
    kfp_client, _ = kfp(answer({"code": 3, "message": "no support for filtering on unrecognized field"}, 400))
    with pytest.raises(RequestRefused, match="unrecognized field"):
        run(kfp_client.list_runs([Predicate("labels", "x")]))


def test_find_runs_pages_and_compares_exactly():
    kfp_client, server = kfp(
        answer({"runs": [{"run_id": "1", "display_name": "Job"}], "next_page_token": "t"}),
        answer({"runs": [{"run_id": "2", "display_name": "job"}]}),
    )
    assert [r.run_id for r in run(kfp_client.find_runs("job", "e"))] == ["2"]
    assert server.query(1)["page_token"] == "t"
    assert server.query(0)["sort_by"] == "created_at asc"


def test_many_runs_are_read_in_few_requests():
    kfp_client, server = kfp(answer({"runs": [{"run_id": R, "state": "RUNNING"}]}))
    assert set(run(kfp_client.runs_by_id([str(uuid.UUID(int=i)) for i in range(150)]))) == {R}
    assert len(server.requests) == 2
    assert all(len(str(r.url)) < 8000 for r in server.requests)  # what proxies take


def test_a_poll_reads_no_more_of_a_run_than_it_needs():
    told = {
        "run_id": R, "state": "FAILED", "created_at": "2026-11-01T00:00:00Z", "error": {"message": "no disk"},
        "pipeline_spec": {"root": {}}, "run_details": {"task_details": [{"task_id": "t", "state": "FAILED"}]},
    }  # fmt: skip
    kfp_client, _ = kfp(answer({"runs": [told]}))
    seen = run(kfp_client.runs_by_id([R]))[R].read()
    assert (seen.state, seen.error, seen.created_at) == ("FAILED", "no disk", datetime(2026, 11, 1, tzinfo=UTC))
    assert seen.tasks == ()


@pytest.mark.parametrize("runs", [["no run"], {"run_id": R}, [{"state": "RUNNING"}]])
def test_a_poll_that_is_no_list_of_runs_is_unexpected(runs):
    kfp_client, _ = kfp(answer({"runs": runs}))
    with pytest.raises(UnexpectedAnswer):
        run(kfp_client.runs_by_id([R]))


def test_the_namespace_is_sent_where_it_is_needed():
    kfp_client, server = kfp(answer({}), namespace="team-a")
    run(kfp_client.list_runs())
    assert server.query()["namespace"] == "team-a"
    run(kfp_client.find_experiment("x"))
    assert server.query()["namespace"] == "team-a"
    single, server = kfp(answer({}), namespace="")
    run(single.list_runs())
    assert "namespace" not in server.query()


EXPERIMENT = {"experiment_id": "e1", "display_name": "Default"}


def test_an_experiment_is_found_exactly():
    kfp_client, server = kfp(answer({"experiments": [{"experiment_id": "e0", "display_name": "default"}, EXPERIMENT]}))
    assert run(kfp_client.ensure_experiment("Default")) == "e1"
    assert [r.method for r in server.requests] == ["GET"]


def test_an_experiment_is_created_and_losing_the_race_is_fine():
    kfp_client, server = kfp(answer({}), answer(EXPERIMENT))
    assert run(kfp_client.ensure_experiment("Default")) == "e1"
    assert server.body() == {"display_name": "Default"}
    lost, _ = kfp(answer({}), answer({"code": 6, "message": "exists"}, 409), answer({"experiments": [EXPERIMENT]}))
    assert run(lost.ensure_experiment("Default")) == "e1"
    odd, _ = kfp(answer({}), answer({"code": 6, "message": "exists"}, 409), answer({}))
    with pytest.raises(Conflict):
        run(odd.ensure_experiment("Default"))


PIPELINE = {"pipeline_id": "p1", "display_name": "churn"}


def test_a_pipeline_is_found_or_created_empty():
    kfp_client, server = kfp(answer(PIPELINE))
    assert run(kfp_client.ensure_pipeline("churn")).pipeline_id == "p1"
    assert server.last.url.path == "/pipeline/apis/v2beta1/pipelines/names/churn"
    created, server = kfp(MISSING, answer(PIPELINE))
    assert run(created.ensure_pipeline("churn")).name == "churn"
    assert server.last.url.path == "/pipeline/apis/v2beta1/pipelines"
    lost, _ = kfp(MISSING, answer({"message": "exists"}, 409), answer(PIPELINE))
    assert run(lost.ensure_pipeline("churn")).pipeline_id == "p1"
    odd, _ = kfp(MISSING, answer({"message": "exists"}, 409), MISSING)
    with pytest.raises(Conflict):
        run(odd.ensure_pipeline("churn"))


VERSION = {"pipeline_id": "p1", "pipeline_version_id": "v1", "name": "main_abc", "pipeline_spec": {"root": {}}}


def test_a_version_is_uploaded_as_a_form():
    kfp_client, server = kfp(answer(VERSION))
    version = run(kfp_client.upload_pipeline_version("p1", "main_abc", b"root: {}\n", "why"))
    assert server.last.url.path == "/pipeline/apis/v2beta1/pipelines/upload_version"
    assert server.query() == {"name": "main_abc", "pipelineid": "p1", "description": "why"}
    assert server.last.headers["Content-Type"].startswith("multipart/form-data; boundary=")
    assert b'name="uploadfile"; filename="pipeline.yaml"' in server.last.content
    assert b"root: {}\n" in server.last.content
    assert (version.version_id, version.spec) == ("v1", {"root": {}})


def test_a_bad_package_is_refused_in_the_upload_s_own_shape():
    kfp_client, _ = kfp(answer({"error_message": "unknown template format", "error_details": "..."}, 400))
    with pytest.raises(RequestRefused, match="unknown template format"):
        run(kfp_client.upload_pipeline_version("p1", "v", b"x"))


def test_a_version_that_exists_is_not_uploaded_again():
    kfp_client, server = kfp(answer({"pipeline_versions": [VERSION]}))
    version, uploaded = run(kfp_client.ensure_version("p1", "main_abc", b"x"))
    assert (version.version_id, uploaded) == ("v1", False)
    assert [r.method for r in server.requests] == ["GET"]


@pytest.mark.parametrize("lost", [answer({"error_message": "exists"}, 409), httpx.ReadTimeout("")])
def test_an_upload_whose_answer_was_lost_is_looked_up(lost):
    kfp_client, server = kfp(answer({}), lost, answer({"pipeline_versions": [VERSION]}))
    assert run(kfp_client.ensure_version("p1", "main_abc", b"x"))[0].version_id == "v1"
    assert [r.method for r in server.requests] == ["GET", "POST", "GET"]
    gone, _ = kfp(answer({}), lost, answer({}))
    with pytest.raises((Conflict, OutcomeUnknown)):
        run(gone.ensure_version("p1", "main_abc", b"x"))


def test_versions_are_paged():
    kfp_client, server = kfp(
        answer({"pipeline_versions": [VERSION], "next_page_token": "t"}), answer({"pipeline_versions": [VERSION]})
    )
    assert len(run(kfp_client.list_versions("p1"))) == 2
    assert "filter" not in server.query()


def test_the_first_versions_are_enough_for_who_asks_for_few():
    kfp_client, server = kfp(answer({"pipeline_versions": [VERSION, VERSION], "next_page_token": "t"}))
    assert len(run(kfp_client.list_versions("p1", most=1))) == 1
    assert server.query()["page_size"] == "1"


def test_a_version_that_is_gone_is_deleted():
    kfp_client, server = kfp(httpx.ReadTimeout(""), answer({"code": 5, "message": "not found"}, 404))
    run(kfp_client.delete_version("p1", "v1"))
    assert [r.method for r in server.requests] == ["DELETE", "DELETE"]
    refused, _ = kfp(answer({"code": 7, "message": "no"}, 403))
    with pytest.raises(AuthError):
        run(refused.delete_version("p1", "v1"))


def test_unfinished_runs_leave_every_final_state_out():
    kfp_client, server = kfp(answer({"runs": [{"run_id": R, "state": "RUNNING"}]}))
    assert [each.run_id for each in run(kfp_client.unfinished_runs())] == [R]
    told = json.loads(unquote_plus(server.query()["filter"]))["predicates"]
    assert {each["string_value"] for each in told} == {"SUCCEEDED", "FAILED", "SKIPPED", "CANCELED"}
    assert {(each["key"], each["operation"]) for each in told} == {("state", "NOT_EQUALS")}


def test_terminate():
    kfp_client, server = kfp(answer({}))
    assert run(kfp_client.terminate(R)) is True
    assert server.last.url.path == f"/pipeline/apis/v2beta1/runs/{R}:terminate"
    finished, _ = kfp(answer({"message": "Row not found"}, 400), answer({"run_id": R, "state": "SUCCEEDED"}))
    assert run(finished.terminate(R)) is False
    ending, _ = kfp(answer({"message": "Row not found"}, 400), answer({"run_id": R, "state": "CANCELING"}))
    assert run(ending.terminate(R)) is True
    refused, _ = kfp(answer({"message": "bad"}, 400), answer({"run_id": R, "state": "RUNNING"}))
    with pytest.raises(RequestRefused, match="bad"):
        run(refused.terminate(R))
    with pytest.raises(NotFound):
        run(kfp(MISSING)[0].terminate(R))
    with pytest.raises(RequestRefused):
        run(kfp(answer({}, 403))[0].terminate(R))


def test_retry():
    kfp_client, server = kfp(answer({}))
    run(kfp_client.retry(R))
    assert server.last.url.path == f"/pipeline/apis/v2beta1/runs/{R}:retry"


def test_a_log_is_text():
    kfp_client, server = kfp(
        httpx.Response(200, content="naïve\nline 2\n".encode(), headers={"Content-Type": "text/plain"})
    )
    assert run(kfp_client.node_log(R, "pod-1")) == "naïve\nline 2\n"
    assert server.last.url.path == f"/pipeline/apis/v1alpha1/runs/{R}/nodes/pod-1/log"
    with pytest.raises(NotFound):
        run(kfp(MISSING)[0].node_log(R, "pod-1"))


def test_an_error_in_place_of_a_log_is_no_log():
    told = {"error_message": "Failed to read logs from pod pod-1: not found", "error_details": "x"}
    kfp_client, _ = kfp(httpx.Response(200, content=json.dumps(told).encode(), headers={"Content-Type": "text/plain"}))
    with pytest.raises(NotFound, match="Failed to read logs from pod pod-1"):
        run(kfp_client.node_log(R, "pod-1"))


@pytest.mark.parametrize(
    "text", ['{"error_message": 1}', '{"error_', '{"loss": 1}', '{"error_message": "x"}\nmore', ""]
)
def test_a_log_that_looks_like_json_is_a_log(text):
    kfp_client, _ = kfp(httpx.Response(200, content=text.encode(), headers={"Content-Type": "text/plain"}))
    assert run(kfp_client.node_log(R, "pod-1")) == text


def test_the_page_of_a_run():
    kfp_client, _ = kfp(answer({}))
    assert kfp_client.run_url(R) == f"http://remote:8000/pipeline/#/runs/details/{R}"
