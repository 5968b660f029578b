"""Compares each experiment's metric with its bounds. It decides nothing: `release` reads what it found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlfleet.errors import ConfigError
from mlfleet.operators.base import MlfleetOperator
from mlfleet.triggers.events import failing_fast

if TYPE_CHECKING:
    from airflow.sdk import Context

    from mlfleet.operators.run_values import RunValues
    from mlfleet.remote.bounds import Bounds, Verdict

DIRECTIONS = ("min", "max")


class EvaluateOperator(MlfleetOperator):
    """Looks up metrics of earlier tasks of the run.

    ``evaluations`` is a list of ``{"experiment", "task_id", "metric", "direction", "min", "max"}``; ``min`` and ``max``
    are inclusive bounds, each may be None or absent. The metric is looked for in the task's ``outputs`` and then, for a
    search, in those of its best run.

    Returns ``{"passed": bool, "results": [{"experiment", "metric", "value", "bound", "direction", "passed",
    "reason"}]}``. A metric that is missing or not a finite number has not passed; neither has an empty list.
    """

    def __init__(self, *, evaluations: Sequence[Mapping[str, Any]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.evaluations = [dict(item) for item in evaluations]
        for item in self.evaluations:
            if item.get("direction", "min") not in DIRECTIONS:
                raise ConfigError(f"direction is 'min' or 'max', not {item['direction']!r}", f"task {self.task_id}")

    def execute(self, context: Context) -> dict[str, Any]:
        """Compare, log one line per experiment, return the verdict."""
        with failing_fast():
            values = self.values(context)
            results = [self._judge(values.resolve(item), values) for item in self.evaluations]
        for result in results:
            verdict = "passed" if result["passed"] else "NOT passed"
            self.log.info("%s: %s, %s", result["experiment"], verdict, result["reason"])
        return {"passed": bool(results) and all(result["passed"] for result in results), "results": results}

    def _judge(self, item: Mapping[str, Any], values: RunValues) -> dict[str, Any]:
        from mlfleet.remote.bounds import Bounds

        metric, bounds = item["metric"], Bounds(item.get("min"), item.get("max"))
        verdict = _verdict(item["task_id"], metric, bounds, values)
        return {
            "experiment": item["experiment"],
            "metric": metric,
            "value": verdict.value,
            "bound": str(bounds),
            "direction": item.get("direction", "min"),
            "passed": verdict.passed,
            "reason": verdict.reason,
        }


def _verdict(task_id: str, metric: str, bounds: Bounds, values: RunValues) -> Verdict:
    """What the task's metric is worth; a missing one is worth nothing."""
    from mlfleet.remote.bounds import Verdict

    try:
        result = values.task_output(task_id)
    except LookupError as exc:
        return Verdict(False, None, str(exc))
    outputs = {**((result.get("best") or {}).get("outputs") or {}), **(result.get("outputs") or {})}
    if metric not in outputs:
        has = ", ".join(sorted(outputs)) or "none"
        return Verdict(False, None, f"task {task_id} has no metric {metric}; it has: {has}")
    verdict = bounds.judge(metric, outputs[metric])
    if verdict.value is None:
        return Verdict(False, None, f"{metric} of task {task_id} is {outputs[metric]!r}, not a number")
    return verdict
