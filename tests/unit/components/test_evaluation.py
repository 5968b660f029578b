"""Metrics and bounds, and what is no bound."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlfleet.components.evaluation import evaluate, numbers_of, run
from mlfleet.errors import ConfigError


@pytest.mark.parametrize(
    ("value", "sides", "passed"),
    [
        (5, {"max": 5}, True),
        (5.1, {"max": 5}, False),
        (0.8, {"min": 0.8, "max": 1}, True),
        (0.7, {"min": 0.8, "max": 1}, False),
        (float("nan"), {"max": 5}, False),
        ("5", {"max": 5}, False),
        (True, {"max": 5}, False),
        (None, {"max": 5}, False),
    ],
)
def test_bounds_are_inclusive_and_ask_for_numbers(value: Any, sides: dict[str, float], passed: bool) -> None:
    found = evaluate({"mae": value}, {"mae": sides})
    assert found.passed is passed
    assert found.results["mae"]["passed"] is passed


def test_all_must_pass_and_a_missing_one_has_not() -> None:
    found = evaluate({"a": 1}, {"a": {"max": 1}, "b": {"max": 1}})
    assert not found.passed
    assert found.results["a"]["passed"]
    assert found.results["b"]["reason"] == "there is no metric b; there are: a"


@pytest.mark.parametrize(
    ("bounds", "sentence"),
    [
        ({}, "there are no bounds, so every model would pass"),
        ({"mae": 5}, "the bounds of mae are 5"),
        ({"mae": {}}, "the bounds of mae are {}"),
        ({"mae": {"maximum": 5}}, "mae has a bound 'maximum'; did you mean max?"),
        ({"mae": {"Min": 5}}, "mae has a bound 'Min'; did you mean min?"),
        ({"mae": {"max": "5"}}, "max of mae is '5', not a number"),
        ({"mae": {"max": float("inf")}}, "max of mae is inf, not a number"),
        ({"mae": {"min": 5, "max": 4}}, "no number is at least 5 and at most 4, as mae should be"),
    ],
)
def test_what_is_no_bound_is_one_sentence(bounds: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        evaluate({"mae": 1}, bounds)
    assert str(caught.value).startswith(sentence)
    with pytest.raises(SystemExit, match="error: "):
        run({"mae": 1}, bounds, fail=False)


def test_numbers_of_an_artifact(tmp_path: Path) -> None:
    file = tmp_path / "mlfleet_outputs"
    assert numbers_of(str(file), {"mae": 1}) == {"mae": 1}  # Metrics have no file
    file.write_text(json.dumps({"mae": 2, "rows": 3}))
    assert numbers_of(str(file), {"mae": 1, "r2": 0.5}) == {"mae": 2, "rows": 3, "r2": 0.5}
    for text, sentence in (("{", "mlfleet_outputs is no JSON: "), ("[1]", "mlfleet_outputs is a JSON list")):
        file.write_text(text)
        with pytest.raises(ConfigError, match=sentence):
            numbers_of(str(file), {})
