from __future__ import annotations

import uuid
from datetime import UTC, datetime
from urllib.parse import parse_qs

import httpx
import pytest

from mlfleet.clients.cloud_build import BASE, Build, BuiltImage, CloudBuildClient
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

P = ("ml-prod", "europe-west1")
ID = "617330ef-31db-48e9-ab08-09c92113cbb9"
PATH = "/v1/projects/ml-prod/locations/europe-west1/builds"
MISSING = answer({"error": {"code": 404, "message": "Requested entity was not found.", "status": "NOT_FOUND"}}, 404)
FINISHED = answer({"error": {"code": 400, "message": "build is done", "status": "FAILED_PRECONDITION"}}, 400)

CALLS = {
    "create_build": (False, lambda c: c.create_build(*P, {"steps": [{"name": "x"}]})),
    "get_build": (True, lambda c: c.get_build(*P, ID)),
    "list_builds": (True, lambda c: c.list_builds(*P)),
    "find_builds": (True, lambda c: c.find_builds(*P, "t")),
    "builds_by_id": (True, lambda c: c.builds_by_id(*P, [ID])),
    "cancel": (True, lambda c: c.cancel(*P, ID)),
}


def cloud_build(*steps: Step) -> tuple[CloudBuildClient, Server]:
    server = Server(*steps)
    return CloudBuildClient(client(server, url=BASE, system="cloud_build")), server


def created(data: dict[str, object]) -> httpx.Response:
    return answer({"name": "operations/build/ml-prod/x", "metadata": {"@type": "...", "build": data}})


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    "failure",
    [httpx.ReadTimeout(""), httpx.RemoteProtocolError("closed"), answer({"error": {"message": "x"}}, 503)],
    ids=["time-out", "reset", "503"],
)
def test_every_call_is_repeated_only_if_it_may_be(name, failure):
    repeatable, call = CALLS[name]
    builds, server = cloud_build(failure)
    with pytest.raises(TransientError) as caught:
        run(call(builds))
    assert len(server.requests) == (5 if repeatable else 1)
    assert isinstance(caught.value, OutcomeUnknown) is not repeatable
    assert server.last.url.path.startswith(PATH)
    assert server.last.url.host == "cloudbuild.googleapis.com"


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    "strange",
    [
        httpx.Response(200, html="<html>login</html>"),
        httpx.Response(200, content=b'{"builds": [', headers={"content-type": "application/json"}),
    ],
    ids=["a login page", "truncated"],
)
def test_every_call_refuses_what_is_no_answer(name, strange):
    repeatable, call = CALLS[name]
    builds, _ = cloud_build(strange)
    with pytest.raises(UnexpectedAnswer if repeatable else OutcomeUnknown):
        run(call(builds))


@pytest.mark.parametrize("name", sorted(set(CALLS) - {"cancel"}))
def test_every_answer_that_is_read_must_be_an_object(name):
    repeatable, call = CALLS[name]
    builds, _ = cloud_build(answer(["no object"]))
    with pytest.raises(UnexpectedAnswer if repeatable else OutcomeUnknown, match="JSON object"):
        run(call(builds))


@pytest.mark.parametrize("name", CALLS)
def test_every_call_keeps_the_words_of_a_refusal(name):
    builds, server = cloud_build(
        answer({"error": {"code": 403, "message": "no cloudbuild.builds.x", "status": "P"}}, 403)
    )
    with pytest.raises(AuthError, match=r"no cloudbuild\.builds\.x"):
        run(CALLS[name][1](builds))
    assert len(server.requests) == 1


# create


def test_create_sends_the_build_and_reads_it_out_of_the_operation():
    builds, server = cloud_build(
        created({"id": ID, "status": "QUEUED", "createTime": "2026-11-10T03:00:00.123456789Z"})
    )
    spec = {"steps": [{"name": "gcr.io/kaniko-project/executor"}], "tags": ["a"]}
    made = run(builds.create_build(*P, spec))
    assert (server.last.method, server.last.url.path, server.body()) == ("POST", PATH, spec)
    assert (made.build_id, made.status, made.is_final) == (ID, "QUEUED", False)
    assert made.created_at == datetime(2026, 11, 10, 3, 0, 0, 123456, UTC)


@pytest.mark.parametrize("operation", [{}, {"metadata": None}, {"metadata": {"build": {"status": "QUEUED"}}}])
def test_an_operation_that_names_no_build_leaves_the_outcome_open(operation):
    builds, server = cloud_build(answer(operation))
    with pytest.raises(OutcomeUnknown, match="without an id"):
        run(builds.create_build(*P, {}))
    assert len(server.requests) == 1


