"""The sandbox's client of Airflow's API."""

from __future__ import annotations

import httpx
import pytest

from sandbox.airflow import AirflowAPI
from sandbox.settings import SandboxError

LOCKED = {"detail": {"reason": "Database error", "message": "Serious error when handling your request."}}


def api(*answers: httpx.Response) -> tuple[AirflowAPI, list[httpx.Request], list[float]]:
    asked: list[httpx.Request] = []
    sleeps: list[float] = []
    left = list(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return left.pop(0) if len(left) > 1 else left[0]

    return AirflowAPI("http://airflow", transport=httpx.MockTransport(answer), sleep=sleeps.append), asked, sleeps


def test_a_call_that_a_locked_database_rolled_back_is_sent_again() -> None:
    airflow, asked, sleeps = api(httpx.Response(500, json=LOCKED), httpx.Response(200, json={"dag_run_id": "r"}))
    assert airflow.trigger("prices") == "r"
    assert (len(asked), len(sleeps)) == (2, 1)


def test_a_database_that_stays_locked_is_told() -> None:
    airflow, asked, _ = api(httpx.Response(500, json=LOCKED))
    with pytest.raises(SandboxError, match="Database error"):
        airflow.trigger("prices")
    assert len(asked) == 6


def test_another_500_is_not_sent_again() -> None:
    airflow, asked, _ = api(httpx.Response(500, json={"detail": "a fault"}))
    with pytest.raises(SandboxError, match="a fault"):
        airflow.trigger("prices")
    assert len(asked) == 1
