from __future__ import annotations

import json
import threading
import urllib.error
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from include.components import polyaxon_tracking as tracking


class Recorder(ThreadingHTTPServer):
    """Takes requests down and answers with the next of `answers`, then 200."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, str, Any]] = []
        self.answers: list[int] = []


class Handler(BaseHTTPRequestHandler):
    server: Recorder

    def _take(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.command, self.path, body))
        self.send_response(self.server.answers.pop(0) if self.server.answers else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_PATCH = do_POST = _take

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Recorder]:
    with Recorder() as recorder:
        threading.Thread(target=recorder.serve_forever, daemon=True).start()
        monkeypatch.setenv("POLYAXON_HOST", f"http://127.0.0.1:{recorder.server_port}/")
        monkeypatch.setenv("POLYAXON_RUN_INSTANCE", "default.team.project.runs.u1")
        monkeypatch.setenv("POLYAXON_CONTEXT_ROOT", str(tmp_path))
        monkeypatch.setattr(tracking, "RETRY_SECONDS", (0, 0))
        yield recorder
        recorder.shutdown()


PATH = "/api/v1/default/team.project/runs/u1"


def test_outputs_are_merged_into_the_run(server: Recorder) -> None:
    assert tracking.log_outputs(mae=0.5)
    assert server.requests == [("PATCH", PATH, {"outputs": {"mae": 0.5}, "merge": True})]


@pytest.mark.parametrize("status", [405, 500, 503, 429])
def test_a_failing_server_is_asked_again(server: Recorder, status: int) -> None:
    server.answers = [status, status]
    assert tracking.log_outputs(mae=1)
    assert len(server.requests) == 3


def test_a_refusal_is_raised_at_once_and_patience_has_an_end(server: Recorder) -> None:
    server.answers = [404]
    with pytest.raises(urllib.error.HTTPError) as refused:
        tracking.log_outputs(mae=1)
    refused.value.close()
    assert len(server.requests) == 1
    server.answers = [500] * 3
    with pytest.raises(urllib.error.HTTPError) as failed:
        tracking.log_outputs(mae=1)
    failed.value.close()
    assert len(server.requests) == 4


def test_metrics_are_points_of_a_curve(server: Recorder, tmp_path: Path) -> None:
    tracking.log_metrics(0, loss=1.0)
    tracking.log_metrics(1, loss=0.5)
    lines = (tmp_path / "artifacts" / "u1" / "events" / "metric" / "loss.plx").read_text().splitlines()
    assert lines[0] == "step|timestamp|metric"
    assert [(line.split("|")[0], line.split("|")[2]) for line in lines[1:]] == [("0", "1.0"), ("1", "0.5")]
    assert [path for _, path, _ in server.requests] == [f"{PATH}/lineage/artifacts", PATH, PATH]


def test_outside_a_run_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POLYAXON_RUN_INSTANCE", raising=False)
    assert tracking.log_outputs(mae=1) is False
    assert tracking.log_metrics(0, mae=1) is False


def test_the_source_may_travel_as_an_init_file() -> None:
    """Polyaxon renders init files as templates until nothing is left to render, and there is no way to escape."""
    source = Path(tracking.__file__).read_text()
    assert "{" + "{" not in source
    assert "{" + "%" not in source
