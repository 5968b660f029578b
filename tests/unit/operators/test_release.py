from __future__ import annotations

from typing import Any

import httpx
import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from mlfleet.errors import ConfigError, TransientError
from mlfleet.operators.release import ReleaseOperator
from tests.support.delivery import APP, PIPELINE, REPO, TRIGGER, FakeGate, FakeRegistry, Run


def operator(**changes: Any) -> ReleaseOperator:
    given: dict[str, Any] = {
        "task_id": "release",
        "build_task_id": "build_image",
        "evaluate_task_id": "evaluate",
        "application": APP,
        "pipeline": PIPELINE,
        "spinnaker_conn_id": "spinnaker_default",
    }
    return ReleaseOperator(**{**given, **changes})


def run(digest: str, passed: bool = True, **changes: Any) -> Run:
    results = {
        "build_image": {"repository": REPO, "tag": "build-k", "digest": digest, "labels": {}},
        "evaluate": {"passed": passed, "results": [{"experiment": "default", "passed": passed, "reason": "mae is 5"}]},
    }
    return Run(results=results, **changes)


def test_the_same_manifest_gets_a_release_tag(digest: str, registry: FakeRegistry) -> None:
    released = operator().execute((task := run(digest)).context())
    assert released["released"] is True
    assert released["tag"].startswith("release-")
    assert released["tag"].endswith("-1")
    assert (released["digest"], released["repository"], released["n"]) == (digest, REPO, 1)
    assert registry.puts == [f"{REPO}:{released['tag']}"]
    assert registry.manifests[REPO, released["tag"]] == registry.manifests[REPO, "build-k"]
    assert task.pushed["decision"] == {"released": True, "reason": "the evaluation passed", "guard": ""}
    assert released["tag"] in task.pushed["remote_url"]


def test_a_retry_finds_its_own_tag(digest: str, registry: FakeRegistry) -> None:
    task = run(digest)
    first = operator().execute(task.context())
    assert operator().execute(task.context()) == first
    assert len(registry.puts) == 1


def test_a_persons_clear_is_a_new_release_of_the_same_image(digest: str, registry: FakeRegistry) -> None:
    task = run(digest)
    first = operator().execute(task.context())
    second = operator().execute(task.cleared().context())
    assert (first["n"], second["n"]) == (1, 2)
    assert first["tag"] != second["tag"]
    assert second["digest"] == digest
    assert second["released_at_ms"] >= first["released_at_ms"]
    assert len(registry.puts) == 2


def test_another_image_on_a_retry_is_the_next_release(digest: str, registry: FakeRegistry) -> None:
    task = run(digest)
    first = operator().execute(task.context())
    other = registry.add_image(REPO, "build-l", {"mlfleet.key": "l"})
    task.results["build_image"]["digest"] = other
    second = operator().execute(task.context())
    assert (second["n"], second["digest"]) == (2, other)
    assert registry.manifests[REPO, first["tag"]] != registry.manifests[REPO, second["tag"]]


@pytest.mark.parametrize(
    ("changes", "guard", "sentence"),
    [
        ({"run_type": "backfill"}, "backfill", "a backfill is never released"),
        ({"passed": False}, "evaluation", "default: mae is 5"),
    ],
)
def test_a_no_skips_and_pushes_nothing(
    changes: dict[str, Any], guard: str, sentence: str, digest: str, registry: FakeRegistry
) -> None:
    task = run(digest, **changes)
    with pytest.raises(AirflowSkipException, match=sentence):
        operator().execute(task.context())
    assert not registry.puts
    assert task.pushed["decision"]["released"] is False
    assert task.pushed["decision"]["guard"] == guard


def test_who_starts_a_run_can_ask_for_no_release(digest: str, registry: FakeRegistry) -> None:
    task = run(digest)
    with pytest.raises(AirflowSkipException, match="asked for no release"):
        operator().execute({**task.context(), "params": {"release": "never"}})
    assert not registry.puts
    assert task.pushed["decision"]["guard"] == "asked"
    assert operator().execute({**task.context(), "params": {"release": "auto"}})["released"] is True


def test_an_evaluation_that_handed_on_nothing_is_a_no(digest: str, registry: FakeRegistry) -> None:
    task = run(digest)
    del task.results["evaluate"]
    with pytest.raises(AirflowSkipException, match="no verdict"):
        operator().execute(task.context())
    assert not registry.puts


