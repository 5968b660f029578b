"""The DAGs of experiments with a schedule of their own, and the tasks of images per experiment."""

from __future__ import annotations

import itertools
import json
from typing import Any

from airflow.sdk import CronDataIntervalTimetable
from airflow.serialization.serialized_objects import DagSerialization

from mlfleet.operators.spinnaker import SpinnakerDeployOperator
from tests.unit.factory.conftest import dag_of, dags_of
from tests.unit.manifest.samples import FULL
from tests.unit.manifest.test_parts import APART, EACH

CHAIN = ["evaluate", "build_image", "verify_image", "release", "deploy"]


def edges(dag: Any) -> set[tuple[str, str]]:
    return {(task.task_id, later) for task in dag.tasks for later in task.downstream_task_ids}


def test_two_schedules_are_two_dags() -> None:
    whole, apart = dags_of(APART)
    assert sorted(apart.task_ids) == ["evaluate", "trading-cards.kfp", "trading-cards.polyaxon"]
    assert sorted(whole.task_ids) == sorted(["default.kfp", "default.polyaxon", *CHAIN])
    assert isinstance(apart.schedule, CronDataIntervalTimetable)
    assert apart.schedule.expression == "0 0 * * 0"
    assert str(apart.timezone) == "Europe/Berlin"
    assert apart.dag_display_name == "Price suggestion: Trading Cards"
    # Both say which manifest they are of, with all that stands in it.
    assert all(
        "name: Trading Cards" in str(dag.doc_md) and "name: Default" in str(dag.doc_md) for dag in (whole, apart)
    )
    assert "release" not in apart.params
    assert not [task for task in apart.tasks if task.outlets]


def test_its_data_reaches_back_as_its_own_schedule_says() -> None:
    whole, apart = dags_of(APART)
    assert whole.get_task("default.kfp").references["window_seconds"] == 7 * 86400
    assert apart.get_task("trading-cards.kfp").references["window_seconds"] == 14 * 86400


def test_equal_manifests_give_equal_dags_in_any_order_of_keys() -> None:
    def told(text: str) -> list[Any]:
        return [json.loads(json.dumps(DagSerialization.to_dict(dag))) for dag in dags_of(text)]

    swapped = APART.replace("{cron: '@weekly', window: 14d}", "{window: 14d, cron: '@weekly'}")
    assert told(APART) == told(swapped)
    assert told(APART) != told(APART.replace("@weekly", "@monthly"))


def test_each_image_has_the_whole_way_in_the_group_of_its_experiment() -> None:
    dag = dag_of(EACH)
    groups = ["default", "trading-cards"]
    ways = {slug: [f"{slug}.{name}" for name in ("polyaxon", "kfp", *CHAIN)] for slug in groups}
    assert sorted(dag.task_ids) == sorted(itertools.chain(*ways.values()))
    assert edges(dag) == {pair for way in ways.values() for pair in itertools.pairwise(way)}
    assert set(dag.task_group.children) == set(groups)
    for slug in groups:
        build, release = dag.get_task(f"{slug}.build_image"), dag.get_task(f"{slug}.release")
        assert build.repository == dag.get_task(f"{slug}.verify_image").repository == f"ml/prices/{slug}"
        assert build.models == {slug: f"{slug}.kfp"}
        assert build.references["static"]["experiment.slug"] == slug
        assert (release.build_task_id, release.evaluate_task_id) == (f"{slug}.build_image", f"{slug}.evaluate")
        assert release.pipeline == f"deploy-{slug}"
        deploy = dag.get_task(f"{slug}.deploy")
        assert isinstance(deploy, SpinnakerDeployOperator)
        assert (deploy.pipeline, deploy.release_task_id) == (f"deploy-{slug}", f"{slug}.release")
        assert f"'{slug}.build_image'" in dag.get_task(f"{slug}.verify_image").tag
        assert [item["experiment"] for item in dag.get_task(f"{slug}.evaluate").evaluations] == [slug]
        assert [asset.uri for asset in deploy.outlets] == ["x-mlfleet://prices/released"]
        assert dag.get_edge_info(f"{slug}.release", f"{slug}.deploy")["label"] == "mae at most 800, no backfill"


def test_without_training_an_image_per_experiment_still_has_its_group() -> None:
    text = "\n".join(EACH.split("training:")[0].splitlines()) + (
        '\nimage: {per: experiment, args: {SEGMENT: "${experiment.params.segment}"}}\n'
    )
    dag = dag_of(text)
    assert edges(dag) == {
        pair for slug in ("default", "trading-cards")
        for pair in itertools.pairwise(f"{slug}.{name}" for name in CHAIN[1:4])
    }  # fmt: skip
    assert dag.get_task("trading-cards.build_image").references["static"]["experiment.params.segment"] == "cards"


def test_the_documentation_leads_to_the_last_deployments() -> None:
    assert "[Last deployments](dags/prices/tasks/deploy)" in str(dag_of(FULL).doc_md)
    each = str(dag_of(EACH).doc_md)
    assert "[Last deployments of Trading Cards](dags/prices/tasks/trading-cards.deploy)" in each
    assert "[Last deployments of Default](dags/prices/tasks/default.deploy)" in each
    whole, apart = dags_of(APART)
    assert "Last deployments" in str(whole.doc_md)
    assert "Last deployments" not in str(apart.doc_md)


def test_steps_stand_around_all_of_them() -> None:
    operator = "operator: airflow.providers.standard.operators.bash.BashOperator, arguments: {bash_command: 'true'}"
    text = EACH + "steps:\n" + "".join(
        f"  {place}: [{{name: {place.replace('_', '-')}, {operator}}}]\n"
        for place in ("before_training", "after_training", "after_deploy")
    )  # fmt: skip
    found = edges(dag_of(text))
    for slug in ("default", "trading-cards"):
        assert {
            ("before-training", f"{slug}.polyaxon"), (f"{slug}.kfp", "after-training"),
            ("after-training", f"{slug}.evaluate"), (f"{slug}.deploy", "after-deploy"),
        } <= found  # fmt: skip
        assert (f"{slug}.kfp", f"{slug}.evaluate") not in found


def test_backfills_of_newer_data() -> None:
    text = EACH.replace("  timeout: PT15M", "  timeout: PT15M\n  backfill: newer")
    dag = dag_of(text)
    for slug in ("default", "trading-cards"):
        release = dag.get_task(f"{slug}.release")
        assert (release.backfills, release.max_active_tis_per_dag) == ("newer", 1)
        assert release.inlets == [release.asset]
        assert dag.get_edge_info(release.task_id, f"{slug}.deploy")["label"] == (
            "mae at most 800, no backfill of older data"
        )
