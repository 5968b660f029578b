"""Compiles one KFP pipeline; run as a program of its own, by path, with an interpreter that has the KFP SDK.

    python kfp_compile.py pipeline.py:function out.json

In a process of its own because importing the SDK takes seconds and 114 MB, and its pins contradict a modern Airflow
image's (kfp.md 1): so this file needs nothing of mlfleet. Writes ``{"ir": ..., "platform": ... | null}``, or
``{"error": {"kind": "config" | "compile", "message": ...}}`` and exit code 1.

A pipeline below ``include/pipelines/<project>`` imports from its own folder first, and, after all that is installed,
from the places in `SEARCHED`: ``from _lib import data``, ``from components.scaling import scale``.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

# Where modules are looked for that are not the project's own, from the top of the deployment repository.
SEARCHED = ("include/pipelines", "include", "")
_PLACE = ("include", "pipelines")


class Refusal(Exception):
    """What can't be compiled, and why; ``kind`` is "config" (the machine) or "compile" (the file)."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def compile_target(target: str) -> dict[str, Any]:
    """The compiled pipeline of ``path.py:function``; raises Refusal."""
    name, _, function = target.rpartition(":")
    # Not resolved: the repository is the one around a link, not around what it leads to.
    path = Path(os.path.abspath(name))
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
        except (Exception, SystemExit) as exc:
            raise Refusal("compile", _told(exc, path)) from exc
        documents = list(yaml.safe_load_all(package.read_text()))
    return {"ir": documents[0], "platform": documents[1] if len(documents) > 1 else None}


def _load(path: Path, function: str) -> Any:
    top = _top(path)
    if not path.is_file():
        raise Refusal("compile", f"there is no file {path.relative_to(top).as_posix() if top else path}")
    sys.path.insert(0, str(path.parent))
    if top is not None:
        # Last, so that no folder of the repository takes the place of a package that is installed.
        sys.path += [str(top / place) for place in SEARCHED]
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise Refusal("compile", f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as exc:
        raise Refusal("compile", _told(exc, path)) from exc
    pipeline = getattr(module, function, None)
    if pipeline is None:
        found = [n for n, v in vars(module).items() if type(v).__name__ == "GraphComponent"]
        raise Refusal("compile", f"{path.name} has no {function!r}; its pipelines: {', '.join(found) or 'none'}")
    return pipeline


def _top(path: Path) -> Path | None:
    """The deployment repository around a pipeline, None for a file that lies in none."""
    for folder in path.parents:
        if (folder.parent.name, folder.name) == _PLACE:
            return folder.parent.parent
    return None


def _told(error: BaseException, path: Path) -> str:
    """The error with the last line of the repository's own files that it passed through."""
    top = _top(path)
    frames = [(Path(os.path.abspath(f.filename)), f.lineno) for f in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        frames.append((Path(os.path.abspath(error.filename)), error.lineno))
    # Of a pipeline in no repository only its own file is known to be the person's.
    own = [(file, line) for file, line in frames if file == path or _is_below(file, top)]
    file, line = own[-1] if own else (path, None)
    shown = file.name if file == path else file.relative_to(top or file.parent).as_posix()
    return f"{shown}:{line}: {type(error).__name__}: {error}" if line else f"{shown}: {type(error).__name__}: {error}"


def _is_below(file: Path, top: Path | None) -> bool:
    return top is not None and file.is_relative_to(top) and "site-packages" not in file.parts


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
