"""What a wait makes of bad answers, at the wire: it goes on, or ends with the reason, and the job is left alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from mlfleet.triggers.kfp import KFPTrigger
from tests.support.kfp_wire import CONNECTION, HOST, KFPWire, kfp_wire

CONN = "AIRFLOW_CONN_KFP_DEFAULT"
LOGIN_PAGE = httpx.Response(200, html="<html><title>Sign in</title></html>")
CUT_OFF = httpx.Response(200, content=b'{"runs": [{"run_id": "r', headers={"content-type": "application/json"})


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[KFPWire]:
    monkeypatch.setenv(CONN, CONNECTION)
    with kfp_wire() as wire:
        wire.runs["r1"] = {"run_id": "r1", "display_name": "x", "state": "RUNNING"}
        yield wire


def wait(then: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """The event of a trigger; `then` happens a moment after it began to wait."""

    async def waiting() -> dict[str, Any]:
        trigger = KFPTrigger(conn_id="kfp_default", job_id="r1", poll_interval=0.01, with_logs=False)
        running = asyncio.ensure_future(trigger.run().__anext__())
        await asyncio.sleep(0.1)
        then()
        event = await asyncio.wait_for(running, 20)
        await trigger.cleanup()
        return dict(event.payload)

    return asyncio.run(waiting())


@pytest.mark.parametrize("answer", [LOGIN_PAGE, CUT_OFF, httpx.Response(502, text="bad gateway")], ids=str)
def test_a_bad_answer_is_asked_for_again(wire: KFPWire, answer: httpx.Response) -> None:
    wire.answers = [httpx.Response(answer.status_code, content=answer.content, headers=answer.headers)] * 2
    event = wait(wire.finish)
    assert (event["outcome"], event["status"]["state"]) == ("finished", "succeeded")
    assert not wire.calls("POST", "/runs/r1:terminate")


def test_an_unknown_state_is_waited_for(wire: KFPWire) -> None:
    wire.runs["r1"]["state"] = "DREAMING"
    event = wait(wire.finish)
    assert event["status"]["state"] == "succeeded"


def test_a_token_that_expires_during_a_long_wait_is_read_again_once(
    wire: KFPWire, monkeypatch: pytest.MonkeyPatch
) -> None:
    def expire() -> None:
        monkeypatch.setenv(CONN, CONNECTION.replace("s3cr3t-token-42", "the-next-token"))
        wire.answers = [httpx.Response(401, json={"code": 16, "message": "the token is expired"})]
        wire.finish()

    event = wait(expire)
    assert (event["outcome"], event["status"]["state"]) == ("finished", "succeeded")
    tokens = [request.headers["authorization"] for request in wire.requests]
    assert (tokens[0], tokens[-1]) == ("Bearer s3cr3t-token-42", "Bearer the-next-token")


@pytest.mark.parametrize("status", [401, 403])
def test_credentials_that_are_refused_again_end_the_wait_and_leave_the_job(wire: KFPWire, status: int) -> None:
    def refuse() -> None:
        wire.answers = [httpx.Response(status, json={"code": 7, "message": "no"}) for _ in range(50)]

    event = wait(refuse)
    assert event["outcome"] == "refused"
    assert f"refused with {status}" in event["error"]
    assert "also after reading the connection again" in event["error"]
    assert len(wire.answers) == 48
    assert not wire.calls("POST", "/runs/r1:terminate")
    assert "s3cr3t" not in json.dumps(event)


def test_a_connection_that_was_renamed_is_missed_when_its_credentials_expire(
    wire: KFPWire, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rename() -> None:
        monkeypatch.setenv("AIRFLOW_CONN_KFP_NEW", CONNECTION)
        monkeypatch.delenv(CONN)
        wire.answers = [httpx.Response(401, json={"code": 16, "message": "expired"})]

    event = wait(rename)
    assert event["outcome"] == "refused"
    assert "'kfp_default'" in event["error"]
    assert "does not exist" in event["error"]


def test_a_vanished_job_is_told(wire: KFPWire) -> None:
    event = wait(wire.runs.clear)
    assert event["outcome"] == "vanished"
    assert "r1 does not exist any more" in event["error"]


def test_two_connections_to_one_host_keep_their_own_credentials(wire: KFPWire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_KFP_TWIN", CONNECTION.replace("s3cr3t-token-42", "twin-token"))

    async def waiting() -> None:
        triggers = [KFPTrigger(conn_id=name, job_id="r1", with_logs=False) for name in ("kfp_default", "kfp_twin")]
        running = [asyncio.ensure_future(trigger.run().__anext__()) for trigger in triggers]
        await asyncio.sleep(0.1)
        wire.finish()
        await asyncio.gather(*running)
        for trigger in triggers:
            await trigger.cleanup()

    asyncio.run(waiting())
    tokens = {r.headers["authorization"] for r in wire.requests if r.url.host == HOST}
    assert tokens == {"Bearer s3cr3t-token-42", "Bearer twin-token"}
