from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlfleet.operators.release_policy import Facts, decide

PASSED = {"passed": True, "results": [{"experiment": "default", "passed": True, "reason": "mae is 1"}]}
FAILED = {
    "passed": False,
    "results": [
        {"experiment": "default", "passed": True, "reason": "mae is 1, asked for: at most 2"},
        {"experiment": "premium", "passed": False, "reason": "mae is 9, asked for: at most 2"},
    ],
}


@pytest.mark.parametrize("run_type", ["scheduled", "manual", "asset_triggered", "something_new"])
def test_a_run_whose_evaluation_passed_is_released(run_type: str) -> None:
    verdict = decide(Facts(run_type, True, PASSED))
    assert (verdict.release, verdict.guard) == (True, "")
    assert verdict.as_json() == {"released": True, "reason": "the evaluation passed", "guard": ""}


def test_a_project_without_evaluation_is_released() -> None:
    verdict = decide(Facts("scheduled", False))
    assert (verdict.release, verdict.reason) == (True, "the project has no evaluation")


def test_a_failed_evaluation_names_the_experiments_that_failed() -> None:
    verdict = decide(Facts("scheduled", True, FAILED))
    assert (verdict.release, verdict.guard) == (False, "evaluation")
    assert verdict.reason == "the evaluation did not pass: premium: mae is 9, asked for: at most 2"


@pytest.mark.parametrize("evaluation", [None, {}, {"passed": "true"}, {"passed": 1}, {"results": []}, "passed", []])
def test_without_a_verdict_of_the_evaluation_nothing_is_released(evaluation: Any) -> None:
    verdict = decide(Facts("scheduled", True, evaluation))
    assert (verdict.release, verdict.guard) == (False, "evaluation")


def test_an_empty_evaluation_did_not_pass() -> None:
    assert "no results" in decide(Facts("manual", True, {"passed": False, "results": []})).reason


@given(evaluated=st.booleans(), passed=st.one_of(st.booleans(), st.none(), st.text()))
def test_a_backfill_is_never_released(evaluated: bool, passed: Any) -> None:
    verdict = decide(Facts("backfill", evaluated, {"passed": passed, "results": []}))
    assert (verdict.release, verdict.guard) == (False, "backfill")
    assert "backfill" in verdict.reason


def test_an_unknown_run_type_is_not_released() -> None:
    assert decide(Facts("", False)).guard == "backfill"


@given(run_type=st.text(), evaluated=st.booleans(), passed=st.one_of(st.booleans(), st.none(), st.integers()))
def test_a_yes_needs_every_guard(run_type: str, evaluated: bool, passed: Any) -> None:
    verdict = decide(Facts(run_type, evaluated, {"passed": passed, "results": []}))
    assert verdict.release == (run_type not in ("", "backfill") and (not evaluated or passed is True))
    assert verdict.reason
    assert bool(verdict.guard) != verdict.release


@pytest.mark.parametrize(("asked", "guard"), [("auto", ""), ("never", "asked"), ("always", "asked"), ("", "asked")])
def test_nobody_releases_against_the_wish_of_who_started_the_run(asked: str, guard: str) -> None:
    verdict = decide(Facts("manual", True, PASSED, asked))
    assert (verdict.release, verdict.guard) == (guard == "", guard)
