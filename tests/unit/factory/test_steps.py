"""A team's own tasks: where they stand in the graph, what they are, and what is said of those that are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization

from mlfleet.factory.dags import build_dags
from mlfleet.factory.plan import Plan
from mlfleet.factory.retries import FleetRetryPolicy
from mlfleet.factory.steps import StepError
from mlfleet.manifest.document import parse
from mlfleet.manifest.environments import Environment
from mlfleet.manifest.models import Project
from tests.unit.manifest.samples import FULL, MINIMAL

CODE = """\
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import task

def rows(task_id, minimum=1):
    @task(task_id=task_id)
    def count():
        return minimum
    return count()

def nothing(task_id):
    return None

def other_name(task_id):
    return EmptyOperator(task_id="other")

not_a_function = 5
"""
EMPTY = "airflow.providers.standard.operators.empty.EmptyOperator"
STEPS = f"""\
steps:
  before_training:
    - {{name: check-rows, callable: "steps.py:rows", arguments: {{minimum: 1000}}}}
    - {{name: second, operator: {EMPTY}}}
  after_training:
    - {{name: report, operator: {EMPTY}, arguments: {{retries: 7, pool: own}}}}
  after_deploy:
    - {{name: warm-up, callable: "steps.py:rows"}}
"""


def dag_of(root: Path, text: str) -> DAG:
    folder = root / "include/pipelines/prices"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "steps.py").write_text(CODE)
    project = Project.model_validate(parse(text, "test.yaml").data)
    (dag,) = build_dags(Plan(project, Environment(name="dev"), "include/projects/prices.yaml", "c0ffee", root))
    return dag


def edges(dag: DAG) -> set[tuple[str, str]]:
    return {(task.task_id, later) for task in dag.tasks for later in task.downstream_task_ids}


def test_their_places_in_the_graph(tmp_path: Path) -> None:
    found = edges(dag_of(tmp_path, FULL + STEPS))
    assert {
        ("check-rows", "second"), ("second", "default.polyaxon"), ("second", "trading-cards.polyaxon"),
        ("default.kfp", "report"), ("trading-cards.kfp", "report"), ("report", "evaluate"), ("deploy", "warm-up"),
    } <= found  # fmt: skip
    assert ("default.kfp", "evaluate") not in found


def test_training_alone(tmp_path: Path) -> None:
    text = MINIMAL + "training: {kfp: {pipeline: 'pipeline.py:train'}}\n" + STEPS.partition("  after_deploy")[0]
    assert edges(dag_of(tmp_path, text)) == {
        ("check-rows", "second"), ("second", "default.kfp"), ("default.kfp", "report"),
    }  # fmt: skip


def test_they_are_what_the_team_made_with_the_policy_of_the_house(tmp_path: Path) -> None:
    dag = dag_of(tmp_path, FULL + STEPS)
    assert (dag.get_task("report").retries, dag.get_task("report").pool) == (7, "own")
    assert (dag.get_task("second").retries, dag.get_task("second").owner) == (1, "@acme/pricing")
    assert {type(dag.get_task(name).retry_policy) for name in ("check-rows", "second", "warm-up")} == {
        FleetRetryPolicy
    }  # fmt: skip
    assert dag.get_task("check-rows").python_callable() == 1000


def test_the_release_is_still_told_by_the_deployment(tmp_path: Path) -> None:
    dag = dag_of(tmp_path, FULL + STEPS)
    assert [task.task_id for task in dag.tasks if task.outlets] == ["deploy"]


def test_equal_manifests_in_two_places_are_serialized_alike(tmp_path: Path) -> None:
    first, second = (json.dumps(DagSerialization.to_dict(dag_of(tmp_path / name, FULL + STEPS))) for name in ("a", "b"))
    assert first == second


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ("callable: 'steps.py:nothing'", "it returned NoneType, and not a task"),
        ("callable: 'steps.py:other_name'", "its task is called 'other'"),
        ("callable: 'steps.py:not_a_function'", "not_a_function is not a function"),
        ("callable: 'steps.py:gone'", "AttributeError"),
        ("callable: 'steps.py:rows', arguments: {maximum: 1}", "unexpected keyword argument 'maximum'"),
        ("operator: nowhere.to.be.Found", "No module named 'nowhere'"),
        ("operator: airflow.sdk.DAG", "it is not an operator class"),
        (f"operator: {EMPTY}, arguments: {{retires: 1}}", "Invalid arguments"),
    ],
)
def test_a_step_that_is_no_task_is_told_by_its_name(tmp_path: Path, step: str, told: str) -> None:
    text = FULL + f"steps: {{before_training: [{{name: mine, {step}}}]}}\n"
    with pytest.raises(StepError, match="the step 'mine'") as raised:
        dag_of(tmp_path, text)
    assert told in str(raised.value)
    assert raised.value.place == "mine"
