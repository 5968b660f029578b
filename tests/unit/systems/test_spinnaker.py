"""A deployment as a remote job, over the real client and a Gate that lives in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import httpx
import pytest

from mlfleet.errors import NotFound, OutcomeUnknown, RequestRefused, TransientError
from mlfleet.remote.job import JobKey, JobState, JobStatus, TaskIdentity
from mlfleet.remote.protocol import look
from mlfleet.remote.watching import Outcome, Watch
from mlfleet.systems.spinnaker import Deployment, SpinnakerSystem
from tests.support.remote import Time, alone, itself
from tests.support.spinnaker_wire import TRIGGER, SpinnakerWire, pushed, trigger_of

T = TypeVar("T")
RELEASED = 1_000_000
TAG = "release-k-0"
WANTED = Deployment("churn", "deploy-model", "ml/churn", TAG, "sha256:" + "a" * 64, RELEASED)
KEY = JobKey(TaskIdentity("test", "churn", "manual__1", "deploy"), "i", 1)


@pytest.fixture
def time() -> Time:
    return Time(now=RELEASED / 1000)


@pytest.fixture
def wire(time: Time) -> SpinnakerWire:
    return SpinnakerWire(time)


def system(wire: SpinnakerWire, wanted: Deployment = WANTED) -> SpinnakerSystem:
    clock = wire.clock
    assert isinstance(clock, Time)
    return SpinnakerSystem(wire.client(), wanted, now=clock, sleep=clock.sleep)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)


def seen(spinnaker: SpinnakerSystem, wanted: Deployment = WANTED) -> JobStatus:
    status = run(look(spinnaker, wanted.id))
    assert status is not None
    return status


def many(count: int) -> dict[str, Deployment]:
    found = [replace(WANTED, tag=f"release-k-{n}") for n in range(count)]
    return {each.id: each for each in found}


def poll(views: Mapping[str, SpinnakerSystem]) -> dict[str, JobStatus]:
    return run(next(iter(views.values())).poll_many(views))


def stage(status: str, kind: str = "deployManifest", **more: Any) -> dict[str, Any]:
    return {"id": f"s-{kind}", "refId": "1", "type": kind, "name": kind, "status": status, **more}


def watched(spinnaker: SpinnakerSystem, time: Time) -> tuple[Outcome, str]:
    """How a wait for the deployment ended, and all that it said."""
    said: list[str] = []
    waiting = Watch(poll=alone(spinnaker, now=time, sleep=time.sleep), make=itself, job_id=WANTED.id, emit=said.append)
    return run(waiting.run()), "\n".join(said)


# One poll for all


def test_many_are_found_with_one_search_and_followed_with_one_list(wire: SpinnakerWire, time: Time) -> None:
    wanted = many(100)
    views = {job_id: system(wire, each) for job_id, each in wanted.items()}
    for n in range(100):
        wire.push(f"release-k-{n}", delay=n % 5)
    for _ in range(8):
        before = len(wire.requests)
        poll(views)
        assert len(wire.requests) - before <= 2
        assert len(wire.calls("GET", "/executions/search")) <= 5
        time.now += 1
    before = len(wire.requests)
    assert {status.state for status in poll(views).values()} == {JobState.RUNNING}
    (listing,) = wire.requests[before:]
    assert listing.url.params["expand"] == "false"
    assert len(listing.url.params["executionIds"].split(",")) == 100


def test_more_than_a_hundred_take_a_request_for_each_hundred(wire: SpinnakerWire, time: Time) -> None:
    views = {job_id: system(wire, each) for job_id, each in many(250).items()}
    for n, each in enumerate(many(250).values()):
        wire.push(each.tag, delay=n / 250)
    time.now += 1
    assert len(poll(views)) == 250
    assert len(wire.calls("GET", "/search")) == 2  # two hundred to a page
    before = len(wire.requests)
    poll(views)
    assert len(wire.requests) - before == 3


def test_those_who_can_be_asked_together_are_in_one_lane(wire: SpinnakerWire) -> None:
    churn, other = system(wire), system(wire, replace(WANTED, tag="release-k-1"))
    elsewhere = system(wire, replace(WANTED, application="fraud"))
    assert churn.lane == other.lane != elsewhere.lane
    wire.push(TAG)
    seen(churn)
    assert churn.lane != other.lane
    wire.push("release-k-1")
    run(look(other, "ml/churn:release-k-1"))
    assert churn.lane == other.lane


def test_a_search_is_for_each_application_and_asks_for_its_images_only(wire: SpinnakerWire) -> None:
    views = {job_id: system(wire, each) for job_id, each in many(3).items()}
    views["elsewhere"] = system(wire, replace(WANTED, application="fraud", pipeline="p"))
    wire.push("release-k-2")
    states = {job_id: status.native for job_id, status in poll(views).items()}
    assert states["ml/churn:release-k-2"] == "running"
    assert states["ml/churn:release-k-1"] == states["elsewhere"] == "not_started"
    searches = wire.calls("GET", "/executions/search")
    assert [request.url.path.split("/")[2] for request in searches] == ["churn", "fraud"]
    (artifact,) = trigger_of(searches[0])["artifacts"]
    assert all(each.tag in artifact["reference"] for each in many(3).values())
    assert "startIndex" not in str(searches[0].url)
    assert searches[0].url.params["triggerTimeStartBoundary"] == str(RELEASED - 60_000)


def test_with_more_tags_than_an_address_holds_the_search_takes_all_and_looks_itself(wire: SpinnakerWire) -> None:
    views = {job_id: system(wire, each) for job_id, each in many(90).items()}
    wire.push("release-k-7")
    wire.push("release-somebody-else")
    states = [job_id for job_id, status in poll(views).items() if status.native == "running"]
    assert states == ["ml/churn:release-k-7"]
    (search,) = wire.requests
    assert trigger_of(search) is None
    assert len(str(search.url)) < 1000


def test_a_running_execution_is_not_read_whole_and_an_ended_one_once(wire: SpinnakerWire) -> None:
    wire.push(TAG)
    spinnaker = system(wire)
    for _ in range(3):
        assert seen(spinnaker).native == "running"
    assert wire.calls("GET", "/pipelines/") == []
    wire.finish(TAG, "TERMINAL")
    for _ in range(3):
        assert seen(spinnaker).native == "failed"
    assert len(wire.calls("GET", "/pipelines/")) == 1
    assert len(wire.calls("GET", "/failedStages")) == 1


def test_an_unchanged_execution_is_not_read_again(wire: SpinnakerWire) -> None:
    views = {job_id: system(wire, each) for job_id, each in many(2).items()}
    for each in many(2).values():
        wire.push(each.tag)
    poll(views)
    first, second = poll(views), poll(views)
    assert all(second[job_id] is first[job_id] for job_id in views)
    wire.executions_of(TAG)[0]["stages"][0]["status"] = "TERMINAL"
    third = poll(views)
    assert third[WANTED.id] is not first[WANTED.id]
    assert third["ml/churn:release-k-1"] is first["ml/churn:release-k-1"]


def test_its_times_are_the_execution_s(wire: SpinnakerWire, time: Time) -> None:
    spinnaker = system(wire)
    assert seen(spinnaker).created_at == datetime.fromtimestamp(RELEASED / 1000, UTC)  # nothing yet: the release
    wire.push(TAG)
    time.now += 60
    seen(system(wire))
    (execution,) = wire.executions.values()
    execution |= {"buildTime": RELEASED + 1000, "startTime": RELEASED + 2000}
    status = seen(spinnaker)
    assert (status.created_at, status.started_at) == tuple(
        datetime.fromtimestamp(RELEASED / 1000 + after, UTC) for after in (1, 2)
    )
    assert status.finished_at is None
    execution["endTime"] = RELEASED + 50_000
    wire.finish(TAG, "TERMINAL")
    assert seen(spinnaker).finished_at == datetime.fromtimestamp(RELEASED / 1000 + 50, UTC)


def test_a_judgment_is_read_whole_once_for_what_it_asks(wire: SpinnakerWire) -> None:
    asked = stage("RUNNING", "manualJudgment", context={"instructions": "look at the canary"})
    wire.push(TAG)
    spinnaker = system(wire)
    seen(spinnaker)
    (execution,) = wire.executions_of(TAG)
    execution["stages"] = [asked]
    for _ in range(3):
        status = seen(spinnaker)
        assert (status.state, status.native) == (JobState.RUNNING, "waiting_for_judgment")
        assert "look at the canary" in status.reason
    assert len(wire.calls("GET", "/pipelines/")) == 1
    asked["status"] = "SUCCEEDED"
    assert seen(spinnaker).native == "running"


def test_the_stages_are_lines(wire: SpinnakerWire) -> None:
    wire.push(TAG)
    spinnaker = system(wire)
    seen(spinnaker)
    chunk = run(spinnaker.logs(WANTED.id, {}))
    assert chunk.lines == ("stage Deploy: RUNNING",)
    assert run(spinnaker.logs(WANTED.id, chunk.cursor)).lines == ()
    wire.finish(TAG)
    seen(spinnaker)
    assert run(spinnaker.logs(WANTED.id, chunk.cursor)).lines == ("stage Deploy: SUCCEEDED",)


def test_a_wait_from_the_push_to_the_end(wire: SpinnakerWire, time: Time) -> None:
    wire.push(TAG, delay=45)
    time.at[time.now + 120] = lambda: wire.finish(TAG)
    outcome, said = watched(system(wire), time)
    assert outcome.status is not None
    assert outcome.status.state is JobState.SUCCEEDED
    assert said.count("stage Deploy: RUNNING") == said.count("stage Deploy: SUCCEEDED") == 1


def test_a_wait_starts_by_hand_what_the_push_did_not(wire: SpinnakerWire, time: Time) -> None:
    wire.never(TAG)
    wire.push(TAG)
    time.at[time.now + 700] = lambda: wire.finish(TAG)
    outcome, said = watched(system(wire, replace(WANTED, on_not_started="start")), time)
    assert outcome.status is not None
    assert (outcome.status.state, outcome.resumes) == (JobState.SUCCEEDED, 1)
    assert "a tag fires once" in said
    assert len(wire.executions_of(TAG)) == 1


def test_a_wait_gives_an_execution_up_that_was_cleaned_up(wire: SpinnakerWire, time: Time) -> None:
    wire.push(TAG)
    time.at[time.now + 30] = lambda: wire.executions_of(TAG)[0].update(cleaned_up=True)
    outcome, _ = watched(system(wire), time)
    assert outcome.end.value == "vanished"


def test_what_is_wrong_with_one_execution_is_no_matter_of_the_others(wire: SpinnakerWire) -> None:
    views = {job_id: system(wire, each) for job_id, each in many(3).items()}
    for each in many(3).values():
        wire.push(each.tag)
    poll(views)
    (unreadable,) = wire.executions_of("release-k-1")
    wire.empty.add(unreadable["id"])
    for each in many(3).values():
        wire.finish(each.tag)
    found = poll(views)
    assert [status.native for status in found.values()] == ["deployed", "unreadable", "deployed"]
    assert found["ml/churn:release-k-1"].state.is_live
    wire.empty.clear()
    assert poll(views)["ml/churn:release-k-1"].state is JobState.SUCCEEDED


def test_a_search_that_fails_keeps_no_news_back_and_is_never_taken_for_nothing_found(
    wire: SpinnakerWire, time: Time
) -> None:
    wire.push(TAG)
    views = {job_id: system(wire, each) for job_id, each in many(2).items()}
    poll(views)
    wire.failing.add("/search")
    time.now += 601
    found = poll(views)
    assert found[WANTED.id].native == "running"
    assert (found["ml/churn:release-k-1"].state, "503" in found["ml/churn:release-k-1"].reason) == (
        JobState.PENDING,
        True,
    )
    with pytest.raises(TransientError):
        seen(system(wire))


def test_a_restarted_execution_is_followed_on(wire: SpinnakerWire) -> None:
    wire.push(TAG)
    spinnaker = system(wire)
    seen(spinnaker)
    wire.finish(TAG, "TERMINAL")
    assert seen(spinnaker).state is JobState.FAILED
    (execution,) = wire.executions_of(TAG)
    execution.update(status="RUNNING")
    execution["stages"][0]["status"] = "RUNNING"
    assert seen(spinnaker).state is JobState.RUNNING
    wire.finish(TAG)
    assert seen(spinnaker).state is JobState.SUCCEEDED


@pytest.mark.parametrize("status", ["BUFFERED", "REDIRECT", "NEWLY_INVENTED"])
def test_an_unknown_word_is_live(status: str, wire: SpinnakerWire) -> None:
    wire.push(TAG)
    spinnaker = system(wire)
    seen(spinnaker)
    wire.executions_of(TAG)[0]["status"] = status
    assert seen(spinnaker).state.is_live


def test_an_execution_that_was_cleaned_up_is_left_out(wire: SpinnakerWire) -> None:
    views = {job_id: system(wire, each) for job_id, each in many(2).items()}
    for each in many(2).values():
        wire.push(each.tag)
    poll(views)
    wire.executions_of(TAG)[0]["cleaned_up"] = True
    assert list(poll(views)) == ["ml/churn:release-k-1"]
    assert list(poll(views)) == ["ml/churn:release-k-1"]


# What came of it


@pytest.mark.parametrize(
    ("execution", "state", "native"),
    [
        ({"status": "SUCCEEDED", "stages": []}, JobState.FAILED, "succeeded_without_deploy"),
        ({"status": "TERMINAL", "stages": [stage("TERMINAL")]}, JobState.FAILED, "failed"),
        ({"status": "CANCELED", "canceledBy": "alice"}, JobState.STOPPED, "canceled"),
        (
            {"status": "CANCELED", "canceledBy": "spinnaker", "cancellationReason": "a newer one superceded it"},
            JobState.STOPPED,
            "superseded",
        ),
        (
            {
                "status": "TERMINAL",
                "stages": [stage("TERMINAL", "manualJudgment", context={"judgmentStatus": "stop"})],
            },
            JobState.STOPPED,
            "rejected",
        ),
        ({"status": "PAUSED"}, JobState.RUNNING, "running"),
    ],
)
def test_what_came_of_it(execution: dict[str, Any], state: JobState, native: str, wire: SpinnakerWire) -> None:
    wire.add(trigger=pushed(TAG), **execution)
    status = seen(system(wire))
    assert (status.state, status.native) == (state, native)


def test_a_deployment_hands_on_what_was_deployed(wire: SpinnakerWire) -> None:
    wire.push(TAG)
    seen(system(wire))
    wire.finish(TAG)
    assert seen(system(wire)).state is JobState.SUCCEEDED
    (execution,) = wire.executions_of(TAG)
    result = run(system(wire).result(WANTED.id))
    assert (result["outcome"], result["execution_id"]) == ("deployed", execution["id"])
    assert result["bound_reference"] == f"registry.test/ml/churn:{TAG}"


def test_a_search_that_leaves_the_deployment_out_is_no_reason_to_give_up(wire: SpinnakerWire) -> None:
    """The wait has just seen it; a retry looks again."""
    with pytest.raises(TransientError, match="was deployed, but no execution shows it now"):
        run(system(wire, replace(WANTED, tag="release-k-9")).result("ml/churn:release-k-9"))


def test_what_deployed_is_handed_on_whatever_came_after_it(wire: SpinnakerWire, time: Time) -> None:
    wire.push(TAG)
    assert seen(system(wire)).native == "running"
    wire.finish(TAG)
    (deployed,) = wire.executions_of(TAG)
    # A second event for the same push, or a person in Deck.
    time.now += 5
    wire.push(TAG)
    result = run(system(wire).result(WANTED.id))
    assert (result["outcome"], result["execution_id"]) == ("deployed", deployed["id"])


def test_a_deployment_that_runs_again_is_not_handed_on_as_one(wire: SpinnakerWire) -> None:
    wire.push(TAG)
    (execution,) = wire.executions_of(TAG)
    wire.finish(TAG)
    # Somebody restarts a stage (spinnaker.md 0.7) between the trigger's event and the task's second half.
    execution["status"] = execution["stages"][0]["status"] = "RUNNING"
    with pytest.raises(TransientError, match="no execution shows it now: running"):
        run(system(wire).result(WANTED.id))


@pytest.mark.parametrize(
    ("trigger", "ours"),
    [
        ({"type": "pubsub", "payload": {"tag": f"eu.pkg.dev/p/ml/churn:{TAG}"}}, True),
        ({"type": "pubsub", "payload": {"tag": "eu.pkg.dev/p/ml/churn:build-1"}}, False),
        ({"type": "webhook"}, True),
        ({"type": "manual"}, True),
        ({"type": "cron"}, False),
        ({"type": "docker", "repository": "ml/churn", "tag": TAG.upper()}, False),
        ({"type": "docker", "repository": "ml/churn", "tag": "build-1"}, False),
    ],
)
def test_whichever_way_spinnaker_heard_of_the_image(trigger: dict[str, Any], ours: bool, wire: SpinnakerWire) -> None:
    name = "eu.pkg.dev/p/ml/churn"
    by_digest = {"type": "docker/image", "name": name, "reference": f"{name}@{WANTED.digest}"}
    wire.add(trigger={"artifacts": [by_digest], **trigger})
    assert seen(system(wire)).native == ("running" if ours else "not_started")


def test_another_pipeline_of_the_application_is_not_ours(wire: SpinnakerWire) -> None:
    wire.add(trigger=pushed(TAG), name="report")
    assert seen(system(wire)).native == "not_started"


def test_of_several_executions_the_newest_that_was_not_canceled_counts(wire: SpinnakerWire, time: Time) -> None:
    wire.add("CANCELED", pushed(TAG), buildTime=RELEASED + 900)
    wire.add("RUNNING", pushed(TAG), buildTime=RELEASED + 700)
    time.now += 1
    status = seen(system(wire))
    assert status.state is JobState.RUNNING
    assert "1 more executions" in status.reason


def test_it_is_canceled_only_when_it_exists(wire: SpinnakerWire) -> None:
    run(system(wire).stop(WANTED.id))
    wire.push(TAG)
    spinnaker = system(wire)
    run(spinnaker.stop(WANTED.id))
    (execution,) = wire.executions_of(TAG)
    assert wire.canceled == [execution["id"]]
    execution["cleaned_up"] = True
    run(spinnaker.stop(WANTED.id))


def test_it_is_found_and_never_submitted(wire: SpinnakerWire) -> None:
    spinnaker = system(wire)
    assert [status.native for status in run(spinnaker.find(KEY))] == ["not_started"]
    assert run(spinnaker.submit(KEY, {})).native == "not_started"
    assert run(spinnaker.find_task(KEY.task)) == []
    wire.push(TAG)
    seen(spinnaker)
    wire.executions_of(TAG)[0]["cleaned_up"] = True
    assert run(spinnaker.find(KEY)) == []
    with pytest.raises(NotFound):
        run(spinnaker.submit(KEY, {}))
    assert wire.calls("POST", "") == []


def test_a_deployment_travels_as_json() -> None:
    assert Deployment.from_json(WANTED.as_json()) == WANTED


# A push that starts nothing


def test_before_an_execution_appears_it_is_pending(wire: SpinnakerWire) -> None:
    status = seen(system(wire))
    assert (status.state, status.native) == (JobState.PENDING, "not_started")
    assert status.url == "https://deck.test/#/applications/churn/executions"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (None, "there is no pipeline deploy-model of application churn"),
        ({"name": "deploy-model", "disabled": True}, "is disabled"),
        ({"name": "deploy-model", "triggers": []}, "has no docker trigger"),
        ({"name": "deploy-model", "triggers": [{**TRIGGER, "tag": "v.*"}]}, "which release-k-0 does not match"),
        ({"name": "deploy-model", "triggers": [TRIGGER]}, "a tag fires once"),
    ],
)
def test_an_execution_that_never_starts_is_diagnosed(
    config: dict[str, Any] | None, expected: str, wire: SpinnakerWire, time: Time
) -> None:
    wire.config = config
    time.now += 601
    status = seen(system(wire))
    assert (status.state, status.native) == (JobState.FAILED, "never_started")
    assert expected in status.reason
    assert status.detail == {}


def test_only_the_policy_and_only_a_fresh_release_may_be_started_without_a_person(
    wire: SpinnakerWire, time: Time
) -> None:
    automatic = replace(WANTED, on_not_started="start")
    time.now += 601
    assert seen(system(wire, automatic)).detail == {"infrastructure": True}
    time.now += 86_401
    assert seen(system(wire, automatic)).detail == {}


def test_a_start_by_hand_brings_what_the_push_would_have_brought(wire: SpinnakerWire, time: Time) -> None:
    time.now += 601
    spinnaker = system(wire)
    assert seen(spinnaker).native == "never_started"
    run(spinnaker.resume(WANTED.id))
    (execution,) = wire.executions_of(TAG)
    trigger = execution["trigger"]
    name = "registry.test/ml/churn"
    artifact = {"type": "docker/image", "name": name, "version": TAG, "reference": f"{name}:{TAG}"}
    assert trigger["artifacts"] == [artifact]
    wanted = {"type": "manual", "account": "acme", "repository": "ml/churn", "tag": TAG, "digest": WANTED.digest}
    assert wanted.items() <= trigger.items()
    assert trigger["expectedArtifactIds"] == ["image"]
    assert TAG in trigger["correlationId"]
    assert seen(spinnaker).native == "running"
    wire.finish(TAG)
    # Also for who knows nothing of the start: another process, long after the release.
    assert seen(system(wire)).state is JobState.SUCCEEDED
    assert run(system(wire).result(WANTED.id))["execution_id"] == execution["id"]


def test_twice_asked_is_once_started(wire: SpinnakerWire, time: Time) -> None:
    wire.search_lag = 30.0

    async def both() -> None:
        await asyncio.gather(system(wire).resume(WANTED.id), system(wire).resume(WANTED.id))

    run(both())
    assert len(wire.calls("POST", "/pipelines/v2/")) == 2
    assert len(wire.executions_of(TAG)) == 1
    time.now += 31
    with pytest.raises(RequestRefused, match="has an execution, RUNNING"):
        run(system(wire).resume(WANTED.id))
    wire.finish(TAG, "TERMINAL")
    with pytest.raises(RequestRefused, match="has an execution, TERMINAL"):
        run(system(wire).resume(WANTED.id))
    assert len(wire.executions_of(TAG)) == 1


def test_an_answer_that_was_lost_is_looked_for(wire: SpinnakerWire) -> None:
    wire.lose_answers = 1
    spinnaker = system(wire)
    run(spinnaker.resume(WANTED.id))
    assert seen(spinnaker).native == "running"
    assert len(wire.executions_of(TAG)) == 1


def test_a_start_that_was_lost_can_be_asked_for_again(wire: SpinnakerWire, time: Time) -> None:
    automatic = replace(WANTED, on_not_started="start")
    time.now += 601
    wire.lose_requests = 1
    spinnaker = system(wire, automatic)
    with pytest.raises(OutcomeUnknown):
        run(spinnaker.resume(WANTED.id))
    assert (seen(spinnaker).state, wire.executions_of(TAG)) == (JobState.PENDING, [])
    time.now += 601
    assert seen(spinnaker).detail == {"infrastructure": True}
    run(spinnaker.resume(WANTED.id))
    assert len(wire.executions_of(TAG)) == 1


def test_the_time_to_start_counts_anew_and_only_one_start_is_automatic(wire: SpinnakerWire, time: Time) -> None:
    wire.start_delay = 10_000
    spinnaker = system(wire, replace(WANTED, on_not_started="start"))
    time.now += 601
    assert seen(spinnaker).detail == {"infrastructure": True}
    run(spinnaker.resume(WANTED.id))
    time.now += 500
    assert "was started by hand" in seen(spinnaker).reason
    time.now += 101
    status = seen(spinnaker)
    assert (status.native, status.detail) == ("never_started", {})
    assert "of the start by hand of its pipeline" in status.reason


def test_the_last_thing_before_a_start_by_hand_is_a_look(wire: SpinnakerWire) -> None:
    run(system(wire).resume(WANTED.id))
    sent = [request.url.path for request in wire.requests]
    start = next(number for number, request in enumerate(wire.requests) if request.method == "POST")
    assert sent[start - 1].endswith("/executions/search")


def test_what_appears_just_before_the_start_by_hand_is_followed(wire: SpinnakerWire, time: Time) -> None:
    class Late(SpinnakerWire):
        """The push is noticed while the wait finds out why it was not."""

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if "/pipelineConfigs/" in request.url.path and not self.executions:
                self.push(TAG)
                time.at[time.now + 60] = lambda: self.finish(TAG)
            return await super().handle_async_request(request)

    late = Late(time)
    time.now += 601
    outcome, said = watched(system(late, replace(WANTED, on_not_started="start")), time)
    assert outcome.status is not None
    assert (outcome.status.native, late.calls("POST", "")) == ("deployed", []), said


def test_what_failed_before_its_first_stage_may_be_started_by_hand(wire: SpinnakerWire) -> None:
    wire.push(TAG)
    (failed,) = wire.executions_of(TAG)
    failed.update(status="TERMINAL", canceledBy="system", cancellationReason="Failed on startup: no such artifact")
    failed["stages"][0]["status"] = "NOT_STARTED"
    spinnaker = system(wire)
    assert seen(spinnaker).native == "startup_failure"
    run(spinnaker.resume(WANTED.id))
    assert seen(spinnaker).native == "running"
    assert len(wire.executions_of(TAG)) == 2
    assert "1 more executions" in seen(system(wire)).reason


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (None, "not found"),
        ({"name": "deploy-model", "disabled": True, "triggers": [TRIGGER]}, "is disabled"),
        ({"name": "deploy-model", "triggers": []}, "names the registry"),
    ],
)
def test_what_can_not_be_started_by_hand(config: dict[str, Any] | None, sentence: str, wire: SpinnakerWire) -> None:
    wire.config = config
    with pytest.raises(RequestRefused, match=sentence):
        run(system(wire).resume(WANTED.id))
    assert wire.calls("POST", "") == []


def test_the_registry_of_the_release_serves_where_the_trigger_names_none(wire: SpinnakerWire) -> None:
    wire.config = {"name": "deploy-model", "triggers": [{**TRIGGER, "registry": ""}]}
    run(system(wire, replace(WANTED, registry="localhost:5000")).resume(WANTED.id))
    (execution,) = wire.executions_of(TAG)
    assert execution["trigger"]["artifacts"][0]["reference"] == f"localhost:5000/ml/churn:{TAG}"
