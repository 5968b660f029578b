"""The sandbox's registry: Debian's docker-registry on loopback."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import httpx

from tests.support.images import digest_of, layer, push
from tests.support.processes import SERVICES_PYTHON
from tests.support.spinnaker import start_registry


def test_a_pushed_image_is_there_byte_for_byte_and_after_a_restart(tmp_path: Path) -> None:
    with start_registry(tmp_path) as registry:
        pushed = push(registry, "ml/x", [layer({"a": "b"})], {"Cmd": ["x"]}, "one")
    with start_registry(tmp_path) as registry:
        answer = httpx.get(
            f"http://{registry}/v2/ml/x/manifests/one",
            headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json"},
            trust_env=False,
        )
        assert answer.headers["Docker-Content-Digest"] == pushed.digest == digest_of(answer.content)


def test_a_taken_port_is_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        ran = subprocess.run(
            [SERVICES_PYTHON, "-m", "sandbox.registry", "--port", port, "--state", tmp_path],
            capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
    assert ran.returncode == 1
    assert ran.stderr == f"registry: port {port} is in use; set MLFLEET_REGISTRY_PORT to another one\n"


def test_a_missing_program_is_one_sentence(tmp_path: Path) -> None:
    ran = subprocess.run(
        [SERVICES_PYTHON, "-m", "sandbox.registry", "--port", "1", "--state", tmp_path],
        capture_output=True, text=True, check=False, timeout=30, env={"PATH": str(tmp_path)},
    )  # fmt: skip
    assert ran.returncode == 1
    assert "docker-registry is not installed; run `make setup`" in ran.stderr
