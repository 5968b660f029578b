from __future__ import annotations

import httpx
import pytest

from mlfleet.clients.polyaxon import PolyaxonClient
from mlfleet.errors import (
    AuthError,
    ConfigError,
    NotFound,
    OutcomeUnknown,
    RequestRefused,
    TransientError,
    UnexpectedAnswer,
)

from .support import Server, Step, answer, client, run

U = "0123456789abcdef0123456789abcdef"
MISSING = answer({"detail": "No Run matches the given query."}, 404)
HIDDEN_500 = httpx.Response(405, headers={"Content-Type": "text/html"})


def polyaxon(*steps: Step) -> tuple[PolyaxonClient, Server]:
    server = Server(*steps)
    return PolyaxonClient(client(server, system="polyaxon"), ui_url="https://polyaxon.example.com/"), server


CALLS = {
    "installation": (True, lambda c: c.installation()),
    "user": (True, lambda c: c.user()),
    "ensure_project": (True, lambda c: c.ensure_project("p")),
    "create_run": (False, lambda c: c.create_run("p", content="{}")),
    "approve": (True, lambda c: c.approve("p", U)),
    "stop": (True, lambda c: c.stop("p", U)),
    "resume": (False, lambda c: c.resume("p", U)),
    "delete_run": (True, lambda c: c.delete_run("p", U)),
    "get_run": (True, lambda c: c.get_run("p", U)),
    "statuses": (True, lambda c: c.statuses("p", U)),
    "list_runs": (True, lambda c: c.list_runs("p")),
    "find_by_meta": (True, lambda c: c.find_by_meta("p", "k", ["v"])),
    "runs_by_uuid": (True, lambda c: c.runs_by_uuid("p", [U])),
    "children": (True, lambda c: c.children("p", U)),
    "logs": (True, lambda c: c.logs("p", U)),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    "failure", [httpx.ReadTimeout(""), HIDDEN_500, answer({}, 500)], ids=["time-out", "405", "500"]
)
def test_every_call_is_repeated_only_if_it_may_be(name, failure):
    repeatable, call = CALLS[name]
    polyaxon_client, server = polyaxon(failure)

    with pytest.raises(TransientError) as caught:
        run(call(polyaxon_client))

    assert len(server.requests) == (5 if repeatable else 1)
    assert isinstance(caught.value, OutcomeUnknown) is not repeatable


@pytest.mark.parametrize("name", sorted(set(CALLS) - {"delete_run"}))
def test_every_call_refuses_a_login_page(name):
    polyaxon_client, _ = polyaxon(httpx.Response(200, html="<html>login</html>"))
    repeatable, call = CALLS[name]
    with pytest.raises(UnexpectedAnswer if repeatable else OutcomeUnknown, match="text/html"):
        run(call(polyaxon_client))


def test_a_real_405_is_a_refusal():
    polyaxon_client, _ = polyaxon(answer({"detail": 'Method "POST" not allowed.'}, 405))
    with pytest.raises(RequestRefused, match="not allowed"):
        run(polyaxon_client.create_run("p", content="{}"))


def test_a_project_that_exists_is_left_alone():
    polyaxon_client, server = polyaxon(answer({"name": "p"}))
    run(polyaxon_client.ensure_project("p"))
    assert [r.method for r in server.requests] == ["GET"]


@pytest.mark.parametrize(
    "second", [answer({"name": "p"}, 201), answer({"name": ["project with this name already exists."]}, 400)]
)
def test_a_missing_project_is_created_and_losing_the_race_is_fine(second):
    polyaxon_client, server = polyaxon(answer({"detail": "No Project matches"}, 404), second)
    run(polyaxon_client.ensure_project("p"))
    assert server.last.url.path == "/api/v1/default/projects/create"
    assert server.body() == {"name": "p"}


def test_a_project_name_that_is_refused_is_an_error():
    polyaxon_client, _ = polyaxon(answer({"detail": "-"}, 404), answer({"name": ["Enter a valid slug"]}, 400))
    with pytest.raises(RequestRefused, match="valid slug"):
        run(polyaxon_client.ensure_project("not good"))


