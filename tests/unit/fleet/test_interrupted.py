"""`mlfleet apply` as a process on a terminal, that somebody interrupts."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.fleet import FleetRepository, connections
from tests.support.processes import REPOSITORY


class Slow(BaseHTTPRequestHandler):
    """Polyaxon and KFP with nothing in them; the second project that is made never gets an answer."""

    made: list[str]
    second: threading.Event
    ended: threading.Event

    def do_GET(self) -> None:
        self._answer(b'{"count": 0, "results": []}')

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.made.append(self.path)
        if len(self.made) > 1:
            self.second.set()
            self.ended.wait(60)
        self._answer(b'{"experiment_id": "e"}')

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[type[Slow], str]]:
    class Handler(Slow):
        made, second, ended = [], threading.Event(), threading.Event()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield Handler, f"http://127.0.0.1:{listening.server_address[1]}"
        Handler.ended.set()
        listening.shutdown()
        thread.join()


def test_an_interruption_says_what_was_done_and_what_is_not_known(
    tmp_path: Path, server: tuple[type[Slow], str]
) -> None:
    handler, url = server
    fleet = FleetRepository(tmp_path, "acme")
    for name in ("a", "b", "c"):
        fleet.add(name, ("default",))
    # Ignored signals are inherited, and a shell's background jobs ignore this one.
    script = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from mlfleet.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", script, "--root", str(fleet.root), "apply", "--yes", "--concurrency", "1"]
    environment = {
        **os.environ, **connections(polyaxon=url, kfp=url), "PYTHONPATH": str(REPOSITORY / "plugins"),
        "TERM": "xterm", "COLUMNS": "120",
    }  # fmt: skip
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    said = bytearray()
    reading = threading.Thread(target=_read, args=(ours, said))
    reading.start()
    assert handler.second.wait(60), said.decode()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    reading.join(10)
    os.close(ours)
    text = said.decode()
    # The bar of the progress was there, and has gone.
    assert "1/6" in text
    assert "not known: Polyaxon project b: its answer was not waited for" in text
    assert "not tried: Polyaxon project c" in text
    assert "1 created, 1 not known, 4 not tried" in text
    assert "Traceback" not in text


def _read(terminal: int, into: bytearray) -> None:
    while True:
        try:
            data = os.read(terminal, 4096)
        except OSError:  # the other side is closed
            return
        if not data:
            return
        into += data