def test_a_refused_build_is_refused_with_the_server_s_words():
    refused = {"error": {"code": 400, "message": 'invalid build tag "a/b"', "status": "INVALID_ARGUMENT"}}
    builds, _ = cloud_build(answer(refused, 400))
    with pytest.raises(RequestRefused, match='invalid build tag "a/b"') as caught:
        run(builds.create_build(*P, {}))
    assert caught.value.status == 400


# get


def test_a_finished_build_with_all_that_is_known_of_it():
    builds, server = cloud_build(
        answer(
            {
                "id": ID,
                "status": "FAILURE",
                "statusDetail": "build step 1 failed",
                "failureInfo": {"type": "USER_BUILD_STEP", "detail": "a step has failed"},
                "steps": [
                    {"id": "fetch", "name": "git", "status": "SUCCESS"},
                    {"name": "kaniko", "status": "FAILURE", "exitCode": 1},
                    {"id": "after", "status": "CANCELLED"},
                    {"id": "never"},
                ],
                "results": {"images": [{"name": "eu.test/churn:1", "digest": "sha256:ab", "pushTiming": {}}, None]},
                "tags": ["mlfleet-1", None],
                "logUrl": "https://console.test/x",
                "createTime": "2026-11-10T03:00:00Z",
                "startTime": "2026-11-10T03:00:05Z",
                "finishTime": "2026-11-10T03:01:00Z",
            }
        )
    )
    assert run(builds.get_build(*P, ID)) == Build(
        build_id=ID,
        status="FAILURE",
        status_detail="build step 1 failed",
        failure_type="USER_BUILD_STEP",
        failure_detail="a step has failed",
        failed_steps=("kaniko",),
        tags=("mlfleet-1",),
        images=(BuiltImage("eu.test/churn:1", "sha256:ab"),),
        log_url="https://console.test/x",
        created_at=datetime(2026, 11, 10, 3, 0, 0, tzinfo=UTC),
        started_at=datetime(2026, 11, 10, 3, 0, 5, tzinfo=UTC),
        finished_at=datetime(2026, 11, 10, 3, 1, 0, tzinfo=UTC),
    )
    assert (server.last.method, server.last.url.path) == ("GET", f"{PATH}/{ID}")


def test_a_build_of_which_nothing_is_known_is_not_final():
    builds, _ = cloud_build(
        answer({"id": ID, "steps": {"no": "list"}, "results": [], "failureInfo": None, "tags": "x"})
    )
    assert run(builds.get_build(*P, ID)) == Build(ID, "STATUS_UNKNOWN")


def test_a_missing_build_is_not_found():
    builds, _ = cloud_build(MISSING)
    with pytest.raises(NotFound, match="Requested entity was not found"):
        run(builds.get_build(*P, ID))


@pytest.mark.parametrize("place", [("", "global"), ("p", ".."), ("p", "a\nb")])
def test_no_text_can_change_the_path(place):
    builds, server = cloud_build(answer({"id": ID}))
    with pytest.raises(ConfigError):
        run(builds.get_build(*place, ID))
    with pytest.raises(UnexpectedAnswer):
        run(cloud_build(answer({}))[0].get_build(*P, "x/../y"))
    assert not server.requests


# list


def test_a_list_asks_for_one_page():
    builds, server = cloud_build(answer({"builds": [{"id": ID}], "nextPageToken": "t2"}))
    page = run(builds.list_builds(*P, 'status="WORKING"', page_size=7, page_token="t1"))
    assert ([build.build_id for build in page.builds], page.next_page_token) == ([ID], "t2")
    assert server.query() == {"filter": 'status="WORKING"', "pageSize": "7", "pageToken": "t1"}


def test_a_list_without_builds_is_empty():
    builds, server = cloud_build(answer({}))
    assert run(builds.list_builds(*P)).builds == ()
    assert "filter" not in server.query()


def test_a_filter_that_the_server_can_t_read_is_refused_once():
    builds, server = cloud_build(
        answer({"error": {"code": 400, "message": "Request contains an invalid argument."}}, 400)
    )
    with pytest.raises(RequestRefused, match="invalid argument"):
        run(builds.list_builds(*P, "id=x"))
    assert len(server.requests) == 1