def test_create_run_sends_what_the_reference_says():
    polyaxon_client, server = polyaxon(
        answer(
            {"uuid": U, "status": "created", "pending": "approval", "meta_info": {"af_key": "k"}, "tags": ["t"]}, 201
        )
    )

    made = run(
        polyaxon_client.create_run(
            "p", content="version: 1.1", name="n", tags=["t"], meta_info={"af_key": "k"}, pending="approval"
        )
    )

    assert server.last.url.path == "/api/v1/default/p/runs"
    assert server.body() == {
        "content": "version: 1.1",
        "name": "n",
        "tags": ["t"],
        "meta_info": {"af_key": "k"},
        "pending": "approval",
        "is_managed": True,
    }
    assert (made.uuid, made.pending, made.meta_info, made.tags) == (U, "approval", {"af_key": "k"}, ("t",))


def test_a_run_without_a_uuid_leaves_the_outcome_unknown():
    polyaxon_client, _ = polyaxon(answer({"status": "created"}, 201))
    with pytest.raises(OutcomeUnknown):
        run(polyaxon_client.create_run("p", content="{}"))


def test_bad_yaml_is_refused_with_the_server_s_words():
    polyaxon_client, _ = polyaxon(answer(["Received non valid yaml.."], 400))
    with pytest.raises(RequestRefused, match="non valid yaml"):
        run(polyaxon_client.create_run("p", content=":"))


def test_a_run_is_read_whole():
    polyaxon_client, _ = polyaxon(
        answer(
            {
                "uuid": U,
                "name": "train",
                "status": "succeeded",
                "kind": "job",
                "runtime": "job",
                "pipeline": {"uuid": "f" * 32, "name": "grid", "kind": "matrix"},
                "inputs": {"lr": 0.1},
                "outputs": None,
                "meta_info": None,
                "tags": None,
                "created_at": "2026-11-23T20:44:41.288611Z",
                "started_at": "2026-11-23T20:44:51Z",
                "finished_at": None,
                "duration": 12,
                "wait_time": None,
            }
        )
    )
    got = run(polyaxon_client.get_run("p", U))
    assert got.pipeline == "f" * 32
    assert (got.inputs, got.outputs, got.meta_info, got.tags) == ({"lr": 0.1}, {}, {}, ())
    assert got.created_at is not None
    assert got.created_at.utcoffset() is not None
    assert (got.finished_at, got.duration, got.wait_time) == (None, 12, 0)


@pytest.mark.parametrize(
    ("status", "final"),
    [(s, True) for s in ("succeeded", "failed", "upstream_failed", "stopped", "skipped", "SUCCEEDED")]
    + [(s, False) for s in ("done", "stopping", "warning", "unschedulable", "unknown", "retrying", "running", None)],
)
def test_which_statuses_are_final(status, final):
    polyaxon_client, _ = polyaxon(answer({"uuid": U, "status": status}))
    assert run(polyaxon_client.get_run("p", U)).is_final is final


def test_statuses_give_the_history():
    conditions = [
        {
            "type": "running",
            "status": "True",
            "reason": "Agent",
            "message": "go",
            "last_transition_time": "2026-01-01T00:00:00Z",
        },
        {"type": "stopped", "status": "True", "reason": "SchedulerCheckPipeline", "message": "early stopping"},
    ]
    polyaxon_client, server = polyaxon(answer({"uuid": U, "status": "stopped", "status_conditions": conditions}))
    got = run(polyaxon_client.statuses("p", U))
    assert server.last.url.path == f"/api/v1/default/p/runs/{U}/statuses"
    assert [(c.type, c.reason) for c in got.conditions] == [("running", "Agent"), ("stopped", "SchedulerCheckPipeline")]


@pytest.mark.parametrize(("verb", "call"), [("approve", "approve"), ("stop", "stop"), ("resume", "resume")])
@pytest.mark.parametrize("said", [answer({}), httpx.Response(200)])
def test_verbs(verb, call, said):
    polyaxon_client, server = polyaxon(said)
    run(getattr(polyaxon_client, call)("p", U))
    assert (server.last.method, server.last.url.path) == ("POST", f"/api/v1/default/p/runs/{U}/{verb}")


def test_deleting_what_is_gone_is_fine():
    for said in (httpx.Response(204), MISSING):
        polyaxon_client, server = polyaxon(said)
        run(polyaxon_client.delete_run("p", U))
        assert server.last.method == "DELETE"


def test_a_missing_run_is_not_found():
    polyaxon_client, _ = polyaxon(MISSING)
    with pytest.raises(NotFound, match="No Run matches"):
        run(polyaxon_client.get_run("p", U))


