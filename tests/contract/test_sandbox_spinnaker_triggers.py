"""Which pushes start which executions: igor's and echo's rules, against a real registry."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.support.images import layer, push, push_model
from tests.support.processes import wait_for
from tests.support.spinnaker import Spinnaker, stage, start_registry

NOTHING = {"Cmd": ["/nothing"]}


@pytest.fixture(scope="module")
def spinnaker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spinnaker]:
    """A stand-in whose account has seen its first image, `ml/first:release-0`."""
    folder = tmp_path_factory.mktemp("triggers")
    with start_registry(folder) as registry:
        sandbox = Spinnaker(folder, registry)
        try:
            sandbox.pipeline("first", "deploy-model", [stage("wait", waitTime=0)], tag="^release-.*$")
            sandbox.pipeline("shop", "deploy-model", [stage("wait", waitTime=0)], tag=" ^release-.*$ ")
            sandbox.start()
            push(registry, "ml/first", [layer({"a": "1"})], NOTHING, "release-0")
            sandbox.seen("release-0")
            yield sandbox
        finally:
            sandbox.close()


def push_tags(spinnaker: Spinnaker, *tags: str, content: str = "1", repository: str = "ml/shop") -> None:
    push(spinnaker.registry, repository, [layer({"a": content})], NOTHING, *tags)


def marker(spinnaker: Spinnaker, name: str) -> None:
    """Pushes one more tag and waits for its execution: what was pushed before would have started by then."""
    push_tags(spinnaker, name)
    spinnaker.fired("shop", name)


def test_the_first_image_of_an_account_is_indexed_but_starts_nothing(spinnaker: Spinnaker) -> None:
    assert spinnaker.search("first") == []
    push_tags(spinnaker, "release-next", repository="ml/first")
    assert spinnaker.fired("first", "release-next")["status"] == "SUCCEEDED"
    assert len(spinnaker.search("first")) == 1


def test_a_release_tag_fires_once_with_the_tag_as_its_only_identity(spinnaker: Spinnaker) -> None:
    push_tags(spinnaker, "release-1")
    execution = spinnaker.fired("shop", "release-1")
    assert execution["status"] == "SUCCEEDED"
    trigger = execution["trigger"]
    assert (trigger["type"], trigger["repository"], trigger["tag"]) == ("docker", "ml/shop", "release-1")
    assert trigger["artifacts"][0]["reference"] == f"{spinnaker.registry}/ml/shop:release-1"
    assert "digest" not in trigger
    marker(spinnaker, "release-after-1")
    assert len(spinnaker.search("shop", "release-1")) == 1


def test_a_tag_that_was_seen_never_fires_again_even_with_another_image(spinnaker: Spinnaker) -> None:
    push_tags(spinnaker, "release-2")
    spinnaker.fired("shop", "release-2")
    push_tags(spinnaker, "release-2", content="something else")
    marker(spinnaker, "release-after-2")
    assert len(spinnaker.search("shop", "release-2")) == 1


def test_a_tag_that_does_not_match_fires_nothing(spinnaker: Spinnaker) -> None:
    push_tags(spinnaker, "build-3", "latest", "not-release-3")
    marker(spinnaker, "release-after-3")
    tags = {execution["trigger"]["tag"] for execution in spinnaker.search("shop")}
    assert not tags & {"build-3", "latest", "not-release-3"}


def test_a_disabled_pipeline_fires_nothing_and_two_matching_ones_both(spinnaker: Spinnaker) -> None:
    spinnaker.pipeline("shop", "other", [stage("wait", waitTime=0)], tag="release-4")
    spinnaker.pipeline("shop", "sleeping", [stage("wait", waitTime=0)], tag="release-4", disabled=True)
    push_tags(spinnaker, "release-4")
    wait_for(lambda: len(spinnaker.search("shop", "release-4")) == 2, "two executions")
    assert {each["name"] for each in spinnaker.search("shop", "release-4")} == {"deploy-model", "other"}


@pytest.mark.parametrize("switch", [{"echo_drop": True}, {"access_denied": True}, {"threshold": 0}])
def test_an_image_can_be_lost_silently(spinnaker: Spinnaker, switch: dict[str, object]) -> None:
    tag = f"release-lost-{next(iter(switch)).replace('_', '-')}"
    spinnaker.switch(**switch)
    push_tags(spinnaker, tag)
    if "threshold" in switch:
        # The cycle is rejected as a whole and again and again, so the tag is not even seen.
        time.sleep(1)
        assert tag not in spinnaker.known_tags()
    else:
        spinnaker.seen(tag)
    spinnaker.switch(echo_drop=False, access_denied=False, threshold=1000)
    if "threshold" in switch:
        spinnaker.fired("shop", tag)
        return
    marker(spinnaker, f"{tag}-after")
    assert spinnaker.search("shop", tag) == []


def test_one_event_may_start_several_executions(spinnaker: Spinnaker) -> None:
    spinnaker.switch(duplicate_executions=2)
    push_tags(spinnaker, "release-5")
    wait_for(lambda: len(spinnaker.search("shop", "release-5")) == 2, "two executions")
    spinnaker.switch(duplicate_executions=1)
    first, second = spinnaker.search("shop", "release-5")
    assert first["id"] != second["id"]
    assert first["trigger"]["eventId"] == second["trigger"]["eventId"]


def test_the_triggers_digest_depends_on_clouddrivers_settings(spinnaker: Spinnaker) -> None:
    pushed = push_model(spinnaker.registry, "ml/shop")
    found = {}
    for kind in ("manifest", "config", "schema1"):
        spinnaker.switch(digest=kind)
        pushed.tag(f"release-digest-{kind}")
        found[kind] = spinnaker.fired("shop", f"release-digest-{kind}")["trigger"]["digest"]
    spinnaker.switch(digest="absent")
    assert found["manifest"] == pushed.digest
    assert len({*found.values()}) == 3


def test_a_queued_execution_is_superseded_by_a_newer_one(spinnaker: Spinnaker) -> None:
    spinnaker.pipeline("queue", "deploy-model", [stage("wait", waitTime=3)], tag="^release-.*$")
    for number in range(3):
        push_tags(spinnaker, f"release-{number}", repository="ml/queue")
        wait_for(lambda tag=f"release-{number}": spinnaker.search("queue", tag), "the execution")
    ended = [spinnaker.fired("queue", f"release-{number}") for number in range(3)]
    assert [each["status"] for each in ended] == ["SUCCEEDED", "CANCELED", "SUCCEEDED"]
    assert (ended[1]["startTime"], ended[1]["canceledBy"]) == (None, "spinnaker")
    assert "superceded" in ended[1]["cancellationReason"]
    assert ended[0]["endTime"] <= ended[2]["startTime"]


def test_all_wait_in_line_where_waiting_pipelines_are_kept(spinnaker: Spinnaker) -> None:
    spinnaker.pipeline("line", "deploy-model", [stage("wait", waitTime=0.5)], tag="^release-.*$",
                       keepWaitingPipelines=True)  # fmt: skip
    push_tags(spinnaker, "release-a", "release-b", "release-c", repository="ml/line")
    ended = [spinnaker.fired("line", f"release-{name}") for name in "abc"]
    assert {each["status"] for each in ended} == {"SUCCEEDED"}
    times = sorted((each["startTime"], each["endTime"]) for each in ended)
    assert times[0][1] <= times[1][0]
    assert times[1][1] <= times[2][0]