def test_builds_are_found_by_tag_on_all_pages_oldest_first():
    def row(build_id: str, second: int | None, tag: str = "t") -> dict[str, object]:
        time = {} if second is None else {"createTime": f"2026-11-10T03:00:{second:02}Z"}
        return {"id": build_id, "tags": ["a", tag], **time}

    builds, server = cloud_build(
        answer({"builds": [row("d", None), row("c", 5)], "nextPageToken": "2"}),
        answer({"nextPageToken": "3"}),
        answer({"builds": [row("c", 5), row("x", 1, "t-longer"), row("b", 1), row("a", 1)]}),
    )
    assert [build.build_id for build in run(builds.find_builds(*P, "t"))] == ["a", "b", "c", "d"]
    assert server.query()["filter"] == 'tags="t"'
    assert [server.query(i).get("pageToken") for i in range(3)] == [None, "2", "3"]


def test_a_hundred_builds_are_one_request_as_google_s_own_client_sends_a_long_address():
    ids = [str(uuid.UUID(int=n)) for n in range(250)]

    def some(request: httpx.Request) -> httpx.Response:
        asked = parse_qs(request.content.decode())["filter"][0].split(" OR ")
        return answer({"builds": [{"id": term[10:-1]} for term in asked if term != f'build_id="{ids[3]}"']})

    builds, server = cloud_build(some)
    found = run(builds.builds_by_id(*P, [*ids, ids[0]]))
    assert set(found) == set(ids) - {ids[3]}
    assert len(server.requests) == 3
    for request in server.requests:
        assert (request.method, request.url.path, request.url.query) == ("POST", PATH, b"")
        assert request.headers["x-http-method-override"] == "GET"
        assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert parse_qs(server.requests[0].content.decode())["pageSize"] == ["100"]


def test_a_long_list_is_asked_again_like_any_other():
    builds, server = cloud_build(answer({"error": {}}, 503))
    with pytest.raises(TransientError) as caught:
        run(builds.builds_by_id(*P, [str(uuid.UUID(int=n)) for n in range(100)]))
    assert not isinstance(caught.value, OutcomeUnknown)
    assert [request.method for request in server.requests] == ["POST"] * 5


def test_few_builds_are_a_plain_get_and_pages_end_when_all_are_found():
    builds, server = cloud_build(
        answer({"builds": [{"id": "a"}], "nextPageToken": "2"}),
        answer({"builds": [{"id": "b"}, {"id": "other"}], "nextPageToken": "3"}),
    )
    assert set(run(builds.builds_by_id(*P, ["a", "b"]))) == {"a", "b"}
    assert server.query(0) == {"filter": 'build_id="a" OR build_id="b"', "pageSize": "100"}
    assert [request.method for request in server.requests] == ["GET", "GET"]


def test_no_builds_are_no_request():
    builds, server = cloud_build(answer({}))
    assert run(builds.builds_by_id(*P, [])) == {}
    assert not server.requests


def test_a_value_can_t_leave_its_quotes():
    builds, server = cloud_build(answer({}))
    run(builds.find_builds(*P, 'x" OR status="WORKING'))
    assert server.query()["filter"] == r'tags="x\" OR status=\"WORKING"'


# cancel


def test_cancel_says_whether_it_did_it():
    builds, server = cloud_build(answer({"id": ID, "status": "CANCELLED"}))
    assert run(builds.cancel(*P, ID)) is True
    assert (server.last.method, server.last.url.path, server.body()) == ("POST", f"{PATH}/{ID}:cancel", {})
    builds, server = cloud_build(FINISHED, answer({"id": ID, "status": "SUCCESS"}))
    assert run(builds.cancel(*P, ID)) is False
    assert [request.method for request in server.requests] == ["POST", "GET"]


def test_cancel_of_a_live_build_that_is_refused_stays_refused():
    builds, _ = cloud_build(FINISHED, answer({"id": ID, "status": "WORKING"}))
    with pytest.raises(RequestRefused, match="build is done"):
        run(builds.cancel(*P, ID))


def test_cancel_of_a_missing_build_is_not_found():
    builds, server = cloud_build(MISSING)
    with pytest.raises(NotFound):
        run(builds.cancel(*P, ID))
    assert len(server.requests) == 1


def test_the_page_of_a_build():
    builds, _ = cloud_build(answer({}))
    assert builds.build_url("ml prod", "global", ID) == (
        f"https://console.cloud.google.com/cloud-build/builds;region=global/{ID}?project=ml+prod"
    )
