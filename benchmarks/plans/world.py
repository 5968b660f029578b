"""A fleet of generated projects, and the sandbox's Polyaxon and KFP servers, new and empty."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PYTHON = REPOSITORY / ".sandbox" / "services" / "bin" / "python"
MANIFEST = """\
kind: Project
name: {name}
description: Generated project {name}
owners: [{{github: "@acme/team-{team}"}}]
tags: [generated]
experiments: [{{name: default}}, {{name: premium}}, {{name: fair}}]
training:
  polyaxon: {{polyaxonfile: polyaxonfile.yaml}}
  kfp: {{pipeline: "pipeline.py:train"}}
"""
POLYAXONFILE = 'version: 1.1\nkind: component\nrun: {kind: job, container: {command: ["true"]}}\n'
PIPELINE = 'from kfp import dsl\n\n\n@dsl.pipeline(name="{name}")\ndef train(n: int = 1):\n    pass\n'


def write_repository(root: Path, projects: int) -> None:
    """A deployment repository of so many projects with three experiments each."""
    include = root / "include"
    for folder in ("projects", "environments"):
        (include / folder).mkdir(parents=True)
    (include / "environments" / "dev.yaml").write_text("name: dev\n")
    for number in range(projects):
        name = f"project-{number:04}"
        (include / "projects" / f"{name}.yaml").write_text(MANIFEST.format(name=name, team=number % 12))
        code = include / "pipelines" / name
        code.mkdir(parents=True)
        (code / "polyaxonfile.yaml").write_text(POLYAXONFILE)
        (code / "pipeline.py").write_text(PIPELINE.format(name=name))


@contextlib.contextmanager
def servers(home: Path) -> Iterator[dict[str, str]]:
    """The connections of two new servers as environment variables; both are ended afterwards, by process id."""
    with (
        server(home, "polyaxon", ("-m", "sandbox.polyaxon.server"), "/healthz") as polyaxon,
        server(home, "kfp", ("-m", "sandbox.kfp"), "/apis/v2beta1/healthz") as kfp,
    ):
        ports = {"polyaxon": polyaxon, "kfp": kfp}
        yield {
            f"AIRFLOW_CONN_{name.upper()}_DEFAULT": json.dumps({"conn_type": name, "host": "127.0.0.1", "port": port})
            for name, port in ports.items()
        }


@contextlib.contextmanager
def server(home: Path, name: str, module: tuple[str, ...], health: str) -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    log = (home / f"{name}.log").open("wb")
    command = [str(PYTHON), *module, "--port", str(port), "--state", str(home / name)]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_healthy(process, f"http://127.0.0.1:{port}{health}", home / f"{name}.log")
        yield port
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.close()


def wait_healthy(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + 180
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), opener.open(url, timeout=5):
            return
        time.sleep(0.2)
    raise SystemExit(f"{url} did not become healthy:\n{log.read_text(errors='replace')[-2000:]}")
