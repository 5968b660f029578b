"""The server of a model image, as a process with a model that was really trained."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.processes import SERVICES_PYTHON, Service, free_port, start_service

from .support import DIAMONDS, copied, python

ITEM = {"carat": 0.7, "cut": "Ideal", "color": "F", "clarity": "VS1", "depth": 61.5, "table": 56, "x": 5.7, "y": 5.72,
        "z": 3.51}  # fmt: skip
FIT = f"""
import json, sys, pathlib, joblib, features
for name in ("default", "fair"):
    vectors, prices = features.load({str(DIAMONDS)!r}, "Fair", ("train",))
    folder = pathlib.Path("models") / name
    folder.mkdir(parents=True)
    joblib.dump(features.new_model(0.2, 15).fit(vectors, prices), folder / "model.joblib")
    (folder / "model.json").write_text(json.dumps(dict(segment=name)))
"""


@dataclass
class Served:
    service: Service
    code: Path
    port: int

    def post(self, **options: Any) -> httpx.Response:
        return httpx.post(f"{self.service.url}/predict", timeout=20, trust_env=False, **options)


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copied("price-suggestion", tmp_path_factory.mktemp("image") / "app")
    ran = python(folder, "-c", FIT)
    assert ran.returncode == 0, ran.stderr
    return folder


def start(code: Path, log: Path, port: int) -> Any:
    return start_service([SERVICES_PYTHON, code / "serve.py"], port, "/health", log, env={"PORT": str(port)}, cwd=code)


@pytest.fixture(scope="module")
def served(code: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    port = free_port()
    with start(code, tmp_path_factory.mktemp("log") / "serve.log", port) as service:
        yield Served(service, code, port)


def test_health_names_the_models(served: Served) -> None:
    answer = httpx.get(f"{served.service.url}/health", trust_env=False)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "experiments": ["default", "fair"]})


def test_predictions_come_in_the_order_of_the_items_with_what_the_model_says_of_itself(served: Served) -> None:
    heavy = {**ITEM, "carat": 2.5, "x": 8.7, "y": 8.7, "z": 5.4}
    answer = served.post(json={"experiment": "fair", "items": [ITEM, heavy, ITEM]})
    assert answer.status_code == 200, answer.text
    small, big, again = answer.json()["predictions"]
    assert 0 < small == again < big
    assert answer.json()["model"] == {"segment": "fair"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"experiment": "gold", "items": [ITEM]}, "no experiment 'gold'; there are default, fair"),
        ({"experiment": ["fair"], "items": [ITEM]}, "no experiment ['fair']"),
        ({"items": [ITEM]}, "no experiment None"),
        ({"experiment": "fair"}, "items must be a list"),
        ({"experiment": "fair", "items": []}, "items must be a list"),
        ({"experiment": "fair", "items": {"carat": 1}}, "items must be a list"),
        ({"experiment": "fair", "items": [ITEM, 7]}, "items[1]: a diamond must be an object"),
        ({"experiment": "fair", "items": [{**ITEM, "carat": "heavy"}]}, "items[0]: carat must be a number"),
        ({"experiment": "fair", "items": [{**ITEM, "carat": True}]}, "items[0]: carat must be a number"),
        ({"experiment": "fair", "items": [{**ITEM, "cut": "Superb"}]}, "items[0]: cut must be one of"),
        ({"experiment": "fair", "items": [{k: v for k, v in ITEM.items() if k != "z"}]}, "z must be a number"),
        ([1], "send a JSON object"),
    ],
)
def test_what_is_wrong_is_400_with_one_sentence(served: Served, body: Any, words: str) -> None:
    answer = served.post(json=body)
    assert answer.status_code == 400
    assert words in answer.json()["error"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"items": [{"carat": NaN}], "experiment": "fair"}']
)
def test_broken_json_is_400(served: Served, content: bytes) -> None:
    assert served.post(content=content).status_code == 400


@pytest.mark.parametrize("length", ["-1", "many", "", "99999999999"])
def test_a_wrong_length_is_400(served: Served, length: str) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as line:
        line.sendall(f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode())
        line.shutdown(socket.SHUT_WR)
        assert b" 400 " in line.makefile("rb").readline()


def test_too_large_a_body_is_400_even_for_who_sends_it_all(served: Served) -> None:
    answer = served.post(content=b"x" * (6 * 2**20))
    assert answer.status_code == 400
    assert "at most 4194304 bytes" in answer.json()["error"]


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", "/predict"), ("POST", "/health"), ("POST", "/x")])
def test_elsewhere_is_404(served: Served, method: str, path: str) -> None:
    answer = httpx.request(method, served.service.url + path, trust_env=False)
    assert answer.status_code == 404
    assert "GET /health or POST /predict" in answer.json()["error"]


def test_it_still_serves_after_all_that(served: Served) -> None:
    assert served.post(json={"experiment": "default", "items": [ITEM]}).status_code == 200


def test_sigterm_ends_it_once_the_request_under_way_is_answered(code: Path, tmp_path: Path) -> None:
    port = free_port()
    with start(code, tmp_path / "log", port) as service:
        body = json.dumps({"experiment": "fair", "items": [ITEM]}).encode()
        with socket.create_connection(("127.0.0.1", port), timeout=20) as line:
            line.sendall(b"POST /predict HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body))
            time.sleep(0.3)  # it now waits for the body
            os.kill(service.pid, signal.SIGTERM)
            threading.Timer(0.3, line.sendall, [body]).start()
            assert b" 200 " in line.makefile("rb").readline()
        assert service.process.wait(20) == 0


@pytest.mark.parametrize("broken", ["nothing", "no description", "no json", "no folder"])
def test_without_a_model_it_says_so_in_one_sentence(tmp_path: Path, broken: str) -> None:
    code = copied("price-suggestion", tmp_path / "app")
    if broken != "no folder":
        (code / "models").mkdir()
    if broken in {"no description", "no json"}:
        (code / "models" / "fair").mkdir()
    if broken == "no json":
        (code / "models" / "fair" / "model.json").write_text("{")
    ran = subprocess.run(
        [SERVICES_PYTHON, "serve.py"], cwd=code, capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "PORT": str(free_port())},
    )  # fmt: skip
    assert ran.returncode == 1
    (line,) = ran.stderr.strip().splitlines()
    assert "no model in" in line or "cannot be loaded" in line
