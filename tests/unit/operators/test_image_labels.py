from __future__ import annotations

from typing import Any

from mlfleet.operators.image_labels import lineage_labels
from mlfleet.operators.run_values import RunValues
from tests.support.delivery import Run

POLYAXON = {"system": "polyaxon", "uuid": "u1", "outputs": {"mae": 7.0}, "best": None}
KFP = {"system": "kfp", "run_id": "r1", "outputs": {"mae": 5.25, "rows": 10, "name": "x", "bad": float("nan")}}


def labels(run: Run, models: dict[str, str], references: dict[str, Any] | None = None) -> dict[str, str]:
    context = run.context()
    return lineage_labels(context, RunValues(context, references or {"static": {"project.name": "churn"}}), models)


def test_the_runs_and_metrics_of_each_experiment() -> None:
    run = Run(
        results={"a.polyaxon": POLYAXON, "a.kfp": KFP, "b.kfp": {**KFP, "run_id": "r2", "outputs": {}}},
        upstream={"a.kfp": {"a.polyaxon"}, "a.polyaxon": set(), "b.kfp": set()},
    )
    assert labels(run, {"a": "a.kfp", "b": "b.kfp"}) == {
        "mlfleet.project": "churn",
        "mlfleet.run_id": "scheduled__1",
        "mlfleet.polyaxon.a": "u1",
        "mlfleet.kfp.a": "r1",
        "mlfleet.metric.a.mae": "5.25",
        "mlfleet.metric.a.rows": "10",
        "mlfleet.kfp.b": "r2",
    }


def test_earlier_tasks_that_handed_on_nothing_or_something_else_are_passed_over() -> None:
    run = Run(results={"a.kfp": KFP, "note": "text"}, upstream={"a.kfp": {"start", "note"}, "start": set()})
    found = labels(run, {"a": "a.kfp"})
    assert {name for name in found if name.startswith("mlfleet.kfp")} == {"mlfleet.kfp.a"}


def test_an_image_without_models() -> None:
    assert labels(Run(), {}, {"static": {}}) == {"mlfleet.run_id": "scheduled__1"}
