"""The example projects as they run: their own files, the services' interpreter, the real data."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.support.processes import REPOSITORY, SERVICES_PYTHON

DATA = REPOSITORY / ".sandbox" / "cache" / "data"
DIAMONDS, FLIGHTS = DATA / "diamonds.csv", DATA / "flights.csv"
FILES = ("train.py", "features.py", "tracking.py", "serve.py", "pipeline.py")

# Calls functions of a pipeline's components with artifacts below a folder, as KFP's executor does.
COMPONENTS = """
import json, sys
from pathlib import Path
# Where compiling finds what pipelines share, and where a pod finds what travels with them.
sys.path += [sys.argv[3], sys.argv[3] + "/include/pipelines/_lib"]
from kfp.dsl import Artifact, Metrics, Model
import pipeline

out, steps = Path(sys.argv[1]), json.loads(sys.argv[2])
kinds = dict(trained=Model, model=Model, metrics=Metrics, mlfleet_outputs=Artifact, measured=Artifact)
for step in steps:
    given = {k: kinds[k](name=k, uri=str(out / v[1:])) if str(v).startswith("@") else v for k, v in step[1].items()}
    getattr(pipeline, step[0]).python_func(**given)
"""


def folder(project: str) -> Path:
    return REPOSITORY / "include" / "pipelines" / project


def features_of(project: str) -> ModuleType:
    """Its features, from their source: two projects have a module of that name."""
    module = ModuleType(f"features_of_{project.replace('-', '_')}")
    exec((folder(project) / "features.py").read_text(), module.__dict__)
    return module


def copied(project: str, to: Path) -> Path:
    """The project's files as Polyaxon and the image get them: side by side, links followed."""
    to.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copy(folder(project) / name, to / name)
    return to


def python(cwd: Path, *args: object) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("POLYAXON")}
    return subprocess.run(
        [SERVICES_PYTHON, *map(str, args)], cwd=cwd, capture_output=True, text=True, check=False, timeout=240,
        env={**environment, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def components(project: str, out: Path, *steps: tuple[str, dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    """Runs components one after the other; "@x" as an argument is the artifact `x` below `out`."""
    out.mkdir(parents=True, exist_ok=True)
    return python(folder(project), "-B", "-c", COMPONENTS, out, json.dumps(steps), REPOSITORY)


def one_sentence(ran: subprocess.CompletedProcess[str]) -> str:
    """What a program that failed for a reason said: one line, no traceback."""
    assert ran.returncode != 0, ran.stdout
    (line,) = ran.stderr.strip().splitlines()
    return line


def measured(line: str) -> tuple[float, float]:
    """Error and baseline of a line "mean absolute error 1.0 ... (baseline 2.0)"."""
    words = line.replace("(", "").replace(")", "").split()
    return float(words[words.index("error") + 1]), float(words[words.index("baseline") + 1])
