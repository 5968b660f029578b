from __future__ import annotations

import itertools
import json
import pickle
from datetime import datetime, timedelta
from typing import Any

import attrs
import pytest
import yaml
from airflow.sdk import AssetAny, CronDataIntervalTimetable, CronTriggerTimetable, Param
from airflow.sdk.definitions.param import ParamsDict, process_params
from airflow.sdk.exceptions import ParamValidationError
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import Timetable as CoreTimetable

from mlfleet.factory.dags import check
from mlfleet.factory.retries import FleetRetryPolicy
from mlfleet.factory.schedules import TimetableError
from mlfleet.manifest.document import parse
from mlfleet.operators.run_values import RunValues
from mlfleet.timetables.crons import MultipleCronDataIntervalTimetable
from tests.unit.factory.conftest import ROOT, dag_of
from tests.unit.manifest.samples import FULL, MINIMAL

CHAIN = ["evaluate", "build_image", "verify_image", "release", "deploy"]


def serialized(text: str, **plan: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(json.dumps(DagSerialization.to_dict(dag_of(text, **plan))))
    return data


def reversed_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return [reversed_keys(item) for item in value] if isinstance(value, list) else value


def test_the_whole_way() -> None:
    dag = dag_of(FULL)
    groups = [f"{slug}.{system}" for slug in ("default", "trading-cards") for system in ("polyaxon", "kfp")]
    assert sorted(dag.task_ids) == sorted(groups + CHAIN)
    edges = {(task.task_id, later) for task in dag.tasks for later in task.downstream_task_ids}
    assert edges == {
        ("default.polyaxon", "default.kfp"), ("trading-cards.polyaxon", "trading-cards.kfp"),
        ("default.kfp", "evaluate"), ("trading-cards.kfp", "evaluate"), *itertools.pairwise(CHAIN),
    }  # fmt: skip
    assert set(dag.task_group.children) == {"default", "trading-cards", *CHAIN}


@pytest.mark.parametrize(
    ("cut", "tasks"),
    [
        (["training", "evaluation", "image", "deploy"], set()),
        (["evaluation", "image", "deploy"], {"default.polyaxon", "default.kfp"}),
        (["training", "evaluation"], {"build_image", "verify_image", "release", "deploy"}),
        (["image", "deploy"], {"default.polyaxon", "default.kfp", "evaluate"}),
        (["deploy"], {"default.polyaxon", "default.kfp", "evaluate", "build_image", "verify_image", "release"}),
    ],
)
def test_every_section_is_optional(cut: list[str], tasks: set[str]) -> None:
    data = parse(FULL, "full.yaml").data
    assert data is not None
    left = {key: value for key, value in data.items() if key not in cut}
    left["experiments"] = left["experiments"][:1]
    dag = dag_of(yaml.safe_dump(left))
    assert set(dag.task_ids) == tasks
    DagSerialization.to_dict(dag)


def test_what_a_project_says_is_on_its_dag() -> None:
    dag = dag_of(FULL)
    assert isinstance(dag.schedule, CronDataIntervalTimetable)
    assert dag.schedule.expression == "0 3 * * *"
    assert dag.timezone.name == "Europe/Berlin"
    assert dag.start_date == datetime.fromisoformat("2026-11-01T00:00:00+01:00")
    assert (dag.catchup, dag.max_active_runs) == (False, 1)
    assert dag.tags == {"mlfleet", "@acme/pricing", "regression"}
    assert dag.doc_md is not None
    for part in (
        "# Price suggestion",
        "https://github.com/orgs/acme/teams/pricing",
        "[Runbook](https://example.com/runbook)",
    ):
        assert part in dag.doc_md
    task = dag.get_task("default.kfp")
    assert (task.owner, task.retries, task.retry_delay.total_seconds()) == ("@acme/pricing", 1, 60)


def test_schedules() -> None:
    by_hand = dag_of(MINIMAL)
    assert by_hand.schedule is None
    by_asset = dag_of(MINIMAL + "schedule: {asset: other-project, window: 2d}\n")
    assert [asset.uri for asset in by_asset.schedule] == ["x-mlfleet://other-project/released"]
    assert dag_of(MINIMAL + "schedule: {cron: '@daily', start_date: 2026-11-01, catchup: true}\n").catchup is True


def test_several_assets_and_a_pause() -> None:
    several = dag_of(MINIMAL + "schedule: {asset: [toys, cards]}\n").schedule
    assert [asset.uri for asset in several] == ["x-mlfleet://cards/released", "x-mlfleet://toys/released"]
    either = dag_of(MINIMAL + "schedule: {asset: [toys, cards], wait_for: any}\n").schedule
    assert isinstance(either, AssetAny)
    for text in ("schedule: {asset: toys, paused: true}\n", "schedule: {cron: '@daily', paused: true}\n"):
        assert dag_of(MINIMAL + text).schedule is None
    assert dag_of(MINIMAL + "schedule: {cron: '@daily', max_active_runs: 3}\n").max_active_runs == 3


def test_several_crons() -> None:
    several = dag_of(MINIMAL + "schedule: {cron: ['0 6 * * 1-5', '0 12 * * 6'], timezone: Europe/Berlin}\n").schedule
    assert isinstance(several, MultipleCronDataIntervalTimetable)
    assert several.summary == "0 6 * * 1-5 | 0 12 * * 6"
    for one in ("['@daily']", "['@daily', '@daily']", "'@daily'"):
        assert isinstance(dag_of(MINIMAL + f"schedule: {{cron: {one}}}\n").schedule, CronDataIntervalTimetable)


def test_a_timetable_of_airflows_or_of_anybodys() -> None:
    def schedule(path: str, arguments: str) -> object:
        section = f"schedule: {{timetable: {{class: {path}, arguments: {arguments}}}}}\n"
        return dag_of(MINIMAL + section).schedule

    trigger = schedule("airflow.sdk.CronTriggerTimetable", "{expression: '@daily', timezone: UTC}")
    assert isinstance(trigger, CronTriggerTimetable)
    core = schedule("airflow.timetables.trigger.CronTriggerTimetable", "{cron: '@daily', timezone: UTC}")
    assert isinstance(core, CoreTimetable)
    for path, arguments, said in (
        ("airflow.sdk.CronTriggerTimetable", "{corn: '@daily'}", "unexpected keyword argument 'corn'"),
        ("nobody.knows.This", "{}", "No module named 'nobody'"),
        ("airflow.sdk.NoSuchTimetable", "{}", "NoSuchTimetable"),
        ("datetime.timedelta", "{days: 1}", "timedelta is no timetable"),
    ):
        with pytest.raises(TimetableError, match=said) as raised:
            schedule(path, arguments)
        assert raised.value.place == path
        assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)


