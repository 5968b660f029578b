"""The clients that fleet commands use: Polyaxon's projects, KFP's catalog, Airflow's pools, Spinnaker's pipelines."""

from __future__ import annotations

import json

import httpx
import pytest

from mlfleet.clients.airflow import AirflowClient, AirflowPool
from mlfleet.clients.kfp_catalog import KFPCatalog, RecurringRun
from mlfleet.clients.polyaxon_projects import PolyaxonProject, PolyaxonProjects
from mlfleet.clients.spinnaker_configs import SpinnakerConfigs
from mlfleet.errors import Conflict, NotFound, RequestRefused, TransientError, UnexpectedAnswer

from .support import Server, Time, answer, client, run

POOL = AirflowPool("gpu", 4, "for training", True)
CALLS = {
    AirflowClient: {
        "list_pools": lambda c: c.list_pools(),
        "create_pool": lambda c: c.create_pool(POOL),
        "update_pool": lambda c: c.update_pool(POOL),
        "delete_pool": lambda c: c.delete_pool("gpu"),
    },
    KFPCatalog: {
        "list_experiments": lambda c: c.list_experiments(),
        "create_experiment": lambda c: c.create_experiment("p.default", "why"),
        "archive_experiment": lambda c: c.archive_experiment("e"),
        "unarchive_experiment": lambda c: c.unarchive_experiment("e"),
        "list_recurring_runs": lambda c: c.list_recurring_runs(),
        "disable_recurring_run": lambda c: c.disable_recurring_run("r"),
        "pipeline_names": lambda c: c.pipeline_names(),
    },
    PolyaxonProjects: {
        "list_projects": lambda c: c.list_projects(),
        "create_project": lambda c: c.create_project("p", "d", ["t"]),
        "update_project": lambda c: c.update_project("p", "d", ["t"]),
        "archive_project": lambda c: c.archive_project("p"),
        "restore_project": lambda c: c.restore_project("p"),
    },
    SpinnakerConfigs: {
        "list_applications": lambda c: c.list_applications(),
        "list_pipeline_configs": lambda c: c.list_pipeline_configs(),
        "save_application": lambda c: c.save_application("app", {"email": "a@example.com"}),
        "save_pipeline": lambda c: c.save_pipeline({"id": "1"}),
    },
}
EVERY = [(kind, name) for kind, calls in CALLS.items() for name in calls]
ids = pytest.mark.parametrize(("kind", "name"), EVERY, ids=lambda value: getattr(value, "__name__", value))


@ids
@pytest.mark.parametrize("failure", [httpx.ReadTimeout(""), answer({}, 500)], ids=["time-out", "500"])
def test_every_call_may_be_sent_again(kind, name, failure):
    """All of them set a state, or make what has a unique name: a lost answer can make no second thing."""
    server = Server(failure)
    with pytest.raises(TransientError):
        run(CALLS[kind][name](kind(client(server))))
    assert len(server.requests) == 5


# What `save_pipeline` answers is not looked at: Gate says an empty 200 where all went well.
@pytest.mark.parametrize(("kind", "name"), [each for each in EVERY if each[1] != "save_pipeline"])
def test_a_login_page_is_no_answer(kind, name):
    server = Server(httpx.Response(200, html="<html>login</html>"))
    with pytest.raises(UnexpectedAnswer, match="text/html"):
        run(CALLS[kind][name](kind(client(server))))


def test_projects_are_read_a_hundred_at_a_time():
    rows = [{"name": f"p{n:03}", "description": None, "tags": None} for n in range(150)]
    pages = [answer({"count": 150, "results": rows[:100]}), answer({"count": 150, "results": rows[100:]})]
    server = Server(*pages)
    found = run(PolyaxonProjects(client(server)).list_projects())
    assert [project.name for project in found] == [row["name"] for row in rows]
    assert found[0] == PolyaxonProject("p000")
    assert server.query(0) == {"limit": "100", "sort": "name"}
    assert server.query(1) == {"limit": "100", "sort": "name", "offset": "100"}
    run(PolyaxonProjects(client(server := Server(answer({"count": 0, "results": []})))).list_projects(archived=True))
    assert server.query()["query"] == "live_state:0"


@pytest.mark.parametrize("words", ['{"name":["project with this name already exists."]}',
                                   '["A project with name p already exists."]'])  # fmt: skip
def test_a_name_that_is_taken_is_said_and_no_error(words):
    server = Server(answer(json.loads(words), 400))
    assert run(PolyaxonProjects(client(server)).create_project("p", "", [])) is False
    assert run(PolyaxonProjects(client(Server(answer({}, 201)))).create_project("p", "", [])) is True


def test_a_name_that_polyaxon_keeps_is_an_error():
    server = Server(answer({"name": ["The name is a reserved word or already taken."]}, 400))
    with pytest.raises(RequestRefused, match="reserved word"):
        run(PolyaxonProjects(client(server)).create_project("projects", "", []))


def test_an_experiment_that_somebody_made_meanwhile_is_taken():
    server = Server(answer({"code": 6}, 409), answer({"experiments": [{"experiment_id": "e", "display_name": "x"}]}))
    assert run(KFPCatalog(client(server), "team").create_experiment("x")) == "e"
    assert server.body(0) == {"display_name": "x", "namespace": "team"}
    # Servers on MySQL compare names without regard to case: then there is none of exactly this name.
    server = Server(answer({"code": 6}, 409), answer({"experiments": [{"experiment_id": "e", "display_name": "X"}]}))
    with pytest.raises(Conflict):
        run(KFPCatalog(client(server)).create_experiment("x"))


