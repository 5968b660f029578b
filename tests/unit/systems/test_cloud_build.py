"""Builds as remote jobs: the real system and client over a Cloud Build that answers over HTTP in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from mlfleet.errors import AuthError, Conflict, NotFound, OutcomeUnknown, RequestRefused, SpecError, TransientError
from mlfleet.remote.job import JobKey, JobState, JobStatus, TaskIdentity, digest
from mlfleet.remote.submission import Phase, Record, Submission
from mlfleet.systems.cloud_build import CloudBuildSystem, key_tag, task_tag
from tests.support.cloud_build_wire import BUILD, LOCATION, PROJECT, CloudBuildWire
from tests.support.remote import TASK, MemoryStore, Time

T = TypeVar("T")
KEY = JobKey(TASK, "inc", 0)
SPEC: dict[str, Any] = {"build": BUILD}


def cloud(time: Time | None = None, **options: Any) -> tuple[CloudBuildWire, Time]:
    time = time or Time(now=1_800_000_000.0)
    return CloudBuildWire(time, **options), time


def do(wire: CloudBuildWire, time: Time, what: Callable[[CloudBuildSystem], Awaitable[T]], **place: str) -> T:
    async def one() -> T:
        system = wire.system(time.sleep, **place)
        try:
            return await what(system)
        finally:
            await system.aclose()

    return asyncio.run(one())


def submit(wire: CloudBuildWire, time: Time, key: JobKey = KEY, spec: dict[str, Any] | None = None) -> JobStatus:
    return do(wire, time, lambda system: system.submit(key, spec or SPEC))


def enter(wire: CloudBuildWire, time: Time, store: MemoryStore, generation: int = 0) -> tuple[JobStatus, list[str]]:
    kinds: list[str] = []

    async def one(system: CloudBuildSystem) -> JobStatus:
        entry = Submission(
            system, store, TASK, generation, tell=lambda d: kinds.append(d.kind), now=time, sleep=time.sleep
        )
        return await entry.enter(SPEC)

    return do(wire, time, one), kinds


def unanswered(time: Time) -> MemoryStore:
    """What a process leaves behind that died while it submitted."""
    return MemoryStore(Record("inc", 0, 0, digest(SPEC), Phase.SUBMITTING, attempted_at=time.now))


# Submit and find


def test_a_submitted_build_has_both_tags_and_the_spec_stays_as_it_was():
    wire, time = cloud()
    spec = {"build": {**BUILD, "tags": ["team-a", key_tag(KEY)]}}
    status = submit(wire, time, spec=spec)
    assert wire.builds[status.id].now["tags"] == ["team-a", key_tag(KEY), task_tag(TASK)]
    assert spec == {"build": {**BUILD, "tags": ["team-a", key_tag(KEY)]}}
    assert (status.state, status.native, status.detail) == (JobState.PENDING, "QUEUED", {})
    assert status.url.endswith(f";region={LOCATION}/{status.id}?project={PROJECT}")
    assert wire.live(KEY) == [status.id]


def test_a_build_is_found_by_its_key_alone_and_only_where_it_is():
    wire, time = cloud()
    made = submit(wire, time)
    submit(wire, time, JobKey(TASK, "inc", 1))
    assert do(wire, time, lambda system: system.find(KEY)) == [made]
    assert do(wire, time, lambda system: system.find(KEY), location="global") == []


def test_the_live_builds_of_a_task_are_found_under_any_key():
    wire, time = cloud(largest_page=2)
    ids = []
    for n in range(5):
        time.now += 1
        ids.append(submit(wire, time, JobKey(TASK, "inc", n)).id)
    submit(wire, time, JobKey(TaskIdentity("test", "other", "r", "t"), "inc", 0))
    wire.finish(ids[1], "FAILURE")
    wire.finish(ids[2], "A_NEW_WORD")
    found = do(wire, time, lambda system: system.find_task(TASK))
    assert [status.id for status in found] == [ids[0], *ids[2:]]
    assert found[1].state is JobState.UNKNOWN


def test_builds_of_one_moment_are_ordered_by_their_ids():
    wire, time = cloud(double_creates=1)
    submit(wire, time)
    found = do(wire, time, lambda system: system.find(KEY))
    assert [status.id for status in found] == sorted(wire.builds) == wire.live(KEY)


@pytest.mark.parametrize(
    ("build", "why"), [({"images": ["a"]}, "must have steps"), ({**BUILD, "tags": ["a/b"]}, 'invalid build tag "a/b"')]
)
def test_a_build_that_the_server_refuses_is_an_error_of_the_spec(build, why):
    wire, time = cloud()
    with pytest.raises(SpecError, match=why) as caught:
        submit(wire, time, spec={"build": build})
    assert not caught.value.retryable
    assert wire.creates == 0


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, AuthError), (403, AuthError), (404, NotFound), (409, Conflict), (412, RequestRefused)],
)
def test_another_refusal_says_nothing_about_the_spec(status, error):
    wire, time = cloud(refuse=[status])
    with pytest.raises(error):
        submit(wire, time)
    assert wire.creates == 0


@pytest.mark.parametrize("trouble", [{"lose_answers": 1}, {"swallow_creates": 1}, {"refuse": [500]}, {"refuse": [503]}])
def test_a_create_is_never_sent_twice(trouble):
    wire, time = cloud(**trouble)
    with pytest.raises(OutcomeUnknown):
        submit(wire, time)
    assert len(wire.requests) == 1
    assert wire.creates == len(wire.live(KEY)) == ("lose_answers" in trouble)


def test_too_many_requests_had_no_effect_and_is_sent_again():
    wire, time = cloud(refuse=[429])
    submit(wire, time)
    assert (len(wire.requests), wire.creates) == (2, 1)


# The windows, through the core


@pytest.mark.parametrize("lag", [0, 1, 30, 119])
def test_a_lost_answer_is_looked_for_as_long_as_the_list_may_lag(lag):
    wire, time = cloud(list_lag=lag, lose_answers=1)
    store = MemoryStore()
    status, _ = enter(wire, time, store)
    assert (wire.creates, wire.live(key_of(store))) == (1, [status.id])


def test_a_create_that_never_arrived_is_sent_again_only_after_the_grace():
    wire, time = cloud(swallow_creates=1)
    began = time.now
    status, _ = enter(wire, time, store := MemoryStore())
    assert (wire.creates, wire.live(key_of(store))) == (1, [status.id])
    assert time.now - began >= CloudBuildSystem.lookup_grace


@pytest.mark.parametrize("lag", [0, 45])
def test_the_build_of_a_process_that_died_is_found_by_the_next_one(lag):
    wire, time = cloud(list_lag=lag, lose_answers=1)
    store = unanswered(time)
    with pytest.raises(OutcomeUnknown):
        submit(wire, time)
    status, kinds = enter(wire, time, store)
    assert (wire.creates, wire.live(KEY), kinds) == (1, [status.id], ["adopted"])


def test_of_two_builds_under_one_key_the_oldest_stays_and_the_other_can_still_be_seen():
    wire, time = cloud()
    older = submit(wire, time)
    time.now += 1
    younger = submit(wire, time)
    store = unanswered(time)
    status, _ = enter(wire, time, store)
    assert (status.id, wire.live(KEY)) == (older.id, [older.id])
    assert wire.builds[younger.id].now["status"] == "CANCELLED"


def test_a_create_that_somebody_on_the_way_sent_twice_leaves_one_build():
    wire, time = cloud(double_creates=1)
    status, _ = enter(wire, time, store := MemoryStore())
    assert wire.creates == 2
    assert wire.live(key_of(store)) == [status.id] == [sorted(wire.builds)[0]]


def test_the_remaining_window_two_creates_within_the_lag_live_until_the_next_look_up():
    wire, time = cloud(list_lag=30)
    for _ in range(2):
        assert do(wire, time, lambda system: system.find(KEY)) == []
        submit(wire, time)
    assert len(wire.live(KEY)) == 2
    time.now += 30
    status, _ = enter(wire, time, unanswered(time))
    assert wire.live(KEY) == [status.id] == [sorted(wire.builds)[0]]


def test_the_remaining_window_a_clear_ends_what_was_created_twice_within_the_lag():
    wire, time = cloud(list_lag=30, double_creates=1)
    enter(wire, time, store := MemoryStore())
    assert len(wire.live(key := key_of(store))) == 2
    time.now += 30
    status, _ = enter(wire, time, store, generation=1)
    assert wire.live(key) == []
    assert wire.live(key_of(store)) == [status.id]


def test_the_remaining_window_a_list_that_lags_beyond_the_grace_lets_a_second_build_start():
    wire, time = cloud(list_lag=CloudBuildSystem.lookup_grace + 60, lose_answers=1)
    enter(wire, time, store := MemoryStore())
    assert len(wire.live(key_of(store))) == 2
    time.now += wire.list_lag
    assert len(do(wire, time, lambda system: system.find(key_of(store)))) == 2


def test_a_cleared_build_is_cancelled_before_the_next_one_starts():
    wire, time = cloud()
    first, _ = enter(wire, time, store := MemoryStore())
    second, _ = enter(wire, time, store, generation=1)
    assert wire.builds[first.id].now["status"] == "CANCELLED"
    assert wire.live(key_of(store)) == [second.id]


def key_of(store: MemoryStore) -> JobKey:
    assert store.record is not None
    return JobKey(TASK, store.record.incarnation, store.record.n)


# States


@pytest.mark.parametrize(
    ("word", "state", "detail"),
    [
        ("PENDING", JobState.PENDING, {}),
        ("QUEUED", JobState.PENDING, {}),
        ("WORKING", JobState.RUNNING, {}),
        ("SUCCESS", JobState.SUCCEEDED, {}),
        ("FAILURE", JobState.FAILED, {}),
        ("INTERNAL_ERROR", JobState.FAILED, {"infrastructure": True}),
        ("TIMEOUT", JobState.FAILED, {}),
        ("CANCELLED", JobState.STOPPED, {}),
        ("EXPIRED", JobState.FAILED, {"infrastructure": True}),
        ("STATUS_UNKNOWN", JobState.UNKNOWN, {}),
        ("HIBERNATING", JobState.UNKNOWN, {}),
    ],
)
def test_every_word_has_a_state(word, state, detail):
    wire, time = cloud()
    build_id = submit(wire, time).id
    wire.finish(build_id, word)
    status = poll(wire, time, build_id)[build_id]
    assert (status.native, status.state, dict(status.detail)) == (word, state, detail)


@pytest.mark.parametrize(
    ("kind", "no_fault"),
    [
        ("LOGGING_FAILURE", True),
        ("PUSH_FAILED", True),
        ("USER_BUILD_STEP", False),
        ("PUSH_NOT_AUTHORIZED", False),
        ("PUSH_IMAGE_NOT_FOUND", False),
        ("FETCH_SOURCE_FAILED", False),
        ("FAILURE_TYPE_UNSPECIFIED", False),
    ],
)
def test_a_failure_that_is_no_fault_of_the_build_says_so(kind, no_fault):
    wire, time = cloud()
    build_id = submit(wire, time).id
    wire.finish(build_id, "FAILURE", failureInfo={"type": kind})
    assert ("infrastructure" in poll(wire, time, build_id)[build_id].detail) is no_fault


def test_a_succeeded_build_is_never_infrastructure():
    wire, time = cloud()
    build_id = submit(wire, time).id
    wire.finish(build_id, "SUCCESS", failureInfo={"type": "PUSH_FAILED"})
    assert poll(wire, time, build_id)[build_id].detail == {}


def test_the_reason_has_the_server_s_words_once_and_the_failed_steps():
    wire, time = cloud()
    build_id = submit(wire, time).id
    steps = [{"id": "fetch", "status": "SUCCESS"}, {"id": "kaniko", "status": "FAILURE"}]
    words = {"statusDetail": "step exited with 1", "failureInfo": {"type": "USER_BUILD_STEP", "detail": "step failed"}}
    wire.finish(build_id, "FAILURE", steps=steps, **words)
    assert poll(wire, time, build_id)[build_id].reason == "step exited with 1; step failed; failed: kaniko"


# Polling


def poll(wire: CloudBuildWire, time: Time, *build_ids: str) -> dict[str, JobStatus]:
    return do(wire, time, lambda system: system.poll_many(dict.fromkeys(build_ids, system)))


def test_a_hundred_builds_are_polled_with_one_request():
    wire, time = cloud()
    ids = [submit(wire, time, JobKey(TASK, "inc", n)).id for n in range(201)]
    wire.requests.clear()
    found = poll(wire, time, *ids)
    assert set(found) == set(ids)
    assert len(wire.requests) == len(wire.lists) == 3


def test_a_build_that_the_list_does_not_show_yet_is_looked_at_and_a_missing_one_left_out():
    wire, time = cloud(list_lag=30)
    old = submit(wire, time).id
    time.now += 30
    new = submit(wire, time, JobKey(TASK, "inc", 1)).id
    wire.requests.clear()
    found = poll(wire, time, old, new, "gone")
    assert set(found) == {old, new}
    assert [request.url.path.rsplit("/", 1)[1] for request in wire.requests] == ["builds", new, "gone"]


def test_a_poll_that_can_t_be_answered_says_so():
    wire, time = cloud()
    build_id = submit(wire, time).id
    wire.refuse = [503] * 5
    with pytest.raises(TransientError):
        poll(wire, time, build_id)
    assert poll(wire, time, build_id)[build_id].state is JobState.PENDING


def test_builds_of_one_project_and_location_share_a_lane():
    wire, time = cloud()
    lanes = [
        wire.system(time.sleep).lane,
        wire.system(time.sleep).lane,
        wire.system(time.sleep, location="global").lane,
        wire.system(time.sleep, project_id="other").lane,
    ]
    assert lanes == [(PROJECT, LOCATION), (PROJECT, LOCATION), (PROJECT, "global"), ("other", LOCATION)]


# Stop, resume, logs, result


@pytest.mark.parametrize("verb", ["stop", "discard"])
def test_a_live_build_is_cancelled_and_stays_to_be_seen(verb):
    wire, time = cloud()
    build_id = submit(wire, time).id
    do(wire, time, lambda system: getattr(system, verb)(build_id))
    assert wire.live(KEY) == []
    assert poll(wire, time, build_id)[build_id].state is JobState.STOPPED


@pytest.mark.parametrize("verb", ["stop", "discard"])
def test_a_finished_or_missing_build_is_stopped_already(verb):
    wire, time = cloud()
    build_id = submit(wire, time).id
    wire.finish(build_id)
    do(wire, time, lambda system: getattr(system, verb)(build_id))
    do(wire, time, lambda system: getattr(system, verb)("gone"))
    assert wire.builds[build_id].now["status"] == "SUCCESS"


def test_a_stop_whose_first_try_failed_is_sent_again():
    wire, time = cloud()
    build_id = submit(wire, time).id
    wire.refuse = [503, 500]
    do(wire, time, lambda system: system.stop(build_id))
    assert wire.live(KEY) == []


def test_a_stop_without_the_right_says_so():
    wire, time = cloud()
    build_id = submit(wire, time).id
    wire.refuse = [403]
    with pytest.raises(AuthError):
        do(wire, time, lambda system: system.stop(build_id))
    assert wire.live(KEY) == [build_id]


def test_a_build_can_t_go_on_under_its_id():
    wire, time = cloud()
    build_id = submit(wire, time).id
    wire.finish(build_id, "INTERNAL_ERROR")
    before = len(wire.requests)
    with pytest.raises(RequestRefused, match="only as a new one with a new id"):
        do(wire, time, lambda system: system.resume(build_id))
    assert len(wire.requests) == before


def test_there_is_no_log_and_nothing_to_confirm():
    wire, time = cloud()
    build_id = submit(wire, time).id
    before = len(wire.requests)
    chunk = do(wire, time, lambda system: system.logs(build_id, {}))
    do(wire, time, lambda system: system.confirm(build_id))
    assert (chunk.lines, chunk.cursor, len(wire.requests)) == ((), {}, before)


def test_the_result_has_the_digest_of_every_image():
    wire, time = cloud()
    build_id = submit(wire, time).id
    time.now += 60
    wire.finish(
        build_id, startTime="2026-11-10T03:00:00Z", finishTime="2026-11-10T03:01:00Z", logUrl="https://console.test/b"
    )
    result = do(wire, time, lambda system: system.result(build_id))
    image = result.pop("images")[0]
    assert result == {
        "system": "cloud_build",
        "build_id": build_id,
        "status": "SUCCESS",
        "url": "https://console.test/b",
        "started_at": "2026-11-10T03:00:00+00:00",
        "finished_at": "2026-11-10T03:01:00+00:00",
    }
    assert image["name"] == "eu.test/churn:build-1"
    assert image["digest"].startswith("sha256:")
    assert len(image["digest"]) == 71


# The model itself


def test_the_model_s_list_is_late_with_changes_and_its_pages_hold_every_build_once():
    wire, time = cloud(list_lag=10, largest_page=3)
    ids = [submit(wire, time, JobKey(TASK, "inc", n)).id for n in range(8)]
    time.now += 10
    wire.finish(ids[0])
    wire.requests.clear()
    assert len(do(wire, time, lambda system: system.find_task(TASK))) == 8
    assert len(wire.lists) == 3
    time.now += 10
    assert len(do(wire, time, lambda system: system.find_task(TASK))) == 7


def test_the_model_refuses_a_filter_that_it_does_not_know_and_knows_no_other_address():
    wire, time = cloud()

    async def ask(path: str, **params: str) -> int:
        http = wire.system(time.sleep)._client.http
        try:
            return (await http.request("GET", path, params=params)).status
        except RequestRefused as exc:
            return exc.status or 0
        finally:
            await http.aclose()

    builds = f"/v1/projects/{PROJECT}/locations/{LOCATION}/builds"
    both = 'tags="a" AND (status="QUEUED" OR status="WORKING")'
    assert asyncio.run(ask(builds, filter=both)) == 200
    assert asyncio.run(ask(builds, filter='id="a"')) == 400
    assert asyncio.run(ask(builds, filter="nonsense")) == 400
    assert asyncio.run(ask(builds, pageToken="nonsense")) == 400