def test_owners_labels_and_pages() -> None:
    dag = dag_of(
        FULL.replace("email: pricing@example.com", "name: Pricing\n    oncall: https://oncall.example.com/p")
        + "labels: {team: pricing, tier: gold}\n",
        pages={
            "repository": "https://github.com/acme/fleet/blob/main/",
            "kfp": "https://kfp.example.com",
            "polyaxon": "https://polyaxon.example.com/ui/default",
            "spinnaker": "https://deck.example.com",
        },
    )
    assert {"team:pricing", "tier:gold"} <= set(dag.tags)
    assert dag.owner_links == {"@acme/pricing": "https://oncall.example.com/p"}
    assert dag_of(MINIMAL).owner_links == {"@acme/pricing": "https://github.com/orgs/acme/teams/pricing"}
    assert dag.get_task("build_image").labels["mlfleet.label.team"] == "pricing"
    for part in (
        "(Pricing, [on call](https://oncall.example.com/p))",
        "[Manifest](https://github.com/acme/fleet/blob/main/include/projects/prices.yaml)",
        "[Runs in Polyaxon](https://polyaxon.example.com/ui/default/prices/runs)",
        "[Runs in Kubeflow Pipelines](https://kfp.example.com/#/runs)",
        "[Deployments in Spinnaker](https://deck.example.com/#/applications/prices/executions)",
    ):
        assert part in (dag.doc_md or "")


