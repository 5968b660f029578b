"""What a backfill may release: nothing, or data that reaches further than all that was ever released."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from mlfleet.errors import ConfigError
from mlfleet.operators.release import ReleaseOperator
from mlfleet.operators.released_data import data_end
from tests.support.delivery import APP, PIPELINE, REPO, FakeGate, FakeRegistry, Run, Store

ASSET = Asset("x-mlfleet://churn/released")
KEY = f"released_data/{REPO}"
DAY = datetime(2026, 11, 10, 3, tzinfo=UTC)


@pytest.fixture
def state() -> Store:
    return Store()


def operator(**changes: Any) -> ReleaseOperator:
    return ReleaseOperator(**{
        "task_id": "release", "build_task_id": "build_image", "application": APP, "pipeline": PIPELINE,
        "spinnaker_conn_id": "spinnaker_default", "backfills": "newer", "asset": ASSET, **changes,
    })  # fmt: skip


def run(digest: str, state: Store, day: int, run_type: str = "backfill") -> Run:
    """The run of that day of November."""
    built = {"repository": REPO, "tag": "build-k", "digest": digest, "labels": {}}
    return Run(results={"build_image": built}, run_type=run_type, end=DAY + timedelta(days=day - 10),
               run_id=f"{run_type}__{day}", asset_state={ASSET: state})  # fmt: skip


def refused(task: Run, match: str) -> None:
    with pytest.raises(AirflowSkipException, match=match):
        operator().execute(task.context())
    assert (task.pushed["decision"]["released"], task.pushed["decision"]["guard"]) == (False, "backfill")


def live(registry: FakeRegistry, gate: FakeGate, labels: dict[str, str]) -> None:
    registry.add_image(REPO, "release-live-1", labels)
    bound = [{"type": "docker/image", "reference": f"registry.test:5000/{REPO}:release-live-1"}]
    stage = {"id": "S", "refId": "1", "type": "deployManifest", "name": "Deploy", "status": "SUCCEEDED",
             "outputs": {"outputs.boundArtifacts": bound}, "context": {}, "requisiteStageRefIds": []}  # fmt: skip
    trigger = {"type": "docker", "repository": REPO, "tag": "release-live-1"}
    gate.executions.append({"id": "E", "pipelineConfigId": "c1", "status": "SUCCEEDED", "buildTime": 1,
                            "trigger": trigger, "stages": [stage]})  # fmt: skip


def test_only_data_that_reaches_further_than_all_that_was_released(
    digest: str, state: Store, registry: FakeRegistry
) -> None:
    assert operator().execute(run(digest, state, 10, "scheduled").context())["released"] is True
    refused(run(digest, state, 9), "its data ends 2026-11-09.*that of run scheduled__10 2026-11-10")
    refused(run(digest, state, 10), "is not newer")
    assert "newer data" in operator().execute(run(digest, state, 12).context())["reason"]
    refused(run(digest, state, 11), "that of run backfill__12")
    assert len(registry.puts) == 2


def test_an_older_run_that_is_no_backfill_takes_nothing_back(digest: str, state: Store) -> None:
    operator().execute(run(digest, state, 10, "scheduled").context())
    operator().execute(run(digest, state, 8, "manual").context())
    assert state[KEY]["run_id"] == "scheduled__10"
    refused(run(digest, state, 9), "is not newer")


def test_a_retry_goes_on_with_what_its_first_try_began(digest: str, state: Store, registry: FakeRegistry) -> None:
    """The first try ends between its word that it releases and the push."""
    task = run(digest, state, 10)
    registry.broken = httpx.Response(403)
    with pytest.raises(AirflowFailException):
        operator().execute(task.context())
    registry.broken = None
    assert state[KEY]["end"] == "2026-11-10T03:00:00+00:00"
    assert not registry.puts
    assert operator().execute(task.context())["released"] is True
    # A backfill that processes the run again has cleared its tasks, and its data is as old as before.
    refused(task.cleared(), "is not newer")


def test_before_anything_was_noted_the_live_image_says_how_far_its_data_reaches(
    digest: str, state: Store, registry: FakeRegistry, gate: FakeGate
) -> None:
    live(registry, gate, {"mlfleet.data.end": "2026-11-10"})
    refused(run(digest, state, 10), "that of ml/churn:release-live-1 2026-11-10")
    assert operator().execute(run(digest, state, 11).context())["released"] is True
    assert state[KEY]["run_id"] == "backfill__11"


def test_a_live_image_that_says_nothing_is_not_taken_for_older(
    digest: str, state: Store, registry: FakeRegistry, gate: FakeGate
) -> None:
    live(registry, gate, {})
    refused(run(digest, state, 10), "nobody knows how far the data of ml/churn:release-live-1 reaches")


def test_the_first_release_may_be_a_backfill(digest: str, state: Store) -> None:
    assert operator().execute(run(digest, state, 10).context())["reason"].endswith("nothing is live yet")


def test_images_of_experiments_are_apart(digest: str, state: Store, registry: FakeRegistry) -> None:
    """They share the asset of their project."""
    operator().execute(run(digest, state, 10, "scheduled").context())
    other = run(digest, state, 9)
    other.results["build_image"] = {**other.results["build_image"], "repository": f"{REPO}/cards"}
    registry.manifests[f"{REPO}/cards", digest] = registry.manifests[REPO, digest]
    task = operator(pipeline="deploy-cards")
    # Nothing was kept for this repository, so it is asked what is live of its own pipeline, which is not there.
    with pytest.raises(AirflowFailException, match="deploy-cards: refused with 404"):
        task.execute(other.context())
    assert set(state) == {KEY}


def test_what_somebody_wrote_there_is_not_taken_for_nothing(digest: str, state: Store) -> None:
    state[KEY] = {"end": "yesterday"}
    with pytest.raises(AirflowFailException, match=r"asset says \{'end': 'yesterday'\}"):
        operator().execute(run(digest, state, 10).context())


def test_other_guards_come_first(digest: str, state: Store) -> None:
    task = run(digest, state, 10)
    task.results["evaluate"] = {"passed": False, "results": []}
    with pytest.raises(AirflowSkipException, match="the evaluation did not pass"):
        operator(evaluate_task_id="evaluate").execute(task.context())
    assert not state


def test_without_the_policy_nothing_is_noted_and_no_backfill_released(digest: str, state: Store) -> None:
    task = operator(backfills="never", asset=None)
    assert task.execute(run(digest, state, 10, "scheduled").context())["released"] is True
    assert not state
    with pytest.raises(AirflowSkipException, match="a backfill is never released"):
        task.execute(run(digest, state, 11).context())


def test_releases_of_one_project_wait_in_line() -> None:
    task = operator()
    assert task.max_active_tis_per_dag == 1
    assert task.inlets == [ASSET]
    assert operator(backfills="never", asset=None).max_active_tis_per_dag is None


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"backfills": "always"}, "'never' or 'newer', not 'always'"),
        ({"asset": None}, "needs the project's asset"),
        ({"spinnaker_conn_id": None}, "needs the project's asset and Spinnaker"),
    ],
)
def test_wrong_arguments(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        operator(**changes)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-10T03:00:00+01:00", "2026-11-10T02:00:00+00:00"),
        ("2026-11-10T03:00:00", "2026-11-10T03:00:00+00:00"),
        ("2026-11-10", "2026-11-10T23:59:59.999999+00:00"),
    ],
)
def test_the_end_of_an_images_data(text: str, expected: str) -> None:
    found = data_end(text, UTC)
    assert found is not None
    assert found.astimezone(UTC).isoformat() == expected


@pytest.mark.parametrize("text", ["", "soon", "2026-13-01"])
def test_a_label_that_is_no_time(text: str) -> None:
    assert data_end(text, UTC) is None
