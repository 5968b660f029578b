"""Compiles one KFP pipeline; run as a program of its own, by path, with an interpreter that has the KFP SDK.

    python kfp_compile.py pipeline.py:function out.json

In a process of its own because importing the SDK takes seconds and 114 MB, and its pins contradict a modern Airflow
image's (kfp.md 1): so this file needs nothing of mlfleet. Writes ``{"ir": ..., "platform": ... | null}``, or
``{"error": {"kind": "config" | "compile", "message": ...}}`` and exit code 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any


class Refusal(Exception):
    """What can't be compiled, and why; ``kind`` is "config" (the machine) or "compile" (the file)."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def compile_target(target: str) -> dict[str, Any]:
    """The compiled pipeline of ``path.py:function``; raises Refusal."""
    name, _, function = target.rpartition(":")
    path = Path(name).resolve()
    try:
        import yaml
        from kfp import compiler
    except ImportError as exc:
        raise Refusal("config", f"{sys.executable} has no KFP SDK ({exc})") from exc
    pipeline = _load(path, function)
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "pipeline.yaml"
        try:
            compiler.Compiler().compile(pipeline_func=pipeline, package_path=str(package))
        except Exception as exc:
            raise Refusal("compile", _told(exc, path)) from exc
        documents = list(yaml.safe_load_all(package.read_text()))
    return {"ir": documents[0], "platform": documents[1] if len(documents) > 1 else None}


def _load(path: Path, function: str) -> Any:
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise Refusal("compile", f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except Exception as exc:
        raise Refusal("compile", _told(exc, path)) from exc
    pipeline = getattr(module, function, None)
    if pipeline is None:
        found = [n for n, v in vars(module).items() if type(v).__name__ == "GraphComponent"]
        raise Refusal("compile", f"{path.name} has no {function!r}; its pipelines: {', '.join(found) or 'none'}")
    return pipeline


def _told(error: Exception, path: Path) -> str:
    """The error with the last line of the user's own file that it passed through."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).resolve() == path]
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).resolve() == path:
        lines = [error.lineno]
    where = f"{path.name}:{lines[-1]}" if lines else path.name
    return f"{where}: {type(error).__name__}: {error}"


def main(argv: list[str]) -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("output", type=Path)
    args = parser.parse_args(argv)
    try:
        answer: dict[str, Any] = compile_target(args.target)
    except Refusal as refusal:
        answer = {"error": {"kind": refusal.kind, "message": str(refusal)}}
    args.output.write_text(json.dumps(answer))
    return 1 if "error" in answer else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
