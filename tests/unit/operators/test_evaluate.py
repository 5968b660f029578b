from __future__ import annotations

from typing import Any

import pytest

from mlfleet.errors import ConfigError
from mlfleet.operators.evaluate import EvaluateOperator
from tests.support.delivery import Run


def judge(result: Any, **bounds: Any) -> dict[str, Any]:
    item = {"experiment": "default", "task_id": "t", "metric": "mae", "direction": "min", **bounds}
    return EvaluateOperator(task_id="evaluate", evaluations=[item]).execute(Run(results={"t": result}).context())


@pytest.mark.parametrize(
    ("value", "bounds", "passed"),
    [
        (800, {"max": 800}, True),
        (800.1, {"max": 800}, False),
        (0.9, {"min": 0.9}, True),
        (0.89, {"min": 0.9}, False),
        (5, {"min": 1, "max": 9}, True),
        (10, {"min": 1, "max": 9}, False),
        (1e9, {}, True),
        (float("nan"), {"max": 800}, False),
        (float("-inf"), {"max": 800}, False),
        (True, {"max": 800}, False),
        ("12", {"max": 800}, False),
        (None, {"max": 800}, False),
    ],
)
def test_bounds(value: Any, bounds: dict[str, Any], passed: bool) -> None:
    verdict = judge({"outputs": {"mae": value}}, **bounds)
    assert verdict["passed"] is passed
    assert verdict["results"][0]["passed"] is passed


def test_the_metric_may_be_that_of_the_best_run_of_a_search() -> None:
    verdict = judge({"outputs": {}, "best": {"outputs": {"mae": 500}}}, max=800)
    assert verdict["passed"]
    assert verdict["results"][0] == {
        "experiment": "default",
        "metric": "mae",
        "value": 500.0,
        "bound": "at most 800",
        "direction": "min",
        "passed": True,
        "reason": "mae is 500, asked for: at most 800",
    }


@pytest.mark.parametrize("result", [None, {"outputs": {"rmse": 1}}, {"outputs": None, "best": None}])
def test_a_missing_metric_has_not_passed_and_says_what_there_is(result: Any) -> None:
    verdict = judge(result, max=800)
    assert not verdict["passed"]
    assert verdict["results"][0]["reason"]


def test_every_experiment_must_pass() -> None:
    items = [{"experiment": e, "task_id": e, "metric": "m", "max": 1} for e in ("a", "b")]
    operator = EvaluateOperator(task_id="evaluate", evaluations=items)
    results = {"a": {"outputs": {"m": 1}}, "b": {"outputs": {"m": 2}}}
    verdict = operator.execute(Run(results=results).context())
    assert not verdict["passed"]
    assert [r["passed"] for r in verdict["results"]] == [True, False]


def test_nothing_to_evaluate_has_not_passed() -> None:
    assert not EvaluateOperator(task_id="evaluate", evaluations=[]).execute(Run().context())["passed"]


def test_a_direction_that_does_not_exist_is_refused_at_parse_time() -> None:
    with pytest.raises(ConfigError, match="'up'"):
        EvaluateOperator(task_id="evaluate", evaluations=[{"direction": "up"}])