def test_pools() -> None:
    dag = dag_of(FULL + "pools: {default: ml, kfp: gpu, deploy: releases}\n")
    pools = {task.task_id: task.pool for task in dag.tasks}
    assert (pools.pop("default.kfp"), pools.pop("trading-cards.kfp"), pools.pop("deploy")) == ("gpu", "gpu", "releases")
    assert set(pools.values()) == {"ml"}
    assert {task.pool for task in dag_of(FULL).tasks} == {"default_pool"}


def test_every_task_has_the_retry_policy_and_it_is_no_part_of_the_version() -> None:
    dag = dag_of(FULL)
    assert {type(task.retry_policy) for task in dag.tasks} == {FleetRetryPolicy}
    told = json.dumps(serialized(FULL))
    assert "0x" not in told
    assert told.count('"has_retry_policy": true') == len(dag.tasks)


def test_an_experiment_that_is_not_enabled_is_not_there() -> None:
    dag = dag_of(FULL.replace("name: Trading Cards", "name: Trading Cards\n    enabled: false"))
    assert not [task for task in dag.task_ids if task.startswith("trading-cards")]
    assert [item["experiment"] for item in dag.get_task("evaluate").evaluations] == ["default"]
    assert set(dag.get_task("build_image").models) == {"default"}


OWN = """\
    training:
      polyaxon:
        params: {rounds: 50, extra: 1}
        timeout: 8h
        matrix: {kind: grid, params: {depth: {kind: choice, value: [8]}}}
      kfp: {params: {until: never}, caching: true}
"""


def test_an_experiment_is_trained_as_it_says_itself() -> None:
    text = FULL.replace("params: {data:", "params: {rounds: 5, deep: true, data:")
    dag = dag_of(text.replace("    params: {segment: cards}\n", f"    params: {{segment: cards}}\n{OWN}"))
    common, own = dag.get_task("default.polyaxon"), dag.get_task("trading-cards.polyaxon")
    assert (common.run_params["rounds"], own.run_params["rounds"], own.run_params["extra"]) == (5, 50, 1)
    assert own.run_params["deep"] is True
    assert (common.timeout, own.timeout) == (timedelta(minutes=20), timedelta(hours=8))
    assert own.matrix == {"kind": "grid", "params": {"depth": {"kind": "choice", "value": [8]}}}
    assert own.best_by == common.best_by
    common, own = dag.get_task("default.kfp"), dag.get_task("trading-cards.kfp")
    assert (common.enable_caching, own.enable_caching) == (False, True)
    assert (own.run_params["until"], own.run_params["depth"]) == ("never", "${polyaxon.best.inputs.depth}")
    assert own.timeout == common.timeout
    assert "polyaxon.rounds" not in dag.params, "one value of the form would be taken for both experiments"
    assert "polyaxon.deep" in dag.params


def test_a_release_wakes_the_projects_that_wait_for_it() -> None:
    producer, consumer = dag_of(FULL), dag_of(MINIMAL.replace("prices", "cards") + "schedule: {asset: prices}\n")
    outlets = {task.task_id: task.outlets for task in producer.tasks if task.outlets}
    assert outlets == {"deploy": list(consumer.schedule)}


def test_references_stand_for_what_the_manifest_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLEET_DATA_ROOT", "gs://data")
    dag = dag_of(FULL)
    task = dag.get_task("trading-cards.kfp")
    assert task.references["tasks"] == {"polyaxon": "trading-cards.polyaxon"}
    assert task.references["window_seconds"] == 7 * 86400
    static = task.references["static"]
    assert static["experiment.params.segment"] == "cards"
    assert static["project.name"] == "prices"
    assert static["git.commit"] == "c0ffee"


