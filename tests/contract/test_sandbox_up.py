"""``python -m sandbox``: up, a line for each service, down without a trace, and one sentence when a port is taken."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox.settings import DEFAULT_PORTS, REPOSITORY
from tests.support.processes import SERVICES_PYTHON, free_port, wait_for

SERVICES = ("registry", "polyaxon", "polyaxon-agent", "kfp", "spinnaker")
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def ports() -> dict[str, int]:
    return {name: free_port() for name in DEFAULT_PORTS}


@pytest.fixture
def sandbox(tmp_path: Path, ports: dict[str, int]) -> Iterator[Run]:
    moved = {f"MLFLEET_{name.upper()}_PORT": str(port) for name, port in ports.items()}
    environment = {**os.environ, **moved, "MLFLEET_SANDBOX_HOME": str(tmp_path / "home"), "COLUMNS": "80"}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(SERVICES_PYTHON), "-m", "sandbox", *words], cwd=REPOSITORY, env=environment,
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    yield run
    run("down")


def lines(status: str) -> dict[str, list[str]]:
    """The words of each service's line in the table."""
    words = [line.split() for line in status.splitlines()]
    return {line[0]: line[1:] for line in words if line and line[0] in SERVICES}


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_up_status_and_down_without_a_trace(sandbox: Run, ports: dict[str, int], tmp_path: Path) -> None:
    up = sandbox("up")
    assert up.returncode == 0, up.stderr
    status = lines(sandbox("status").stdout)
    assert set(status) == set(SERVICES)
    assert {words[0] for words in status.values()} == {"healthy"}
    for name in ("registry", "polyaxon", "kfp", "spinnaker"):
        assert str(ports[name]) in " ".join(status[name])
        assert (tmp_path / "home/logs" / f"{name}.log").is_file()

    again = sandbox("up")
    assert again.returncode == 1
    assert "already up" in again.stderr

    pid = int(status["kfp"][1])
    os.kill(pid, signal.SIGKILL)

    def replaced() -> bool:
        words = lines(sandbox("status").stdout)["kfp"]
        return words[0] == "healthy" and int(words[1]) != pid

    wait_for(replaced, "the supervisor to start the killed server again", 60)

    down = sandbox("down")
    assert down.returncode == 0
    assert "ended singly" not in down.stdout
    assert not [name for name, port in ports.items() if listening(port)]
    assert {entry.name for entry in (tmp_path / "home").iterdir()} <= {"logs", "buildah"}


def test_a_port_in_use_is_one_sentence_and_starts_nothing(sandbox: Run, ports: dict[str, int]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", ports["kfp"]))
        other.listen()
        refused = sandbox("up")
        assert refused.returncode == 1
        (sentence,) = refused.stderr.strip().splitlines()
        assert re.search(rf"port {ports['kfp']}\b.*kfp.*MLFLEET_KFP_PORT", sentence), sentence
        assert not [name for name, port in ports.items() if name != "kfp" and listening(port)]


@pytest.mark.parametrize("value", ["http", "0", "70000"])
def test_a_port_that_is_none(tmp_path: Path, value: str) -> None:
    environment = {**os.environ, "MLFLEET_KFP_PORT": value, "MLFLEET_SANDBOX_HOME": str(tmp_path)}
    ran = subprocess.run([str(SERVICES_PYTHON), "-m", "sandbox", "status"], cwd=REPOSITORY, env=environment,
                         capture_output=True, text=True, timeout=60, check=False)  # fmt: skip
    assert (ran.returncode, ran.stderr.count("\n")) == (1, 1)
    assert f"MLFLEET_KFP_PORT='{value}'" in ran.stderr
