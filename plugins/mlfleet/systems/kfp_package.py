"""A compiled KFP pipeline (IR): made in a child process or read from a file, and checked before anything is sent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mlfleet.errors import ConfigError, SpecError
from mlfleet.systems import kfp_compile

PYTHON_VARIABLE = "MLFLEET_KFP_PYTHON"
# The SDK's import alone takes 5 s, on a busy machine several times that.
COMPILE_SECONDS = 300


@dataclass(frozen=True)
class PipelinePackage:
    """``ir`` is the compiled pipeline, ``platform`` the Kubernetes part of it, if it has one."""

    ir: Mapping[str, Any]
    platform: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """The pipeline's name: a folder below the pipeline root."""
        return str(self.ir["pipelineInfo"]["name"])

    @property
    def spec(self) -> dict[str, Any]:
        """What ``POST /runs`` takes as ``pipeline_spec``."""
        if self.platform is None:
            return dict(self.ir)
        return {"pipeline_spec": dict(self.ir), "platform_spec": dict(self.platform)}

    def check(self, params: Mapping[str, Any]) -> None:
        """Raises SpecError for parameters that the pipeline does not have, or needs and does not get.

        The server would answer 500 to the former (kfp.md 4), which looks like its own fault.
        """
        declared = (self.ir.get("root", {}).get("inputDefinitions") or {}).get("parameters") or {}
        unknown = sorted(set(params) - set(declared))
        needed = {
            name for name, entry in declared.items() if "defaultValue" not in entry and not entry.get("isOptional")
        }
        missing = sorted(needed - set(params))
        problems = []
        if unknown:
            problems.append(f"it has no parameter {', '.join(unknown)} (it has: {', '.join(declared) or 'none'})")
        if missing:
            problems.append(f"it needs {', '.join(missing)}")
        if problems:
            raise SpecError("kfp", self.name, "not submitted", "; ".join(problems))


def load_package(path: Path, function: str, *, enable_caching: bool = False) -> PipelinePackage:
    """The pipeline ``function`` of a Python file; of a compiled ``.yaml`` the function is ignored.

    With ``enable_caching`` the file's own decisions stay, otherwise caching is off for every task. Raises SpecError
    when it does not compile, ConfigError when there is no SDK.
    """
    compiled = path.suffix in {".yaml", ".yml", ".json"}
    package = _read(path) if compiled else _compile(path, function)
    return package if enable_caching else PipelinePackage(without_caching(package.ir), package.platform)


def without_caching(ir: Mapping[str, Any]) -> dict[str, Any]:
    """The compiled pipeline with the cache off for every task.

    Decided in the pipeline because the server's switch is ignored for stored versions (kfp.md 5) and on by default.
    ``ir`` may be wrapped with its platform spec.
    """
    copy: dict[str, Any] = json.loads(json.dumps(ir))
    pipeline = copy.get("pipeline_spec", copy)
    for dag in [pipeline.get("root", {}), *(pipeline.get("components") or {}).values()]:
        for task in dag.get("dag", {}).get("tasks", {}).values():
            task["cachingOptions"] = {}
    return copy


def package_of(answer: Mapping[str, Any], path: Path, function: str) -> PipelinePackage:
    """The package in an answer of `kfp_compile`; raises SpecError or ConfigError for an error in it."""
    error = answer.get("error")
    if error and error["kind"] == "config":
        todo = f"Install kfp there, or set {PYTHON_VARIABLE} to a Python that has it"
        raise ConfigError(error["message"], "the interpreter that compiles pipelines", todo)
    if error:
        raise SpecError("kfp", f"{path.name}:{function}", "not compiled", error["message"])
    return PipelinePackage(answer["ir"], answer["platform"])


def _compile(path: Path, function: str) -> PipelinePackage:
    python = os.environ.get(PYTHON_VARIABLE) or sys.executable
    with tempfile.TemporaryDirectory(prefix="mlfleet-kfp-") as folder:
        output = Path(folder) / "out.json"
        command = [python, "-P", kfp_compile.__file__, f"{path}:{function}", str(output)]
        tail = _run(command, path)
        if not output.exists():
            raise SpecError("kfp", path.name, "not compiled", f"the compiler died: {tail}")
        answer = json.loads(output.read_text())
    return package_of(answer, path, function)


def _run(command: list[str], path: Path) -> str:
    """Run the compiler; returns the last lines of its standard error."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=COMPILE_SECONDS, cwd=path.parent, check=False
        )
    except subprocess.TimeoutExpired as exc:
        raise SpecError("kfp", path.name, "not compiled", f"compiling took longer than {COMPILE_SECONDS} s") from exc
    except OSError as exc:
        raise ConfigError(f"{command[0]} can't be run: {exc}", PYTHON_VARIABLE, "Give the path of a Python") from exc
    return " ".join(done.stderr.split()[-60:])


def _read(path: Path) -> PipelinePackage:
    try:
        documents = list(yaml.safe_load_all(path.read_text()))
        package = PipelinePackage(documents[0], documents[1] if len(documents) > 1 else None)
        package.name  # noqa: B018 - a file without it is no pipeline
    except (OSError, yaml.YAMLError, KeyError, IndexError, TypeError) as exc:
        raise SpecError("kfp", path.name, "not readable", f"{path} is no compiled pipeline: {exc!r}") from exc
    return package