def test_equal_manifests_give_equal_serialized_dags() -> None:
    text = FULL + "labels: {team: pricing, tier: gold}\npools: {default: ml, kfp: gpu}\n"
    other_order = yaml.safe_dump(reversed_keys(parse(text, "full.yaml").data), sort_keys=False)
    assert other_order != text
    first = json.dumps(serialized(text), sort_keys=False)
    assert json.dumps(serialized(other_order), sort_keys=False) == first


def test_a_commit_alone_makes_no_new_dag_version() -> None:
    assert serialized(FULL, commit="c0ffee") == serialized(FULL, commit="decaf")


def test_any_change_of_the_manifest_makes_a_new_dag_version() -> None:
    for old, new in (
        ("segment: cards", "segment: toys"),
        ("max: 800", "max: 801"),
        ("[2, 4]", "[4, 2]"),
        ("90m", "91m"),
    ):
        assert old in FULL
        assert serialized(FULL.replace(old, new)) != serialized(FULL), old


def test_environments_differ_in_their_connections() -> None:
    connections = [
        {task.task_id: _connection(task) for task in dag_of(FULL, environment=name).tasks if _connection(task)}
        for name in ("dev", "prod")
    ]
    assert connections[0].keys() == connections[1].keys()
    assert {"default.polyaxon", "default.kfp", "build_image", "verify_image", "release", "deploy"} <= connections[
        0
    ].keys()
    assert all(name.endswith("_default") for name in connections[0].values())
    assert all(name.endswith("_prod") for name in connections[1].values())


def _connection(task: Any) -> str:
    names = ("conn_id", "polyaxon_conn_id", "kfp_conn_id", "spinnaker_conn_id", "container_registry_conn_id")
    return next((getattr(task, name) for name in names if getattr(task, name, None)), "")


def test_the_deck_manifest_is_a_dag() -> None:
    text = (ROOT / "tests" / "data" / "deck-manifest.yml").read_text(encoding="utf-8")
    dag = dag_of(text)
    assert dag.dag_id == "mercari-us-ml-price-suggestion"
    assert serialized(text)


def test_run_values_is_what_reads_the_references() -> None:
    """The two rooms meet in this dictionary: its keys must be those that `RunValues` knows."""
    references = dag_of(FULL).get_task("default.kfp").references
    assert set(references) == {"static", "tasks", "window_seconds"}
    for key in references:
        assert f'"{key}"' in (RunValues.__doc__ or "")


def test_what_happens_after_a_failure_is_said_per_step() -> None:
    plain = dag_of(FULL)
    assert {plain.get_task(f"default.{system}").on_failed for system in ("polyaxon", "kfp")} == {"resubmit"}
    assert plain.get_task("deploy").on_kill_policy == "leave"
    text = FULL.replace("timeout: 90m", "timeout: 90m\n    on_failed: resume")
    text = text.replace("timeout: PT20M", "timeout: PT20M\n    on_failed: fail")
    dag = dag_of(text.replace("timeout: PT15M", "timeout: PT15M\n  on_kill: cancel\n  on_not_started: start"))
    assert dag.get_task("default.kfp").on_failed == "resume"
    assert dag.get_task("default.polyaxon").on_failed == "fail"
    assert dag.get_task("deploy").on_kill_policy == "stop"
    assert (plain.get_task("deploy").on_not_started, dag.get_task("deploy").on_not_started) == ("fail", "start")


def test_the_edge_that_carries_the_decision_says_what_it_depends_on() -> None:
    def label(text: str) -> str:
        return str(dag_of(text).get_edge_info("release", "deploy")["label"])

    assert label(FULL) == "mae at most 800, no backfill"
    assert label(FULL.replace("max: 800", "min: 0.5, max: 800")) == "mae at least 0.5 and at most 800, no backfill"
    improved = FULL.replace("max: 800", "max: 800, min_improvement: 0.02")
    assert label(improved) == "mae at most 800, better than live, no backfill"
    assert label(FULL.replace("max: 800", "min_improvement: 0")) == "better than live, no backfill"
    assert dag_of(improved).get_task("release").min_improvement == 0.02
    assert dag_of(FULL).get_task("release").min_improvement is None
    delivery = MINIMAL + "image: {}\ndeploy: {spinnaker: {application: a, pipeline: b}}\n"
    assert label(delivery) == "no backfill"


