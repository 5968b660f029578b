"""Are a model's metrics within their bounds? The same rule as the evaluate task of a DAG (`remote.bounds`)."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mlfleet.components.running import Log
from mlfleet.errors import ConfigError
from mlfleet.remote.bounds import Bounds
from mlfleet.remote.numbers import finite

_WHERE = "the component's input bounds"


class Evaluation(NamedTuple):
    """``results`` maps each metric to ``{"value", "bound", "passed", "reason"}``."""

    passed: bool
    results: dict[str, dict[str, Any]]


def evaluate(numbers: Mapping[str, Any], bounds: Mapping[str, Any]) -> Evaluation:
    """Compares each metric of ``bounds`` (``{"mae": {"max": 5}, ...}``, inclusive) with the one in ``numbers``.

    A metric that is missing or no finite number has not passed. Raises ConfigError for bounds that are none.
    """
    results = {}
    for metric, bound in read_bounds(bounds).items():
        if metric in numbers:
            verdict = bound.judge(metric, numbers[metric])
            value, passed, reason = verdict.value, verdict.passed, verdict.reason
        else:
            has = ", ".join(sorted(numbers)) or "none"
            value, passed, reason = None, False, f"there is no metric {metric}; there are: {has}"
        results[metric] = {"value": value, "bound": str(bound), "passed": passed, "reason": reason}
    return Evaluation(all(each["passed"] for each in results.values()), results)


def read_bounds(given: Mapping[str, Any]) -> dict[str, Bounds]:
    """The bounds by metric. Raises ConfigError: nothing asked for would let everything pass."""
    if not given:
        raise ConfigError("there are no bounds, so every model would pass", _WHERE, 'Give {"metric": {"max": 1.0}}')
    found = {}
    for metric, sides in given.items():
        if not isinstance(sides, Mapping) or not sides:
            raise ConfigError(f"the bounds of {metric} are {sides!r}", _WHERE, "Give min, max or both")
        for side, number in sides.items():
            if side not in ("min", "max"):
                close = difflib.get_close_matches(str(side).lower(), ("min", "max"), 1, 0.3)
                hint = f"; did you mean {close[0]}?" if close else ""
                raise ConfigError(f"{metric} has a bound {side!r}{hint}", _WHERE, "There are min and max")
            if finite(number) is None:
                raise ConfigError(f"{side} of {metric} is {number!r}, not a number", _WHERE)
        low, high = finite(sides.get("min")), finite(sides.get("max"))
        if low is not None and high is not None and low > high:
            raise ConfigError(f"no number is at least {low:g} and at most {high:g}, as {metric} should be", _WHERE)
        found[metric] = Bounds(low, high)
    return found


def numbers_of(path: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What an artifact says in numbers: its metadata (system.Metrics), and its file when that is a JSON object.

    Raises ConfigError for a file that is there and can't be read as one.
    """
    file = Path(path)
    if not file.is_file():
        return dict(metadata)
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise ConfigError(f"{file.name} is no JSON: {exc}", "the artifact that is evaluated") from exc
    if not isinstance(told, dict):
        raise ConfigError(f"{file.name} is a JSON {type(told).__name__}, not an object", "the artifact to evaluate")
    return {**metadata, **told}


def run(numbers: Mapping[str, Any], bounds: Mapping[str, Any], *, fail: bool) -> Evaluation:
    """Evaluates and tells, a line per metric. With ``fail`` the process ends when something has not passed."""
    log = Log(())
    try:
        evaluation = evaluate(numbers, bounds)
    except ConfigError as exc:
        raise SystemExit(f"error: {exc}") from None
    for result in evaluation.results.values():
        log(f"{'passed' if result['passed'] else 'NOT passed'}: {result['reason']}")
    if fail and not evaluation.passed:
        raise SystemExit("the model is not good enough: see above")
    return evaluation