def test_a_project_without_evaluation_and_without_spinnaker(digest: str, registry: FakeRegistry) -> None:
    task = run(digest)
    del task.results["evaluate"]
    plain = operator(evaluate_task_id=None, application=None, pipeline=None, spinnaker_conn_id=None)
    assert plain.execute(task.context())["released"] is True


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (None, "there is no such pipeline"),
        ({"name": PIPELINE, "disabled": True, "triggers": [TRIGGER]}, "deploy-model is disabled"),
        ({"name": PIPELINE, "triggers": []}, "has no docker trigger"),
        ({"name": PIPELINE, "triggers": [{**TRIGGER, "enabled": False}]}, "is not enabled"),
        ({"name": PIPELINE, "triggers": [{**TRIGGER, "repository": "ml/other"}]}, "watches another repository"),
        ({"name": PIPELINE, "triggers": [{**TRIGGER, "tag": "^prod-.*$"}]}, "does not match"),
    ],
)
def test_a_pipeline_that_would_not_start_is_an_error_before_anything_is_pushed(
    config: dict[str, Any] | None, sentence: str, digest: str, registry: FakeRegistry, gate: FakeGate
) -> None:
    gate.pipelines = {(APP, PIPELINE): config} if config else {}
    with pytest.raises(AirflowFailException, match=rf"(?s){sentence}.*nothing was pushed"):
        operator().execute(run(digest).context())
    assert not registry.puts


@pytest.mark.parametrize("pattern", ["release-[0-9a-f]{16}-[0-9]+", ".*", ""])
def test_a_trigger_that_the_manifest_does_not_mean_deploys_nothing(
    pattern: str, digest: str, registry: FakeRegistry, gate: FakeGate
) -> None:
    """Such a one may match builds too, which nobody has decided to release."""
    gate.pipelines = {(APP, PIPELINE): {"name": PIPELINE, "triggers": [TRIGGER, {**TRIGGER, "tag": pattern}]}}
    with pytest.raises(AirflowFailException, match=r"(?s)has the tag pattern .*deploy\.spinnaker\.tag_pattern"):
        operator(tag_pattern="^release-.*$").execute(run(digest).context())
    assert not registry.puts
    assert operator().execute(run(digest).context())["released"] is True


def test_a_trigger_as_the_manifest_has_it_deploys(digest: str, registry: FakeRegistry, gate: FakeGate) -> None:
    other = {**TRIGGER, "repository": "ml/other", "tag": ".*"}
    gate.pipelines = {(APP, PIPELINE): {"name": PIPELINE, "triggers": [other, TRIGGER]}}
    assert operator(tag_pattern="^release-.*$").execute(run(digest).context())["released"] is True


def test_after_the_trigger_was_mended_the_release_goes_on(digest: str, registry: FakeRegistry, gate: FakeGate) -> None:
    task, good = run(digest), gate.pipelines
    gate.pipelines = {}
    with pytest.raises(AirflowFailException):
        operator().execute(task.context())
    gate.pipelines = good
    assert operator().execute(task.cleared().context())["released"] is True
    assert len(registry.puts) == 1


def test_a_release_tag_is_never_moved(digest: str, registry: FakeRegistry) -> None:
    task = run(digest)
    tag = operator().execute(task.context())["tag"]
    elsewhere = registry.add_image(REPO, tag, {"somebody": "else"})
    with pytest.raises(AirflowFailException, match=rf"(?s){elsewhere}.*never moved.*clear the release task"):
        operator().execute(task.context())
    assert len(registry.puts) == 1


def test_an_image_that_was_deleted(digest: str, registry: FakeRegistry) -> None:
    registry.manifests.clear()
    with pytest.raises(AirflowFailException, match=r"not in the registry any more.*Clear the build task"):
        operator().execute(run(digest).context())


def test_no_image_to_release(digest: str) -> None:
    task = run(digest)
    del task.results["build_image"]
    with pytest.raises(AirflowFailException, match="there is no image to release"):
        operator().execute(task.context())


def test_a_registry_that_is_down_is_retried_under_the_same_tag(
    digest: str, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlfleet.clients.retry import RetryPolicy

    monkeypatch.setattr("mlfleet.clients.connections.HttpClient", _impatient(RetryPolicy(attempts=1)))
    task = run(digest)
    registry.broken = httpx.ConnectError("refused")
    with pytest.raises(TransientError):
        operator().execute(task.context())
    registry.broken = None
    assert operator().execute(task.context())["n"] == 1


def _impatient(policy: Any) -> Any:
    from mlfleet.clients.http import HttpClient

    return lambda *args, **kwargs: HttpClient(*args, **{**kwargs, "retry": policy})


def test_without_a_connection(digest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_SPINNAKER_DEFAULT")
    with pytest.raises(AirflowFailException, match=r"'spinnaker_default' \(Spinnaker\) does not exist"):
        operator().execute(run(digest).context())


def test_spinnaker_needs_a_pipeline() -> None:
    with pytest.raises(ConfigError, match="application and pipeline"):
        operator(pipeline=None)
