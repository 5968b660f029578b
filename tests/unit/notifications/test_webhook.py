"""What arrives in the chat room, over a real connection to a server on loopback."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from mlfleet.errors import ConfigError, MlfleetError, RequestRefused, TransientError
from mlfleet.notifications.webhook import WebhookNotifier, late


class Room:
    """Takes messages; `status` is what it answers."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.status = 200
        room = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                room.messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(room.status)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/hooks/s3cret"


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    made = Room()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    monkeypatch.setenv("AIRFLOW_CONN_ROOM", json.dumps({"conn_type": "http", "password": made.address}))
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com/")
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def context() -> Any:
    return {"dag": SimpleNamespace(dag_id="prices"), "run_id": "manual__2026-11-10T03:00:00+00:00",
            "reason": "task_failure"}  # fmt: skip


def test_a_run_that_failed(room: Room) -> None:
    WebhookNotifier(conn_id="room", event="failed", owner="@acme/pricing").notify(context())
    assert room.messages == [
        {
            "text": "prices: run manual__2026-11-10T03:00:00+00:00 failed (task_failure), @acme/pricing\n"
            "https://airflow.example.com/dags/prices/runs/manual__2026-11-10T03%3A00%3A00%2B00%3A00"
        }
    ]


def test_a_run_that_is_late(room: Room) -> None:
    run = {"dag_id": "prices", "dag_run_id": "scheduled__1"}
    asyncio.run(late({"dag_run": run, "deadline": {}}, conn_id="room", after="PT6H"))
    (message,) = room.messages
    assert message["text"].startswith("prices: run scheduled__1 is not done PT6H after it was queued\n")


@pytest.mark.parametrize(
    ("status", "error"), [(404, RequestRefused), (403, RequestRefused), (429, TransientError), (503, TransientError)]
)
def test_a_room_that_says_no(room: Room, status: int, error: type[MlfleetError]) -> None:
    room.status = status
    with pytest.raises(error, match=f"'room' was answered {status}") as raised:
        WebhookNotifier(conn_id="room", event="failed").notify(context())
    assert "s3cret" not in repr(raised.value)
    assert len(room.messages) == 1


def test_nobody_there(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_ROOM", json.dumps({"conn_type": "http", "password": "http://127.0.0.1:1/s3cret"}))
    with pytest.raises(TransientError, match="ConnectError") as raised:
        WebhookNotifier(conn_id="room", event="failed").notify(context())
    assert "s3cret" not in str(raised.value)


def test_connections_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_ROOM", json.dumps({"conn_type": "http", "host": "rooms.example.com"}))
    with pytest.raises(ConfigError, match="no web address"):
        WebhookNotifier(conn_id="room", event="failed").notify(context())
    with pytest.raises(ConfigError, match="no connection 'gone'"):
        WebhookNotifier(conn_id="gone", event="failed").notify(context())
    with pytest.raises(ConfigError, match="no connection 'gone'"):
        asyncio.run(late({}, conn_id="gone", after="PT1H"))
