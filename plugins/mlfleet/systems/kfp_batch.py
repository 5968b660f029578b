"""Many pipelines compiled at once, by `kfp_compile_many`."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlfleet.errors import ConfigError, SpecError
from mlfleet.systems import kfp_compile_many
from mlfleet.systems.kfp_package import PYTHON_VARIABLE, PipelinePackage, package_of

# For a machine that is busy with other things: importing the SDK before the first pipeline is begun.
_START_SECONDS = 120


def compile_many(
    targets: Sequence[tuple[Path, str]], *, parallel: int, timeout: float, environment: Mapping[str, str]
) -> list[PipelinePackage | SpecError]:
    """The package of each file and function, as written in the file, or why there is none, in the order given.

    ``timeout``      seconds that one of them may take
    ``environment``  variables of the processes besides those of this one

    Raises ConfigError when there is no SDK.
    """
    if not targets:
        return []
    with tempfile.TemporaryDirectory(prefix="mlfleet-kfp-") as folder:
        jobs = [
            {"target": f"{path}:{function}", "output": str(Path(folder, f"{number}.json"))}
            for number, (path, function) in enumerate(targets)
        ]
        rounds = -(-len(jobs) // parallel)
        said = _run(Path(folder), jobs, parallel, timeout, _START_SECONDS + rounds * (timeout + 1), environment)
        return [_outcome(job, path, function, said) for job, (path, function) in zip(jobs, targets, strict=True)]


def _run(
    folder: Path, jobs: list[dict[str, str]], parallel: int, timeout: float, limit: float, more: Mapping[str, str]
) -> str:
    """Runs the program to its end; returns the last words of its standard error."""
    python = os.environ.get(PYTHON_VARIABLE) or sys.executable
    given = folder / "jobs.json"
    given.write_text(json.dumps({"parallel": parallel, "timeout": timeout, "jobs": jobs}))
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **more}
    try:
        process = subprocess.Popen(
            [python, "-P", kfp_compile_many.__file__, str(given)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, env=environment, text=True, errors="replace",
        )  # fmt: skip
    except OSError as exc:
        raise ConfigError(f"{python} can't be run: {exc}", PYTHON_VARIABLE, "Give the path of a Python") from exc
    with process:
        try:
            _, said = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            said = f"it did not end within {limit:.0f} s"
        finally:
            # Its forks end with it; a plain kill would leave them.
            if process.poll() is None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10)
                process.kill()
    return " ".join(said.split()[-60:])


def _outcome(job: dict[str, str], path: Path, function: str, said: str) -> PipelinePackage | SpecError:
    try:
        answer: dict[str, Any] = json.loads(Path(job["output"]).read_text())
    except OSError:
        answer = {"error": {"kind": "compile", "message": f"the compiler died: {said or 'it left no word'}"}}
    try:
        return package_of(answer, path, function)
    except SpecError as error:
        return error
