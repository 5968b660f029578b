from __future__ import annotations

import json
import socket
from pathlib import Path

from sandbox.polyaxon.layout import Layout
from sandbox.polyaxon.server import environment, refusal


def test_haupt_writes_nowhere_but_below_the_state_folder(tmp_path: Path) -> None:
    base = {"HOME": "/home/someone", "POLYAXON_HOST": "elsewhere", "PATH": "/usr/bin", "NO_PROXY": "internal"}
    found = environment(Layout(tmp_path), base)
    assert found["HOME"] == str(tmp_path / "home")
    assert found["POLYAXON_ARCHIVES_ROOT"] == str(tmp_path / "archives")
    assert found["POLYAXON_LOG_ROOT"] == str(tmp_path / "logs")
    assert "POLYAXON_HOST" not in found
    assert found["NO_PROXY"] == "internal,127.0.0.1,localhost"
    assert json.loads(found["POLYAXON_DB_OPTIONS"]) == {"timeout": 30, "transaction_mode": "IMMEDIATE"}


def test_a_refusal_names_cause_and_next_step(tmp_path: Path) -> None:
    assert "make setup" in str(refusal(0, tmp_path))
    haupt = tmp_path / "haupt"
    haupt.touch(0o755)
    assert refusal(0, tmp_path) is None
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"127.0.0.1:{port}" in str(refusal(port, tmp_path))
