"""A KFP task that runs an uploaded version: found by its first try, kept for the others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from mlfleet.errors import SpecError
from mlfleet.manifest.pipeline_versions import version_name
from mlfleet.operators.kfp import KFPRunOperator
from tests.support.delivery import Run
from tests.support.kfp_wire import CONNECTION, KFPWire, kfp_wire

FIX = version_name("fix/1", "fedcba987654" + "0" * 28)
COMMIT = "0123abc456789" + "0" * 27


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[KFPWire]:
    monkeypatch.setenv("AIRFLOW_CONN_KFP_DEFAULT", CONNECTION)
    with kfp_wire() as wire:
        wire.versions = [FIX, "main_0123abc45678", "main_aaaaaaaaaaaa", "hand-made"]
        yield wire


def spec_of(run: Run, pipeline: str = "churn", **selector: str) -> dict[str, Any]:
    task = KFPRunOperator(
        task_id="kfp",
        pipeline="no/such/file.py:train",
        experiment="churn.default",
        version={"pipeline": pipeline, **selector},
        service_account="trainer-${env.team}",
        references={"static": {"git.commit": COMMIT, "env.team": "pricing", "env.branch": "fix/1"}},
    )
    context = run.context()
    return task.make_spec(task.values(context), context)


@pytest.mark.parametrize(
    ("selector", "name"),
    [
        ({"branch": "main"}, "main_0123abc45678"),
        ({"branch": "${env.branch}"}, FIX),
        ({"commit": "${git.commit}"}, "main_0123abc45678"),
        ({"commit": "aaaaaaa"}, "main_aaaaaaaaaaaa"),
        ({"name": "hand-made"}, "hand-made"),
    ],
)
def test_a_version_is_found(wire: KFPWire, selector: dict[str, str], name: str) -> None:
    spec = spec_of(Run(), **selector)
    assert (spec["labels"], spec["pipeline_name"]) == ({"version": name, "commit": COMMIT}, "churn")
    assert spec["service_account"] == "trainer-pricing"


def test_a_rerun_runs_what_the_first_try_ran(wire: KFPWire) -> None:
    run = Run()
    first = spec_of(run, branch="main")
    wire.versions.insert(0, "main_bbbbbbbbbbbb")
    assert spec_of(run.cleared(), branch="main") == first
    assert spec_of(run, branch="fix/1")["labels"]["version"] == FIX
    run.store.delete("mlfleet_version")
    assert spec_of(run, branch="main")["labels"]["version"] == "main_bbbbbbbbbbbb"


@pytest.mark.parametrize(
    ("pipeline", "selector", "says"),
    [
        ("churn", {"branch": "dev"}, f"no version of branch dev; it has {FIX}, main_0123abc45678"),
        ("churn", {"name": "main"}, f"no version of name main; it has {FIX}"),
        ("chrun", {"branch": "main"}, "chrun.*there is no pipeline of that name"),
    ],
)
def test_a_version_that_is_not_there_is_an_error_that_says_what_is(
    wire: KFPWire, pipeline: str, selector: dict[str, str], says: str
) -> None:
    with pytest.raises(SpecError, match=says):
        spec_of(Run(), pipeline, **selector)


def test_a_version_that_was_removed_is_not_replaced_silently(wire: KFPWire) -> None:
    run = Run()
    spec_of(run, branch="main")
    wire.versions.remove("main_0123abc45678")
    with pytest.raises(SpecError, match=r"id-main_0123abc45678, which this task ran before, is gone"):
        spec_of(run.cleared(), branch="main")


def test_the_server_is_told_who_runs_it_and_the_run_what_it_is(wire: KFPWire) -> None:
    task = KFPRunOperator(
        task_id="kfp", pipeline="x.py:train", experiment="churn.default", service_account="trainer",
        version={"pipeline": "churn", "branch": "main"}, references={"static": {"git.commit": COMMIT}},
    )  # fmt: skip
    wire.ends_after = 4
    task.deferrable, task.poll_interval = False, 0.01
    task.execute(Run().context())
    (created,) = wire.calls("POST", "/runs")
    body = json.loads(created.content)
    assert body["service_account"] == "trainer"
    told = json.loads(body["description"])
    assert (told["commit"], told["version"]) == (COMMIT, "main_0123abc45678")
