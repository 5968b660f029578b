from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence

import httpx
import pytest

from mlfleet.clients.auth import Credentials
from mlfleet.clients.spinnaker import SpinnakerClient
from mlfleet.clients.spinnaker_images import Image
from mlfleet.clients.spinnaker_trigger import concurrency_warning, java_quote, manual_trigger, trigger_problems
from mlfleet.errors import AuthError, ConfigError, NotFound, OutcomeUnknown, TransientError, UnexpectedAnswer

from .support import Server, Step, answer, client, run

E = "01JDA9Q2X6Y7Z8W9V0T1S2R3Q4"
REPO, TAG = "ml/churn", "release-k-1"


def spinnaker(*steps: Step, **options: object) -> tuple[SpinnakerClient, Server]:
    server = Server(*steps)
    http = client(server, url="http://gate:8084", system="spinnaker", **options)
    return SpinnakerClient(http, "https://deck.example.com/"), server


IMAGE = Image(REPO, TAG, "sha256:" + "c" * 64)


def search(c: SpinnakerClient, since: int = 1000, until: int | None = None, images: Sequence[Image] = (IMAGE,)):
    return c.search("churn", images, since_ms=since, until_ms=until, pipeline="deploy-model")


def row(n: int, at: int, repository: str = REPO, tag: str = TAG) -> dict[str, object]:
    return {"id": f"E{n}", "buildTime": at, "status": "RUNNING", "trigger": {"repository": repository, "tag": tag}}