def test_the_trigger_form() -> None:
    text = FULL.replace("params: {data:", "params: {rounds: 5, deep: true, rate: 0.1, kind: gbt, list: [1], data:")
    params = dag_of(text).params
    assert list(params) == [
        "release", "window", "polyaxon.deep", "polyaxon.kind", "polyaxon.rate", "polyaxon.rounds",
    ]  # fmt: skip
    assert {name: params.get_param(name).schema["type"] for name in params if "." in name} == {
        "polyaxon.deep": "boolean", "polyaxon.kind": "string", "polyaxon.rate": "number", "polyaxon.rounds": "integer",
    }  # fmt: skip
    assert params.get_param("release").schema["enum"] == ["auto", "never"]
    assert (params["release"], params["window"], params["polyaxon.rounds"]) == ("auto", None, 5)
    assert list(dag_of(MINIMAL).params) == []


def test_values_of_params_are_checked_apart_from_building() -> None:
    """Airflow checks them whenever a DAG gets its params, which the factory leaves out; for others it still does."""
    dag = dag_of(FULL)
    wrong = ParamsDict({"release": Param("perhaps", enum=["auto", "never"])})
    with attrs.validators.disabled():
        dag.params = wrong
    with pytest.raises(ParamValidationError, match="perhaps"):
        check([dag])
    with pytest.raises(ValueError, match="default values are not valid"):
        dag.params = wrong


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [("release", ["auto", "never"], ["always"]), ("window", [None, "7d", "PT12H"], ["a week", 7])],
)
def test_the_form_takes_what_the_tasks_understand(name: str, good: list[Any], bad: list[Any]) -> None:
    param = dag_of(FULL).params.get_param(name)
    for value in good:
        assert param.resolve(value) == value
    for value in bad:
        with pytest.raises(ParamValidationError):
            param.resolve(value)


NOTIFY = MINIMAL + "notify: {webhook: room, events: [failure, success], late_after: 6h}\n"


def test_who_is_told() -> None:
    dag = dag_of(NOTIFY)
    assert [(item.conn_id, item.event) for item in (*dag.on_failure_callback, *dag.on_success_callback)] == [
        ("room", "failed"), ("room", "succeeded"),
    ]  # fmt: skip
    (alert,) = dag.deadline
    assert alert.interval == timedelta(hours=6)
    assert alert.callback.path == "mlfleet.notifications.webhook.late"
    assert dag_of(MINIMAL).deadline is None
    only_failures = dag_of(MINIMAL + "notify: {webhook: room}\n")
    assert (bool(only_failures.on_failure_callback), only_failures.on_success_callback) == (True, None)


def test_callbacks_and_deadlines_are_serialized_alike() -> None:
    told = json.dumps(serialized(NOTIFY))
    assert told == json.dumps(serialized(NOTIFY))
    assert "0x" not in told
    assert serialized(NOTIFY.replace("6h", "7h")) != serialized(NOTIFY)


def test_a_run_asks_for_what_the_form_has_and_no_param_of_training_is_taken_for_it() -> None:
    dag = dag_of(FULL.replace("params: {data:", "params: {rounds: 5, window: 3, release: 4, data:"))
    for task in dag.tasks:
        asked = process_params(dag, task, {"polyaxon.rounds": 9, "window": "7d"}, suppress_exception=False)
        assert asked == {
            "release": "auto", "window": "7d", "polyaxon.release": 4, "polyaxon.rounds": 9, "polyaxon.window": 3,
        }  # fmt: skip
    assert dag.get_task("default.polyaxon").run_params["window"] == 3
    with pytest.raises(ParamValidationError):
        process_params(dag, dag.get_task("deploy"), {"release": "always"}, suppress_exception=False)
