"""Better than the live model: what is live is read from Spinnaker's executions and from the labels of its image."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from mlfleet.errors import ConfigError, TransientError
from mlfleet.operators.release import ReleaseOperator
from mlfleet.operators.release_policy import decide_on_improvement
from tests.support.delivery import APP, PIPELINE, REPO, FakeGate, FakeRegistry, Run


def operator(**changes: Any) -> ReleaseOperator:
    return ReleaseOperator(**{
        "task_id": "release", "build_task_id": "build_image", "evaluate_task_id": "evaluate", "application": APP,
        "pipeline": PIPELINE, "spinnaker_conn_id": "spinnaker_default", "min_improvement": 0.02, **changes,
    })  # fmt: skip


def run(digest: str, value: float, **changes: Any) -> Run:
    judged = {"experiment": "default", "metric": "mae", "direction": "min", "value": value, "passed": True}
    results = {
        "build_image": {"repository": REPO, "tag": "build-k", "digest": digest, "labels": {}},
        "evaluate": {"passed": True, "results": [{**judged, "reason": "mae"}]},
    }
    return Run(results=results, **changes)


def execution(tag: str, built: int, *, reference: str | None = None, status: str = "SUCCEEDED") -> dict[str, Any]:
    """A deployment of REPO:tag; ``reference`` is what its manifest really got."""
    bound = [{"type": "docker/image", "reference": reference or f"registry.test:5000/{REPO}:{tag}"}]
    deploy = {
        "id": "S", "refId": "1", "type": "deployManifest", "name": "Deploy", "status": status,
        "outputs": {"outputs.boundArtifacts": bound}, "context": {}, "requisiteStageRefIds": [],
    }  # fmt: skip
    trigger = {"type": "docker", "repository": REPO, "tag": tag}
    return {"id": f"E{built}", "pipelineConfigId": "c1", "status": status, "buildTime": built, "trigger": trigger,
            "stages": [deploy]}  # fmt: skip


def deployed(registry: FakeRegistry, gate: FakeGate, tag: str, built: int, mae: float, **changes: Any) -> str:
    digest = registry.add_image(REPO, tag, {"mlfleet.metric.default.mae": f"{mae:.10g}", "org.x": "y"})
    gate.executions.append(execution(tag, built, **changes))
    return digest


@pytest.mark.parametrize(("value", "released"), [(98.0, True), (98.01, False), (50.0, True), (100.0, False)])
def test_a_model_must_be_better_than_the_live_one(
    value: float, released: bool, digest: str, registry: FakeRegistry, gate: FakeGate
) -> None:
    deployed(registry, gate, "release-old-1", 1, 10.0)
    deployed(registry, gate, "release-live-1", 2, 100.0)
    task = run(digest, value)
    if released:
        assert operator().execute(task.context())["reason"].startswith(f"default: mae is {value:g}")
    else:
        with pytest.raises(AirflowSkipException, match=r"that of ml/churn:release-live-1 is 100, asked for: 0.02"):
            operator().execute(task.context())
        assert task.pushed["decision"]["guard"] == "improvement"
        assert not registry.puts


def test_the_same_model_again_is_no_worse(digest: str, registry: FakeRegistry, gate: FakeGate) -> None:
    """A label has ten digits of it."""
    deployed(registry, gate, "release-live-1", 1, 1 / 3)
    assert operator(min_improvement=0.0).execute(run(digest, 1 / 3).context())["released"] is True


def test_what_went_wrong_or_was_another_image_is_not_live(digest: str, registry: FakeRegistry, gate: FakeGate) -> None:
    live = deployed(registry, gate, "release-live-1", 1, 100.0, reference=f"registry.test:5000/{REPO}@{'x'}")
    gate.executions = [execution("release-live-1", 1, reference=f"registry.test:5000/{REPO}@{live}")]
    deployed(registry, gate, "release-a-1", 2, 1.0, status="TERMINAL")
    deployed(registry, gate, "release-b-1", 3, 1.0, status="RUNNING")
    deployed(registry, gate, "release-c-1", 4, 1.0, reference=f"registry.test:5000/{REPO}:release-live-1")
    gate.executions.append({**execution("other", 5), "trigger": {"type": "docker", "repository": "ml/x", "tag": "t"}})
    gate.executions.append({**execution("none", 6), "trigger": {"type": "manual"}})
    assert "release-live-1 is 100" in operator().execute(run(digest, 90.0).context())["reason"]


def test_a_person_who_started_the_pipeline_with_an_image(digest: str, registry: FakeRegistry, gate: FakeGate) -> None:
    deployed(registry, gate, "release-old-1", 1, 100.0)
    deployed(registry, gate, "release-rolled-back-1", 2, 200.0)
    reference = f"registry.test:5000/{REPO}:release-rolled-back-1"
    gate.executions[1]["trigger"] = {"type": "manual", "artifacts": [{"type": "docker/image", "reference": reference}]}
    assert "release-rolled-back-1 is 200" in operator().execute(run(digest, 150.0).context())["reason"]


def test_the_first_release_has_nothing_to_be_better_than(digest: str) -> None:
    assert operator().execute(run(digest, 5.0).context())["reason"] == "the evaluation passed, and nothing is live yet"


def test_a_new_experiment_has_nothing_to_be_better_than(digest: str, registry: FakeRegistry, gate: FakeGate) -> None:
    registry.add_image(REPO, "release-live-1", {"mlfleet.metric.other.mae": "1", "mlfleet.metric.default.mae": "n/a"})
    gate.executions.append(execution("release-live-1", 1))
    assert "has no mae of it" in operator().execute(run(digest, 5.0).context())["reason"]


def test_a_live_image_that_the_registry_lost(digest: str, gate: FakeGate, registry: FakeRegistry) -> None:
    gate.executions.append(execution("release-live-1", 1))
    with pytest.raises(AirflowFailException, match=r"release-live-1 is not in the registry any more"):
        operator().execute(run(digest, 5.0).context())
    assert not registry.puts


def test_other_guards_come_first_and_ask_nobody(digest: str, gate: FakeGate, registry: FakeRegistry) -> None:
    gate.pipelines = {}
    with pytest.raises(AirflowSkipException, match="a backfill is never released"):
        operator().execute(run(digest, 5.0, run_type="backfill").context())


def test_a_gate_that_is_down_is_not_taken_for_nothing_live(
    digest: str, gate: FakeGate, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlfleet.clients.http import HttpClient
    from mlfleet.clients.retry import RetryPolicy

    def impatient(*args: Any, **kwargs: Any) -> HttpClient:
        return HttpClient(*args, **{**kwargs, "retry": RetryPolicy(attempts=1)})

    monkeypatch.setattr("mlfleet.clients.connections.HttpClient", impatient)
    gate.broken = httpx.Response(503)
    with pytest.raises(TransientError):
        operator().execute(run(digest, 5.0).context())
    assert not registry.puts


@pytest.mark.parametrize(
    ("direction", "value", "before", "wanted", "release"),
    [
        ("max", 0.92, 0.9, 0.02, True),
        ("max", 0.91, 0.9, 0.02, False),
        ("max", -1.0, -2.0, 0.5, True),
        ("min", -3.0, -2.0, 0.5, True),
        ("min", 0.0, 0.0, 0.5, True),
        ("min", 0.1, 0.0, 0.0, False),
    ],
)
def test_shares(direction: str, value: float, before: float, wanted: float, release: bool) -> None:
    result = {"experiment": "a", "metric": "m", "direction": direction, "value": value}
    verdict = decide_on_improvement([result], {"a": {"m": before}}, "live", wanted)
    assert (verdict.release, verdict.guard) == (release, "" if release else "improvement")


def test_it_needs_an_evaluation_and_spinnaker() -> None:
    with pytest.raises(ConfigError, match="needs an evaluation and Spinnaker"):
        operator(evaluate_task_id=None)
