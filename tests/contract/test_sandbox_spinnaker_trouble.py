"""What goes wrong on purpose, and the rarer turns of an execution: artifacts, pauses, webhooks, tokens, traffic."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.images import layer, push, push_model
from tests.support.processes import wait_for
from tests.support.spinnaker import Spinnaker, image_artifact, stage, start_registry, statuses

APP, TAG = "shop", "^release-.*$"
QUICK = [stage("wait", waitTime=0)]


@pytest.fixture(scope="module")
def spinnaker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spinnaker]:
    """A stand-in over a registry that igor knows already."""
    folder = tmp_path_factory.mktemp("trouble")
    with start_registry(folder) as registry:
        push(registry, "ml/first", [layer({"nothing": ""})], {}, "seen-at-the-start")
        sandbox = Spinnaker(folder, registry)
        try:
            sandbox.pipeline(APP, "on-push", QUICK, tag=TAG, limitConcurrent=False)
            sandbox.start()
            sandbox.seen("seen-at-the-start")
            yield sandbox
        finally:
            sandbox.close()


def push_tag(spinnaker: Spinnaker, tag: str, application: str = APP) -> str:
    """A tag of a tiny image; its digest."""
    pushed = push(spinnaker.registry, f"ml/{application}", [layer({"file": tag})], {"Cmd": ["nothing"]}, tag)
    return pushed.digest


def test_a_trigger_fires_only_for_the_artifact_it_expects_and_binds_it(spinnaker: Spinnaker) -> None:
    expected = {"id": "a", "displayName": "image", "matchArtifact": {"type": "docker/image", "name": ".*/ml/other"}}
    wanted: dict[str, Any] = {"tag": TAG, "trigger": {"expectedArtifactIds": ["a"]}}
    spinnaker.pipeline("picky", "on-push", QUICK, expectedArtifacts=[expected], **wanted)
    push_tag(spinnaker, "release-picky-1", "picky")
    spinnaker.seen("release-picky-1")
    # Igor notes a tag before it fires it; what it notes next comes after that.
    push_tag(spinnaker, "next", "bystander")
    spinnaker.seen("next")
    expected["matchArtifact"] = {"type": "docker/image", "name": ".*/ml/picky"}
    wanted = {"tag": TAG, "trigger": {"expectedArtifactIds": ["a"]}}
    spinnaker.pipeline("picky", "on-push", QUICK, expectedArtifacts=[expected], **wanted)
    push_tag(spinnaker, "release-picky-2", "picky")
    fired = spinnaker.fired("picky", "release-picky-2")
    bound = fired["trigger"]["resolvedExpectedArtifacts"][0]["boundArtifact"]
    assert bound["reference"] == f"{spinnaker.registry}/ml/picky:release-picky-2"
    assert spinnaker.search("picky", "release-picky-1") == []


def test_an_expected_artifact_that_is_missing_fails_the_start(spinnaker: Spinnaker) -> None:
    expected = [{"id": name, "displayName": name, "matchArtifact": {"type": name}} for name in ("docker/image", "gcs")]
    trigger = {"expectedArtifactIds": ["docker/image", "gcs"]}
    spinnaker.pipeline("short", "on-push", QUICK, expectedArtifacts=expected, tag=TAG, trigger=trigger)
    push_tag(spinnaker, "release-short", "short")
    failed = spinnaker.fired("short", "release-short")
    assert (failed["status"], failed["canceledBy"]) == ("TERMINAL", "system")
    assert failed["cancellationReason"] == ("Failed on startup: Unmatched expected artifact gcs could not be resolved.")
    assert statuses(failed) == {"wait": "NOT_STARTED"}


def test_a_paused_execution_begins_no_stage(spinnaker: Spinnaker) -> None:
    spinnaker.pipeline(APP, "two", [stage("wait", waitTime=0.5), stage("wait", "2", "1", waitTime=0, name="second")])
    execution = spinnaker.begin(APP, "two")
    assert spinnaker.http.put(f"/pipelines/{execution}/resume").status_code == 500
    assert spinnaker.http.put(f"/pipelines/{execution}/pause").content == b""
    paused = wait_for(
        lambda: (found := spinnaker.execution(execution))["stages"][0]["status"] == "SUCCEEDED" and found, "stage one"
    )
    assert (paused["status"], statuses(paused)["second"]) == ("PAUSED", "NOT_STARTED")
    assert spinnaker.http.delete(f"/pipelines/{execution}").status_code == 409
    assert spinnaker.http.put(f"/pipelines/{execution}/pause").status_code == 500
    assert spinnaker.http.put(f"/pipelines/{execution}/resume").status_code == 200
    assert spinnaker.wait(execution)["status"] == "SUCCEEDED"


def test_a_stage_may_be_switched_off_or_take_too_long(spinnaker: Spinnaker) -> None:
    off = stage("no-such", stageEnabled={"type": "expression", "expression": "${ false }"})
    slow = stage("manualJudgment", "2", "1", stageTimeoutMs=300, continuePipeline=True)
    spinnaker.pipeline(APP, "optional", [off, slow])
    ended = spinnaker.wait(spinnaker.begin(APP, "optional"))
    assert ended["status"] == "SUCCEEDED"
    assert statuses(ended) == {"no-such": "SKIPPED", "manualJudgment": "FAILED_CONTINUE"}
    assert "longer than 300 ms" in ended["stages"][1]["context"]["exception"]["details"]["error"]


def test_a_webhook_starts_what_its_payload_fits(spinnaker: Spinnaker) -> None:
    trigger = {"type": "webhook", "source": "ci", "payloadConstraints": {"kind": "go.*"}}
    spinnaker.pipeline(APP, "hooked", QUICK, tag="unused", trigger=trigger)
    body = {"kind": "good", "parameters": {"a": 1}}
    started, other = (
        spinnaker.http.post("/webhooks/webhook/ci", json=each).raise_for_status().json()
        for each in (body, {"kind": "bad"})
    )
    assert started["eventProcessed"] is other["eventProcessed"] is True
    found = spinnaker.search(APP, eventId=started["eventId"], triggerTypes="webhook")
    assert [each["trigger"]["parameters"] for each in found] == [{"a": 1}]
    assert spinnaker.search(APP, eventId=other["eventId"]) == []


def test_without_the_token_one_is_sent_to_the_login_page(spinnaker: Spinnaker) -> None:
    spinnaker.switch(require_token="spk_secret")
    try:
        refused = spinnaker.http.get("/applications")
        assert (refused.status_code, refused.headers["location"]) == (302, "/login")
        assert spinnaker.http.get("/auth/user").content == b""
        assert spinnaker.http.get("/health").json()["status"] == "UP"
        assert spinnaker.http.post("/webhooks/webhook/ci", json={}).status_code == 200
        for headers in ({"X-Spinnaker-Token": "spk_secret"}, {"Authorization": "Bearer spk_secret"}):
            assert spinnaker.http.get("/applications", headers=headers).status_code == 200
        assert spinnaker.http.get("/applications", auth=("sandbox", "spk_secret")).status_code == 200
        assert spinnaker.http.get("/applications", auth=("sandbox", "wrong")).status_code == 302
    finally:
        spinnaker.switch(require_token="")


def test_pubsub_brings_the_digest_and_no_tag(spinnaker: Spinnaker) -> None:
    spinnaker.switch(pubsub_mode=True)
    digest = push_tag(spinnaker, "release-announced")
    found = wait_for(lambda: spinnaker.search(APP, triggerTypes="pubsub"), "an execution by Pub/Sub")[0]["trigger"]
    spinnaker.switch(pubsub_mode=False)
    assert found["artifacts"][0]["reference"] == f"{spinnaker.registry}/ml/shop@{digest}"
    assert not {"tag", "repository", "account"} & set(found)


def test_igor_may_have_seen_a_tag_or_forgotten_all(spinnaker: Spinnaker) -> None:
    spinnaker.switch(tag_seen_before=True)
    push_tag(spinnaker, "release-seen")
    spinnaker.seen("release-seen")
    spinnaker.switch(tag_seen_before=False, empty_cache=True)
    # Everything is indexed anew and nothing fires; what comes then fires as ever.
    wait_for(lambda: not spinnaker.http.post("/sandbox/switches", json={}).json()["empty_cache"], "the flush")
    push_tag(spinnaker, "release-after")
    spinnaker.fired(APP, "release-after")
    assert spinnaker.search(APP, "release-seen") == []


def test_an_execution_may_be_superseded_or_restarted_by_somebody(spinnaker: Spinnaker) -> None:
    spinnaker.switch(superseded=1)
    push_tag(spinnaker, "release-late")
    late = spinnaker.fired(APP, "release-late")
    assert (late["status"], late["canceledBy"], late["startTime"]) == ("CANCELED", "spinnaker", None)
    assert "superceded" in late["cancellationReason"]
    spinnaker.pipeline(APP, "failing", [stage("no-such")])
    spinnaker.switch(restart_after_terminal=1)
    failed = spinnaker.begin(APP, "failing")
    again = wait_for(
        lambda: spinnaker.execution(failed)["stages"][0]["context"].get("restartDetails"), "somebody to restart it"
    )
    assert "no stage of type" in again["previousException"]["details"]["error"]
    assert spinnaker.wait(failed)["status"] == "TERMINAL"


def test_gates_answers_may_be_cut_or_cleaned_up(spinnaker: Spinnaker) -> None:
    execution = spinnaker.begin(APP, "on-push")
    spinnaker.wait(execution)
    spinnaker.switch(truncated=1)
    cut = spinnaker.http.get(f"/pipelines/{execution}")
    assert cut.status_code == 200
    with pytest.raises(ValueError):
        cut.json()
    spinnaker.switch(cleanup_404=True)
    assert spinnaker.http.get(f"/pipelines/{execution}").status_code == 404
    assert spinnaker.http.get("/executions", params={"executionIds": execution}).json() == []
    spinnaker.switch(cleanup_404=False)
    assert spinnaker.execution(execution)["status"] == "SUCCEEDED"
    assert spinnaker.http.post("/sandbox/switches", json={"threshold": "many"}).status_code == 400


def test_a_redeployed_image_is_no_former_version_and_deck_may_name_the_tag_only(spinnaker: Spinnaker) -> None:
    spinnaker.pipeline(APP, "deploy", [stage("deployManifest")])
    for tag, factor in (("v1", 1.0), ("v2", 2.0)):
        push_model(spinnaker.registry, f"ml/{APP}", tag, factor=factor)
    for tag in ("v1", "v2", "v2"):
        ended = spinnaker.wait(spinnaker.begin(APP, "deploy", account="any", repository=f"ml/{APP}", tag=tag))
        assert ended["status"] == "SUCCEEDED"
    production = spinnaker.production(APP)
    assert production is not None
    assert (production["tag"], production["former"]["tag"], production["running"]) == ("v2", "v1", True)


def test_no_request_is_lost_when_traffic_moves(spinnaker: Spinnaker) -> None:
    """Slow requests that the old server has taken are answered by it before it ends."""
    spinnaker.pipeline("live", "deploy", [stage("deployManifest")])
    for tag, factor in (("v1", 1.0), ("v2", 2.0)):
        push_model(spinnaker.registry, "ml/live", tag, factor=factor, delay=0.7)

    def deploy(tag: str) -> None:
        artifact = image_artifact(spinnaker.registry, "ml/live", tag)
        assert spinnaker.wait(spinnaker.begin("live", "deploy", artifacts=[artifact]))["status"] == "SUCCEEDED"

    deploy("v1")
    answers: list[object] = []
    done = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=spinnaker.serving.base_url, timeout=20, trust_env=False) as http:
            while not done.is_set():
                answer = http.post("/live/predict", json={"items": [1]})
                answers.append(answer.json()["predictions"] if answer.is_success else answer.text)

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    wait_for(lambda: answers, "a first answer")
    deploy("v2")
    wait_for(lambda: [2.0] in answers, "an answer of the new server")
    done.set()
    for asker in askers:
        asker.join()
    assert {str(each) for each in answers} == {"[1.0]", "[2.0]"}
