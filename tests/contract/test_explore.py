"""``mlfleet explore`` against the real Polyaxon: local code and own params, followed to the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from mlfleet.cli.main import main
from mlfleet.clients.retry import RetryPolicy
from tests.support.polyaxon import PolyaxonSandbox
from tests.support.processes import REPOSITORY, free_port

MANIFEST = """\
kind: Project
name: {name}
owners: [{{github: "@acme/x"}}]
schedule: {{window: 2d}}
experiments: [{{name: Default, params: {{factor: 2}}}}, {{name: Other, params: {{factor: 5}}, enabled: false}}]
training:
  polyaxon:
    polyaxonfile: polyaxonfile.yaml
    files: [train.py, tracking.py]
    params: {{factor: "${{experiment.params.factor}}", since: "${{data.start}}", place: "${{env.place}}"}}
    matrix: {{kind: grid, concurrency: 2, params: {{x: [1, 2, 3]}}}}
    best_by: {{metric: loss, direction: min}}
"""
POLYAXONFILE = """\
version: 1.1
kind: component
name: trial
inputs:
  - {name: x, type: float}
  - {name: factor, type: int}
  - {name: since, type: str}
  - {name: place, type: str}
run:
  kind: job
  container:
    image: python:3.12-slim
    workingDir: /plx-context/artifacts
    command: [python, train.py, "{{ x }}", "{{ factor }}", "{{ since }}", "{{ place }}"]
"""
TRAIN = """\
import sys
import tracking
x, factor, since, place = sys.argv[1:]
print("training with", x, factor, since, place, flush=True)
tracking.log_outputs(loss=abs(float(x) - 2) * int(factor))
"""


@pytest.fixture
def project(tmp_path: Path, polyaxon_sandbox: PolyaxonSandbox, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"explored-{uuid.uuid4().hex[:8]}"
    files = {
        f"projects/{name}.yaml": MANIFEST.format(name=name),
        "environments/dev.yaml": 'name: dev\nvalues: {place: "${process.EXPLORED_PLACE}"}\n',
        f"pipelines/{name}/polyaxonfile.yaml": POLYAXONFILE,
        f"pipelines/{name}/train.py": TRAIN,
        f"pipelines/{name}/tracking.py": (REPOSITORY / "include/components/polyaxon_tracking.py").read_text(),
    }
    for path, text in files.items():
        (tmp_path / "include" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "include" / path).write_text(text)
    monkeypatch.setenv("MLFLEET_ROOT", str(tmp_path))
    monkeypatch.setenv("EXPLORED_PLACE", "here")
    address = {"conn_type": "polyaxon", "host": polyaxon_sandbox.url}
    monkeypatch.setenv("AIRFLOW_CONN_POLYAXON_DEFAULT", json.dumps(address))
    return name


def runs(sandbox: PolyaxonSandbox, project: str) -> list[dict[str, Any]]:
    answer = sandbox.http.get(f"/api/v1/default/{project}/runs", params={"limit": "100"})
    return list(answer.raise_for_status().json()["results"])


def test_a_search_with_local_code(
    project: str, polyaxon_sandbox: PolyaxonSandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explore", project]) == 0
    said = capsys.readouterr().out
    assert "[3/3]" in said
    assert "best: " in said
    assert "factor=2" in said
    assert "outputs: loss=0.0" in said
    parents = [run for run in runs(polyaxon_sandbox, project) if run["kind"] == "matrix"]
    assert [set(run["tags"]) >= {"mlfleet", "explore"} for run in parents] == [True]


def test_one_run_with_own_params_tells_its_log(project: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The param that the matrix searches is fixed, and with it nothing is left to search."""
    assert main(["explore", project, "-p", "x=7", "--experiment", "Other", "--end", "2026-11-20"]) == 0
    said = capsys.readouterr().out
    assert "training with 7 5 2026-11-18 here" in said.replace("7.0", "7")
    assert "outputs: loss=25.0" in said


def test_what_lies_there_is_what_runs(project: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = tmp_path / "include" / "pipelines" / project / "train.py"
    train.write_text(TRAIN.replace("tracking.log", "raise SystemExit('not today')\ntracking.log"))
    assert main(["explore", project, "-p", "x=1"]) == 1
    told = capsys.readouterr()
    assert "not today" in told.out
    assert "It did not succeed (failed)" in told.err


def test_detached_and_dry(project: str, polyaxon_sandbox: PolyaxonSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explore", project, "-p", "x=1", "--dry-run"]) == 0
    assert "place: here" not in (dry := capsys.readouterr().out)
    assert "value: here" in dry
    assert polyaxon_sandbox.http.get(f"/api/v1/default/{project}/runs").status_code == 404
    assert main(["explore", project, "-p", "x=1", "--detach"]) == 0
    (run,) = runs(polyaxon_sandbox, project)
    assert run["uuid"] in capsys.readouterr().out


def test_ctrl_c_stops_following_and_not_the_run(
    project: str, tmp_path: Path, polyaxon_sandbox: PolyaxonSandbox
) -> None:
    train = tmp_path / "include" / "pipelines" / project / "train.py"
    gate = tmp_path / "gate"
    waiting = f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.1)\n"
    train.write_text(TRAIN.replace("tracking.log", f"{waiting}tracking.log"))
    # Ignored signals are inherited, and a shell's background jobs ignore this one.
    script = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from mlfleet.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", script, "explore", project, "-p", "x=1"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env=os.environ) as explorer:  # fmt: skip
        assert explorer.stdout is not None
        assert "Submitted" in explorer.stdout.readline()
        deadline = time.monotonic() + 60
        while [run["status"] for run in runs(polyaxon_sandbox, project)] != ["running"]:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        explorer.send_signal(signal.SIGINT)
        _, told = explorer.communicate(timeout=30)
        assert explorer.returncode == 130
        assert "It goes on without you" in told
        assert "Traceback" not in told
    assert [run["status"] for run in runs(polyaxon_sandbox, project)] == ["running"]
    gate.touch()
    while [run["status"] for run in runs(polyaxon_sandbox, project)] != ["succeeded"]:
        assert time.monotonic() < deadline + 60
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--experiment", "Ohter"], "did you mean 'Other'"),
        (["-p", "x"], "written name=value"),
        (["-p", "x=[1"], "cannot be read"),
        (["-p", "speed=1"], "it has no input speed"),
        (["-e", "prod"], "there is no environment 'prod'"),
        (["--no-search"], "its input x has neither a value nor a parameter"),
    ],
)
def test_wrong_wishes_submit_nothing(
    project: str, words: list[str], said: str, polyaxon_sandbox: PolyaxonSandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explore", project, *words]) in (1, 2, 64)
    assert said in capsys.readouterr().err
    assert polyaxon_sandbox.http.get(f"/api/v1/default/{project}/runs").status_code == 404


def test_without_a_connection_or_a_server(
    project: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_POLYAXON_DEFAULT", "")
    assert main(["explore", project, "-p", "x=1"]) == 1
    assert "AIRFLOW_CONN_POLYAXON_DEFAULT" in capsys.readouterr().err
    nobody = {"conn_type": "polyaxon", "host": f"http://127.0.0.1:{free_port()}"}
    monkeypatch.setenv("AIRFLOW_CONN_POLYAXON_DEFAULT", json.dumps(nobody))
    monkeypatch.setattr("mlfleet.fleet.explore.RETRY", RetryPolicy.once())
    assert main(["explore", project, "-p", "x=1"]) == 1
    assert "127.0.0.1" in (told := capsys.readouterr().err)
    assert "Traceback" not in told