CALLS = {
    "health": (True, lambda c: c.health()),
    "version": (True, lambda c: c.version()),
    "user": (True, lambda c: c.user()),
    "pipeline_config": (True, lambda c: c.pipeline_config("churn", "deploy-model")),
    "pipeline_configs": (True, lambda c: c.pipeline_configs("churn")),
    "search": (True, search),
    "executions": (True, lambda c: c.executions([E])),
    "glance": (True, lambda c: c.glance([E])),
    "recent_executions": (True, lambda c: c.recent_executions("c1", 5)),
    "get_execution": (True, lambda c: c.get_execution(E)),
    "failed_stages": (True, lambda c: c.failed_stages(E)),
    "judge": (False, lambda c: c.judge(E, "s", "continue")),
    "cancel": (True, lambda c: c.cancel(E, "why")),
    "start_manual": (False, lambda c: c.start_manual("churn", "deploy-model")),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("failure", [httpx.ReadTimeout(""), answer({"message": "x"}, 500)], ids=["time-out", "500"])
def test_every_call_is_repeated_only_if_it_may_be(name, failure):
    repeatable, call = CALLS[name]
    gate, server = spinnaker(failure)
    with pytest.raises(TransientError) as caught:
        run(call(gate))
    assert len(server.requests) == (5 if repeatable else 1)
    assert isinstance(caught.value, OutcomeUnknown) is not repeatable


@pytest.mark.parametrize("name", CALLS)
def test_every_call_refuses_the_login_redirect_and_its_page(name):
    repeatable, call = CALLS[name]
    gate, server = spinnaker(httpx.Response(302, headers={"Location": "http://gate:8084/login"}))
    with pytest.raises(AuthError, match="redirected to the login page http://gate:8084/login"):
        run(call(gate))
    assert len(server.requests) == 1
    gate, _ = spinnaker(httpx.Response(200, html="<html>login</html>"))
    with pytest.raises(UnexpectedAnswer if repeatable else OutcomeUnknown, match="text/html"):
        run(call(gate))


def test_an_empty_200_is_not_now_and_never_done():
    gate, server = spinnaker(httpx.Response(200), httpx.Response(200), answer({"id": E, "status": "RUNNING"}))
    assert run(gate.get_execution(E))["status"] == "RUNNING"
    assert len(server.requests) == 3
    gate, server = spinnaker(httpx.Response(200))
    with pytest.raises(UnexpectedAnswer, match="empty body"):
        run(gate.get_execution(E))
    assert len(server.requests) == 5


def test_an_execution_without_a_status_is_none():
    gate, _ = spinnaker(answer({"id": E}))
    with pytest.raises(UnexpectedAnswer, match="no 'status'"):
        run(gate.get_execution(E))


def test_a_missing_execution():
    gate, server = spinnaker(
        answer({"status": 404, "error": "Not Found", "message": f"Pipeline not found (id: {E})"}, 404)
    )
    with pytest.raises(NotFound, match="Pipeline not found"):
        run(gate.get_execution(E))
    assert server.last.url.path == f"/pipelines/{E}"


def test_a_search_says_exactly_what_the_reference_says():
    gate, server = spinnaker(answer([row(1, 5000)]))

    found = run(search(gate, since=1000, until=9000))

    assert [r["id"] for r in found] == ["E1"]
    assert server.last.url.path == "/applications/churn/executions/search"
    query = server.query()
    trigger = json.loads(base64.b64decode(query.pop("trigger"), validate=True))
    digest = str(IMAGE.digest)
    assert trigger == {"artifacts": [{"reference": rf"(.*/)?(\Qml/churn:release-k-1\E(@.*)?|\Qml/churn@{digest}\E)"}]}
    assert query == {
        "triggerTypes": "docker,pubsub,webhook,manual",
        "pipelineName": "deploy-model",
        "triggerTimeStartBoundary": "1000",
        "triggerTimeEndBoundary": "9000",
        "size": "200",
        "expand": "false",
    }


def test_the_base64_survives_the_address():
    # Quoting of '+', '/' and '=' matters: try until one of each is in there.
    texts = [f"t{i}~~~???>>>" for i in range(60)]
    seen = set()
    for tag in texts:
        gate, server = spinnaker(answer([]))
        run(gate.search("a", [Image("r", tag)], since_ms=0))
        encoded = server.query()["trigger"]
        seen |= set(encoded) & set("+/=")
        assert json.loads(base64.b64decode(encoded, validate=True))["artifacts"][0]["reference"].count(tag) == 1
        assert not re.search(rb"trigger=[^&]*[+/]", server.last.url.query)
    assert seen == set("+/=")


def test_java_quoting_of_the_end_mark():
    assert java_quote(r"a\Eb") == r"\Qa\E\\E\Qb\E"


def test_what_gate_takes_for_equal_is_compared_again():
    near = [row(1, 5000, tag=TAG.upper()), row(2, 5001, repository="ml/churn2"), row(3, 5002), {"id": "x"}]
    gate, _ = spinnaker(answer(near))
    assert [r["id"] for r in run(search(gate))] == ["E3"]


def test_a_full_answer_is_followed_by_an_older_window_and_never_by_a_start_index():
    first = [row(n, 10_000 - n) for n in range(200)]
    second = [row(n, 10_000 - n) for n in range(199, 220)]
    gate, server = spinnaker(answer(first), answer(second))
    found = run(search(gate))
    assert [r["id"] for r in found] == [f"E{n}" for n in range(220)]
    assert [server.query(i).get("triggerTimeEndBoundary") for i in (0, 1)] == [None, "9801"]
    assert all("startIndex" not in str(r.url) for r in server.requests)


def test_windows_that_do_not_move_end():
    gate, server = spinnaker(answer([row(n, 5000) for n in range(200)]))
    assert len(run(search(gate))) == 200
    assert len(server.requests) == 2


def test_more_than_can_be_read_is_not_the_same_as_not_there():
    def page(request: httpx.Request) -> httpx.Response:
        until = int(request.url.params.get("triggerTimeEndBoundary", 90_000))
        return answer([row(until - n, until - n, tag="release-other") for n in range(200)])

    gate, server = spinnaker(page)
    with pytest.raises(UnexpectedAnswer, match="more than 4000 executions"):
        run(search(gate))
    assert len(server.requests) == 20


def test_a_search_for_more_images_than_an_address_holds_asks_for_all():
    gate, server = spinnaker(answer([row(1, 5000), row(2, 5000, tag="t-7")]))
    found = run(search(gate, images=[Image(REPO, f"t-{n}") for n in range(100)]))
    assert [r["id"] for r in found] == ["E2"]
    assert "trigger" not in server.query()
    assert len(str(server.last.url)) < 1000


def test_executions_in_batches():
    gate, server = spinnaker(answer([row(1, 1)]))
    found = run(gate.executions([f"E{n}" for n in range(205)], expand=False))
    assert set(found) == {"E1"}
    assert len(server.requests) == 3
    assert server.query(2) == {"executionIds": "E200,E201,E202,E203,E204", "expand": "false"}
    assert run(gate.executions([])) == {}


def test_a_glance_shows_what_may_change_and_holds_the_rest_back():
    stages = [{"id": "s", "status": "RUNNING", "startTime": 5, "tasks": []}]
    running = {**row(1, 1), "canceled": False, "stages": stages}
    gate, server = spinnaker(answer([running]), answer([{**running, "startTime": 9}]))
    first, second = (run(gate.glance(["E1", "E2"])) for _ in range(2))
    assert server.query() == {"executionIds": "E1,E2", "expand": "false"}
    assert set(first.glances) == {"E1"}
    assert first.glances == second.glances
    assert second.rows() == {"E1": {**running, "startTime": 9}}


@pytest.mark.parametrize("stages", [["no stage"], {"a": "b"}, 7])
def test_who_is_shaped_strangely_is_read_whole(stages):
    strange = {**row(1, 1), "stages": stages}
    gate, _ = spinnaker(answer([strange]))
    found = run(gate.glance(["E1"]))
    assert (found.glances, found.rows()) == ({}, {"E1": strange})


def test_a_glance_at_a_number_that_is_none_is_a_patient_one():
    python = httpx.Response(200, text='[{"id": "E1", "score": NaN}]', headers={"Content-Type": "application/json"})
    gate, _ = spinnaker(python)
    found = run(gate.glance(["E1"]))
    assert found.glances == {}
    assert set(found.rows()) == {"E1"}


@pytest.mark.parametrize("data", [["no execution"], {"id": "E1"}, [[]]])
def test_a_glance_at_what_is_no_list_of_executions_is_unexpected(data):
    gate, _ = spinnaker(answer(data))
    with pytest.raises(UnexpectedAnswer):
        run(gate.glance(["E1"])).rows()


def test_failed_stages_have_a_page():
    stage = {
        "stageName": "Deploy", "stageType": "deployManifest", "stageStatus": "TERMINAL", "stageException": "no quota",
        "pipelineExecutionName": "deploy-model",
        "pipelineExecutionUrl": "/#/applications/churn/executions/details/E?stage=2",
    }  # fmt: skip
    gate, server = spinnaker(answer([stage]))
    (found,) = run(gate.failed_stages(E))
    assert (found.name, found.exception) == ("Deploy", "no quota")
    assert found.url == "https://deck.example.com/#/applications/churn/executions/details/E?stage=2"
    assert server.query() == {"executionId": E, "deckOrigin": "https://deck.example.com", "limit": "1"}


def test_a_judgment():
    gate, server = spinnaker(answer({"id": E, "status": "RUNNING"}))
    run(gate.judge(E, "s1", "continue", "ship"))
    assert (server.last.method, server.last.url.path) == ("PATCH", f"/pipelines/{E}/stages/s1")
    assert server.body() == {"judgmentStatus": "continue", "judgmentInput": "ship"}
    run(gate.judge(E, "s1", "stop"))
    assert server.body() == {"judgmentStatus": "stop"}
    with pytest.raises(ConfigError):
        run(gate.judge(E, "s1", "maybe"))


def test_cancel():
    gate, server = spinnaker(httpx.Response(200))
    run(gate.cancel(E, "airflow task killed: x"))
    assert (server.last.method, server.last.url.path) == ("PUT", f"/pipelines/{E}/cancel")
    assert server.query() == {"reason": "airflow task killed: x", "force": "false"}


def test_a_manual_start():
    gate, server = spinnaker(answer({"eventId": "ev", "ref": f"/pipelines/{E}"}, 202))
    artifact = {"type": "docker/image", "name": "r/ml/churn", "version": TAG, "reference": "r/ml/churn@sha256:0"}
    started = run(
        gate.start_manual("churn", "deploy model", artifacts=[artifact], parameters={"a": "b"}, correlation_id="c")
    )
    assert (started.execution_id, started.event_id) == (E, "ev")
    assert server.last.url.raw_path == b"/pipelines/v2/churn/deploy%20model"
    assert server.body() == {"type": "manual", "parameters": {"a": "b"}, "artifacts": [artifact], "correlationId": "c"}
    run(gate.start_manual("churn", "deploy-model", trigger={"type": "docker", "tag": TAG}))
    assert server.body() == {"type": "manual", "parameters": {}, "artifacts": [], "tag": TAG}
    gate, _ = spinnaker(answer({"eventId": "ev"}, 202))
    with pytest.raises(OutcomeUnknown):
        run(gate.start_manual("churn", "deploy-model"))


def test_health_version_user():
    assert run(spinnaker(answer({"status": "UP"}))[0].health()) == {"status": "UP"}
    with pytest.raises(TransientError):
        run(spinnaker(answer({"status": "DOWN"}, 503))[0].health())
    assert run(spinnaker(answer({"version": "2026.2.3"}))[0].version()) == "2026.2.3"
    assert run(spinnaker(answer({"username": "joe"}))[0].user()) == "joe"
    assert run(spinnaker(httpx.Response(200))[0].user()) is None


def test_the_token_header_of_gate():
    gate, server = spinnaker(answer([]), credentials=Credentials.header("X-Spinnaker-Token", "spk_abcdef"))
    run(gate.pipeline_configs("churn"))
    assert server.last.headers["X-Spinnaker-Token"] == "spk_abcdef"


def test_the_page_of_an_execution():
    gate, _ = spinnaker(answer({}))
    assert gate.execution_url("churn", E) == (
        f"https://deck.example.com/#/applications/churn/executions/details/{E}?stage=0&step=0"
    )


# Pre-flight

TRIGGER = {"type": "docker", "enabled": True, "account": "reg", "repository": REPO, "tag": "^release-.*$"}


def config(*triggers: dict[str, object], **extra: object) -> dict[str, object]:
    return {"name": "deploy-model", "disabled": False, "triggers": list(triggers), **extra}


def test_a_matching_trigger_is_no_problem_even_beside_others():
    assert trigger_problems(config({**TRIGGER, "enabled": False}, TRIGGER), REPO, TAG, "reg") == []


@pytest.mark.parametrize(
    ("pipeline", "words"),
    [
        (config(TRIGGER, disabled=True), "is disabled"),
        (config(), "has no docker trigger"),
        (config({**TRIGGER, "type": "cron"}), "has no docker trigger"),
        ({"name": "x", "triggers": None}, "has no docker trigger"),
        (config({**TRIGGER, "enabled": False}), "is not enabled"),
        (config({**TRIGGER, "repository": "ml/Churn"}), "another repository"),
        (config({**TRIGGER, "account": "other"}), "watches account other"),
        (config({**TRIGGER, "tag": "^run-"}), "does not match"),
        (config({**TRIGGER, "tag": "release"}), "does not match"),
        (config({**TRIGGER, "tag": "("}), "no regular expression"),
    ],
)
def test_why_a_push_would_start_nothing(pipeline, words):
    (problem,) = trigger_problems(pipeline, REPO, TAG, "reg")
    assert words in problem


@pytest.mark.parametrize("pattern", ["", "  ", None])
def test_a_blank_pattern_means_every_tag_but_latest(pattern):
    pipeline = config({**TRIGGER, "tag": pattern})
    assert trigger_problems(pipeline, REPO, TAG) == []
    assert "latest" in trigger_problems(pipeline, REPO, "latest")[0]


def test_a_pipeline_that_drops_waiting_executions_is_told():
    assert concurrency_warning(config(limitConcurrent=True, keepWaitingPipelines=False)) is not None
    assert concurrency_warning(config(limitConcurrent=True, keepWaitingPipelines=True)) is None
    assert concurrency_warning(config()) is None


# A start by hand, and which executions and references are of an image


def test_a_start_by_hand_takes_the_fields_of_the_trigger_that_the_tag_matches():
    other = {**TRIGGER, "tag": "^v", "account": "other"}
    ours = {**TRIGGER, "registry": "r.example.com", "expectedArtifactIds": ["a"], "runAsUser": "robot", "enabled": True}
    found = manual_trigger(config(other, ours), REPO, TAG, "sha256:0")
    assert found == {
        "account": "reg", "registry": "r.example.com", "expectedArtifactIds": ["a"], "repository": REPO, "tag": TAG,
        "digest": "sha256:0",
    }  # fmt: skip
    assert manual_trigger(config(other), REPO, TAG, None) == {"account": "other", "repository": REPO, "tag": TAG}
    assert manual_trigger({}, REPO, TAG, None) == {"repository": REPO, "tag": TAG}


@pytest.mark.parametrize(
    ("trigger", "ours"),
    [
        ({"repository": REPO, "tag": TAG}, True),
        ({"repository": REPO, "tag": "other", "artifacts": [{"reference": f"r/{REPO}:{TAG}"}]}, False),
        ({"payload": {"tag": f"host/p/{REPO}:{TAG}", "digest": "x"}}, True),
        ({"payload": {"tag": f"host/p/{REPO}:other"}, "artifacts": [{"reference": f"r/{REPO}:{TAG}"}]}, False),
        ({"payload": {"tag": "v1"}, "artifacts": [{"reference": f"r/{REPO}:{TAG}"}]}, True),
        ({"artifacts": [{"reference": "r/base:1"}, {"reference": f"r/{REPO}:{TAG}@sha256:0"}]}, True),
        ({"artifacts": [{"reference": f"r/{REPO}@{IMAGE.digest}"}]}, True),
        ({"artifacts": [{"reference": f"r/{REPO}@sha256:{'0' * 64}"}]}, False),
        ({"artifacts": [{"reference": f"r/{REPO}:other@{IMAGE.digest}"}]}, False),
        ({"artifacts": [{"reference": f"r/x{REPO}:{TAG}"}, None, {"reference": 3}]}, False),
        ({"artifacts": None}, False),
        (None, False),
    ],
)
def test_which_executions_were_started_for_an_image(trigger, ours):
    assert IMAGE.was_wanted_by({"trigger": trigger}) is ours
