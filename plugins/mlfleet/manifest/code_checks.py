"""Whether the params of a manifest are those that the project's polyaxonfile and pipeline take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path as FilePath
from typing import Any

from mlfleet.manifest.code import Signature, Unreadable, pipeline_signature, polyaxon_signature
from mlfleet.manifest.diagnostics import Severity, nearest, suggestion
from mlfleet.manifest.document import Document, Path, at


def check_code(document: Document, folder: FilePath) -> None:
    """Adds a finding for each param that the code does not take, and for each that it asks for in vain."""
    _check_polyaxonfile(document, folder)
    _check_pipeline(document, folder)


def _check_polyaxonfile(document: Document, folder: FilePath) -> None:
    path = ("training", "polyaxon", "polyaxonfile")
    file = _to_read(document, folder, path, at(document.data, *path))
    if file is not None:
        signature = _read(document, path, lambda: polyaxon_signature(file))
        _check_params(document, "polyaxon", signature, "input", file.name)


def _check_pipeline(document: Document, folder: FilePath) -> None:
    path = ("training", "kfp", "pipeline")
    pipeline = at(document.data, *path)
    name, colon, function = pipeline.rpartition(":") if isinstance(pipeline, str) else ("", "", "")
    file = _to_read(document, folder, path, name)
    if file is not None and colon:
        signature = _read(document, path, lambda: pipeline_signature(file, function))
        _check_params(document, "kfp", signature, "parameter", f"the pipeline {function!r}")


def _read(document: Document, path: Path, read: Callable[[], Signature | None]) -> Signature | None:
    try:
        return read()
    except Unreadable as problem:
        document.report("MF021", path, problem.summary, problem.fix)
        return None


def _check_params(document: Document, system: str, signature: Signature | None, word: str, owner: str) -> None:
    if signature is None:
        return
    # What only some experiments give is still missing for the others.
    experiments = at(document.data, "experiments")
    own: dict[int, set[str]] = {
        index: set() for index in range(len(experiments) if isinstance(experiments, list) else 0)
    }
    common: set[str] = set()
    for path, params in _places_of_params(document, system):
        given = own[int(path[1])] if path[0] == "experiments" else common
        for name in params:
            given.add(name)
            if name not in signature.names:
                # A name that is only misspelled is not missing as well.
                given.add(nearest(name, signature.names) or name)
                document.report("MF022", (*path, name), f"{owner} has no {word} {name!r}",
                                suggestion(name, signature.names) or f"it takes no {word}s", key=True)  # fmt: skip
    given = common | (set.intersection(*own.values()) if own else set())
    for name in sorted(signature.required - given, key=signature.names.index):
        document.report("MF023", ("training", system, "params"), f"the {word} {name!r} of {owner} has no value",
                        f"add `{name}:` to `training.{system}.params`, or give it a default", key=True)  # fmt: skip


def _places_of_params(document: Document, system: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every mapping of params that reaches the system: of all experiments, of a search, of one experiment."""
    sections: list[tuple[Path, Any]] = [(("training", system), at(document.data, "training", system))]
    experiments = at(document.data, "experiments")
    for index, experiment in enumerate(experiments if isinstance(experiments, list) else ()):
        sections.append((("experiments", index, "training", system), at(experiment, "training", system)))
    for path, section in sections:
        for inner, params in (
            (("params",), at(section, "params")),
            (("matrix", "params"), at(section, "matrix", "params")),
        ):
            if isinstance(params, dict):
                yield (*path, *inner), params
        # A `mapping` search names the params in each of its values.
        values = at(section, "matrix", "values")
        for index, value in enumerate(values if isinstance(values, list) else ()):
            if isinstance(value, dict):
                yield (*path, "matrix", "values", index), value


def _to_read(document: Document, folder: FilePath, path: Path, name: Any) -> FilePath | None:
    """The file, if it is there and allowed; otherwise `checks` has reported it."""
    refused = any(
        found.path == document.written(path) and found.severity is Severity.ERROR for found in document.diagnostics
    )
    if refused or not isinstance(name, str) or not name or "${" in name:
        return None
    return folder / name