def test_lists_of_kfp_follow_their_tokens_and_name_the_namespace():
    server = Server(
        answer({"experiments": [{"experiment_id": "1", "display_name": "a", "storage_state": "ARCHIVED"}],
                "next_page_token": "t"}),
        answer({}),
    )  # fmt: skip
    (found,) = run(KFPCatalog(client(server), "team").list_experiments())
    assert (found.name, found.archived) == ("a", True)
    assert server.query(1) == {
        "namespace": "team", "page_size": "200", "page_token": "t", "sort_by": "created_at asc",
    }  # fmt: skip


def test_recurring_runs():
    rows = [
        {"recurring_run_id": "1", "display_name": "nightly", "status": "ENABLED", "experiment_id": "e",
         "trigger": {"cron_schedule": {"cron": "0 0 3 * * *"}}, "pipeline_version_reference": {"pipeline_id": "p"}},
        {"recurring_run_id": "2", "display_name": "hourly", "status": "DISABLED",
         "trigger": {"periodic_schedule": {"interval_second": "3600"}},
         "pipeline_spec": {"pipeline_spec": {"pipelineInfo": {"name": "train"}}}},
    ]  # fmt: skip
    found = run(KFPCatalog(client(Server(answer({"recurringRuns": rows})))).list_recurring_runs())
    assert found == [
        RecurringRun("1", "nightly", True, "0 0 3 * * *", "e", "p", ""),
        RecurringRun("2", "hourly", False, "every 3600 s", "", "", "train"),
    ]


TOKEN = answer({"access_token": "jwt-1234567890"}, 201)


@pytest.mark.parametrize(
    ("login", "password", "calls", "authorization"),
    [
        ("alice", "pa55-w0rd", ["POST /auth/token", "GET /api/v2/pools"], "Bearer jwt-1234567890"),
        ("", "", ["GET /auth/token", "GET /api/v2/pools"], "Bearer jwt-1234567890"),
        ("", "ready-t0ken", ["GET /api/v2/pools"], "Bearer ready-t0ken"),
    ],
)
def test_airflow_is_asked_for_a_token_once(login, password, calls, authorization):
    steps = [TOKEN] if len(calls) == 2 else []
    server = Server(*steps, answer({"pools": [], "total_entries": 0}))
    airflow = AirflowClient(client(server), login, password)
    assert run(airflow.list_pools()) == []
    assert [f"{request.method} {request.url.path}" for request in server.requests] == calls
    assert server.last.headers["authorization"] == authorization


def test_no_message_repeats_the_token_of_airflow():
    server = Server(TOKEN, lambda request: answer({"detail": f"not with {request.headers['authorization']}"}, 403))
    with pytest.raises(RequestRefused) as caught:
        run(AirflowClient(client(server), "alice", "pa55-w0rd").list_pools())
    assert "jwt-1234567890" not in f"{caught.value} {caught.value.body}"


def test_a_pool_is_made_or_set():
    server = Server(TOKEN, answer({"detail": "exists"}, 409), answer({}))
    run(AirflowClient(client(server), "a", "pa55-w0rd").create_pool(POOL))
    rest = {"slots": 4, "description": "for training", "include_deferred": True}
    assert (server.body(1), server.body(2)) == ({"name": "gpu", **rest}, {"pool": "gpu", **rest})
    assert server.last.url.path == "/api/v2/pools/gpu"


def test_a_pool_that_is_gone_is_deleted():
    run(AirflowClient(client(Server(TOKEN, answer({}, 404)))).delete_pool("gpu"))
    with pytest.raises(NotFound):
        run(AirflowClient(client(Server(TOKEN, answer({}, 404)))).update_pool(POOL))


def task(status, *errors):
    variables = [{"key": "exception", "value": {"details": {"errors": list(errors)}}}] if errors else []
    return answer({"id": "t", "status": status, "variables": variables})


def test_an_application_is_followed_to_its_end():
    time = Time()
    server = Server(answer({"ref": "/tasks/t"}), task("NOT_STARTED"), task("RUNNING"), task("SUCCEEDED"))
    run(SpinnakerConfigs(client(server), time.sleep).save_application("app", {"email": "a@example.com"}))
    assert server.requests[0].url.path == "/applications/app/tasks"
    assert server.body(0)["job"] == [
        {"type": "createApplication", "application": {"name": "app", "email": "a@example.com"}}
    ]
    assert len(time.sleeps) == 2
    server = Server(answer({"ref": "/tasks/t"}), task("TERMINAL", "no account"))
    with pytest.raises(RequestRefused, match="no account"):
        run(SpinnakerConfigs(client(server), time.sleep).save_application("app", {}))
    server = Server(answer({"ref": "/tasks/t"}), task("RUNNING"))
    with pytest.raises(TransientError, match="has not ended"):
        run(SpinnakerConfigs(client(server), time.sleep).save_application("app", {}))


def test_a_pipeline_is_saved_whole():
    server = Server(httpx.Response(200))
    run(SpinnakerConfigs(client(server)).save_pipeline({"id": "1", "name": "deploy", "application": "app"}))
    assert (server.last.method, server.last.url.path) == ("POST", "/pipelines")
    assert server.body() == {"id": "1", "name": "deploy", "application": "app"}