def test_looking_up_by_meta_pages_to_the_end_and_never_by_tags():
    def rows(start: int, n: int) -> list[dict[str, str]]:
        return [{"uuid": f"{i:032x}"} for i in range(start, start + n)]

    polyaxon_client, server = polyaxon(
        answer({"count": 150, "results": rows(0, 100)}),
        # A new run shifted the page by one: the run at its beginning was seen already.
        answer({"count": 151, "results": rows(99, 50)}),
        answer({"count": 151, "results": rows(149, 1)}),
    )
    found = run(polyaxon_client.find_by_meta("p", "af_key", ["k1", "k2", "k1"]))
    assert [r.uuid for r in found] == [f"{i:032x}" for i in range(150)]
    assert server.query(0) == {"query": "meta_info.af_key:k1|k2", "sort": "created_at", "limit": "100"}
    assert [server.query(i).get("offset") for i in (1, 2)] == ["100", "150"]


@pytest.mark.parametrize(
    ("key", "value"), [("k", "a:b"), ("k", "a|b"), ("k", "a,b"), ("k:x", "a"), ("k", ""), ("k", "a b")]
)
def test_a_value_that_the_query_language_would_take_apart_is_refused(key, value):
    polyaxon_client, server = polyaxon(answer({}))
    with pytest.raises(ConfigError):
        run(polyaxon_client.find_by_meta("p", key, [value]))
    assert server.requests == []


def test_many_runs_are_read_in_few_requests():
    polyaxon_client, server = polyaxon(answer({"count": 1, "results": [{"uuid": U, "status": "running"}]}))
    found = run(polyaxon_client.runs_by_uuid("p", [f"{i:032x}" for i in range(170)]))
    assert set(found) == {U}
    assert len(server.requests) == 2
    assert server.query(1)["query"].count("|") == 69
    assert run(polyaxon_client.runs_by_uuid("p", [])) == {}


def test_children_by_metric():
    polyaxon_client, server = polyaxon(answer({"count": 0, "results": []}))
    assert run(polyaxon_client.children("p", U, sort="-metrics.loss")) == []
    assert server.query() == {"query": f"pipeline:{U}", "sort": "-metrics.loss", "limit": "100"}


def test_logs_are_read_from_the_store_file_by_file():
    polyaxon_client, server = polyaxon(
        answer(
            {
                "last_time": None,
                "last_file": "pod-b.jsonl",
                "files": ["pod-a.jsonl", "pod-b.jsonl"],
                "logs": [{"timestamp": "2026-11-23T20:44:41+00:00", "value": "epoch 1", "container": "c", "pod": "b"}],
            }
        ),
        answer({"last_time": None, "last_file": None, "files": [], "logs": []}),
    )
    page = run(polyaxon_client.logs("p", U, last_file="pod-a.jsonl"))
    assert server.last.url.path == f"/streams/v1/polyaxon/default/p/runs/{U}/logs"
    assert server.query() == {"force": "true", "last_file": "pod-a.jsonl"}
    assert (page.last_file, page.files) == ("pod-b.jsonl", ("pod-a.jsonl", "pod-b.jsonl"))
    assert [line.text for line in page.lines] == ["epoch 1"]
    end = run(polyaxon_client.logs("p", U, last_file="pod-b.jsonl"))
    assert (end.lines, end.last_file) == ((), None)


def test_the_page_of_a_run():
    polyaxon_client, _ = polyaxon(answer({}))
    assert polyaxon_client.run_url("p", U) == f"https://polyaxon.example.com/ui/default/p/runs/{U}"
    plain = PolyaxonClient(client(Server(answer({}))))
    assert plain.run_url("p", U).startswith("http://remote:8000/ui/")


def test_ce_has_no_users_and_other_editions_say_whose_token_it_is():
    polyaxon_client, server = polyaxon(answer({"dist": "ce"}))
    assert run(polyaxon_client.user()) == "default"
    assert len(server.requests) == 1
    polyaxon_client, _ = polyaxon(answer({"dist": "ee"}), answer({"username": "ada"}))
    assert run(polyaxon_client.user()) == "ada"
    polyaxon_client, _ = polyaxon(answer({"dist": "ee"}), answer({"detail": "Invalid token."}, 401))
    with pytest.raises(AuthError, match="Invalid token"):
        run(polyaxon_client.user())
