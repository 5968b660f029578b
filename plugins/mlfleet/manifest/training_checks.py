"""Rules over several fields of ``training``, and of what experiments change of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path as FilePath
from typing import Any

from mlfleet.manifest.diagnostics import nearest, suggestion
from mlfleet.manifest.document import Document, Path, at
from mlfleet.manifest.environments import Environment
from mlfleet.manifest.tasks import TRAINING
from mlfleet.manifest.training import PolyaxonTraining

POLYAXON: Path = ("training", "polyaxon")
_SOURCES = ("claim", "secret", "config_map", "memory")
_SELECTORS = ("name", "branch", "commit")


def check_training(document: Document, environments: Sequence[Environment]) -> None:
    """Adds what is wrong with the trainings of a manifest beyond single fields."""
    training = at(document.data, "training")
    if "training" in (document.data or {}) and (training is None or training == {}):
        document.report("MF016", ("training",), "`training` needs `polyaxon` or `kfp`, or leave it out")
    polyaxon = at(document.data, *POLYAXON)
    if isinstance(polyaxon, dict):
        _check_source(document, polyaxon)
        _check_best_by(document, polyaxon)
        _check_code(document, polyaxon)
        _check_volumes(document, polyaxon.get("volumes"))
    for index, experiment in enumerate(_list(at(document.data, "experiments"))):
        _check_override(document, ("experiments", index, "training"), at(experiment, "training"))
    for path, section in _sections(document, "polyaxon"):
        _check_placement(document, path, section, environments)
        _check_early_stopping(document, path, section)
        _check_search(document, (*path, "matrix"), section.get("matrix"))
    for path, section in _sections(document, "kfp"):
        _check_version(document, (*path, "version"), section.get("version"))


def check_build_context(document: Document, root: FilePath, folder: FilePath) -> None:
    """Adds that Polyaxon would find no Dockerfile in the code; only the manifest's own repository can be looked at."""
    build, code = at(document.data, *POLYAXON, "build"), at(document.data, *POLYAXON, "code")
    if not isinstance(build, dict) or not isinstance(code, dict) or code.get("revision") is not None:
        return
    context = build.get("context")
    written = isinstance(context, str) and context and "\0" not in context
    if context is not None and not written:
        return
    path: Path = (*POLYAXON, "build", "context") if written else (*POLYAXON, "build")
    target = root / str(context) if written else folder
    top = os.path.realpath(root)
    if not (os.path.realpath(target) + os.sep).startswith(top + os.sep):
        document.report("MF018", path, f"{context!r} leaves the repository", "it is relative to the repository's top")
    elif not (target / "Dockerfile").is_file():
        shown = os.path.relpath(target, root)
        document.report("MF017", path, f"there is no Dockerfile in {shown}, where Polyaxon builds",
                        "`context` names its folder, from the top of the repository")  # fmt: skip


def _sections(document: Document, system: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """What the project says of a system, and what each experiment does."""
    found: list[tuple[Path, Any]] = [(("training", system), at(document.data, "training", system))]
    for index, experiment in enumerate(_list(at(document.data, "experiments"))):
        found.append((("experiments", index, "training", system), at(experiment, "training", system)))
    for path, section in found:
        if isinstance(section, dict):
            yield path, section


def _check_override(document: Document, path: Path, own: Any) -> None:
    for system in own if isinstance(own, dict) else ():
        if system in TRAINING and at(document.data, "training", system) is None:
            missing = f"there is nothing to change: the project has no `training.{system}`"
            document.report("MF016", (*path, system), missing, key=True)
        matrix = at(own, system, "matrix")
        common = at(document.data, "training", system)
        if matrix is not None and common and not at(common, "matrix"):
            document.report("MF016", (*path, system, "matrix"), "only a search can have another `matrix`",
                            "give `training.polyaxon` a matrix", key=True)  # fmt: skip


def _check_source(document: Document, polyaxon: dict[str, Any]) -> None:
    file, component = polyaxon.get("polyaxonfile"), polyaxon.get("component")
    # A key that is only misspelled is not missing as well.
    unknown = [str(key) for key in polyaxon if key not in PolyaxonTraining.model_fields]
    meant = {nearest(key, ("polyaxonfile", "component")) for key in unknown} - {None}
    if file is None and component is None and not meant:
        document.report("MF011", (*POLYAXON, "polyaxonfile"), "the key 'polyaxonfile' is missing",
                        "write it like `polyaxonfile: polyaxonfile.yaml`, or name a `component` of Polyaxon's hub",
                        key=True)  # fmt: skip
    if file is not None and component is not None:
        document.report("MF012", (*POLYAXON, "component"), "a run has either `polyaxonfile` or `component`",
                        "remove one of them", key=True)  # fmt: skip
    elif component is not None and polyaxon.get("files"):
        document.report("MF016", (*POLYAXON, "files"), "`files` need `polyaxonfile`: they travel inside of it",
                        "leave them out; `code` clones a repository into the run", key=True)  # fmt: skip


def _check_best_by(document: Document, polyaxon: dict[str, Any]) -> None:
    if polyaxon.get("best_by") is not None and polyaxon.get("matrix") is None:
        document.report("MF016", (*POLYAXON, "best_by"), "`best_by` chooses among the runs of a `matrix`",
                        "add `matrix`, or leave `best_by` out", key=True)  # fmt: skip


def _check_search(document: Document, path: Path, matrix: Any) -> None:
    kind = at(matrix, "kind")
    if kind in ("grid", "random") and not at(matrix, "params"):
        document.report("MF011", (*path, "params"), f"a {kind} search needs `params`", key=True)
    if kind == "random" and not at(matrix, "numRuns"):
        document.report("MF011", (*path, "numRuns"), "a random search needs `numRuns`", key=True)


def _check_code(document: Document, polyaxon: dict[str, Any]) -> None:
    code, build = polyaxon.get("code"), polyaxon.get("build")
    if isinstance(code, dict) and code.get("connection") is None and code.get("url") is None:
        document.report("MF011", (*POLYAXON, "code", "connection"), "`code` needs `connection` or `url`",
                        "name Polyaxon's connection to the repository, or give the address of a public one",
                        key=True)  # fmt: skip
    if build is not None and code is None:
        document.report("MF016", (*POLYAXON, "build"), "`build` needs `code`: there is nothing to build from",
                        "add `code`, or name a built image with `image`", key=True)  # fmt: skip


def _check_volumes(document: Document, volumes: Any) -> None:
    seen: dict[tuple[str, str], int] = {}
    for index, volume in enumerate(_list(volumes)):
        if not isinstance(volume, dict):
            continue
        path: Path = (*POLYAXON, "volumes", index)
        given = [source for source in _SOURCES if volume.get(source) is not None]
        if not given:
            document.report("MF011", (*path, "claim"), f"a volume comes from one of: {', '.join(_SOURCES)}",
                            "write it like `claim: training-cache`", key=True)  # fmt: skip
        elif len(given) > 1:
            document.report("MF012", (*path, given[1]), f"a volume comes from {given[0]} or from {given[1]}",
                            "remove one of them", key=True)  # fmt: skip
        for key in ("name", "path"):
            value = volume.get(key)
            if isinstance(value, str) and seen.setdefault((key, value), index) != index:
                document.report("MF015", (*path, key), f"{value!r} is another volume already", "choose another one")


def _check_placement(
    document: Document, path: Path, section: dict[str, Any], environments: Sequence[Environment]
) -> None:
    if section.get("image") is not None and at(document.data, *POLYAXON, "build") is not None:
        document.report(
            "MF012", (*path, "image"), "a run has either `image` or `build`", "remove one of them", key=True
        )
    pool = section.get("node_pool")
    for environment in environments if isinstance(pool, str) else ():
        pools = environment.nodes.pools if environment.nodes else {}
        if pools and pool not in pools:
            document.report("MF026", (*path, "node_pool"), f"the environment {environment.name!r} has no node pool "
                            f"{pool!r}", suggestion(str(pool), pools))  # fmt: skip
    for key in ("presets", "connections"):
        values = _list(section.get(key))
        for index, value in enumerate(values):
            if isinstance(value, str) and value in values[:index]:
                document.report("MF015", (*path, key, index), f"{value!r} is in the list already", "remove one")


def _check_early_stopping(document: Document, path: Path, section: dict[str, Any]) -> None:
    early = section.get("early_stopping")
    if not isinstance(early, dict):
        return
    here: Path = (*path, "early_stopping")
    common = at(document.data, *POLYAXON)
    matrix = section.get("matrix") or at(common, "matrix")
    if matrix is None:
        document.report("MF016", here, "`early_stopping` ends a search: it needs `matrix`",
                        "add `matrix`, or leave `early_stopping` out", key=True)  # fmt: skip
    elif at(matrix, "earlyStopping") is not None:
        document.report("MF012", here, "the `matrix` has its own `earlyStopping`", "remove one of them", key=True)
    if early.get("value") is None and early.get("failed_percent") is None:
        document.report("MF011", (*here, "value"), "`early_stopping` needs `value` or `failed_percent`",
                        "for example `value: 100`: enough when the metric is that good", key=True)  # fmt: skip
    if matrix is not None and early.get("value") is not None and at(common, "best_by") is None:
        for key in ("metric", "direction"):
            if early.get(key) is None:
                document.report("MF011", (*here, key), f"without `best_by`, `early_stopping` needs `{key}`",
                                "say which output of the runs is compared, and which way is better",
                                key=True)  # fmt: skip


def _check_version(document: Document, path: Path, version: Any) -> None:
    if not isinstance(version, dict):
        return
    given = [selector for selector in _SELECTORS if version.get(selector) is not None]
    if not given:
        document.report("MF011", (*path, "branch"), f"a version is told by one of: {', '.join(_SELECTORS)}",
                        "write it like `branch: main`, for the newest one of it", key=True)  # fmt: skip
    elif len(given) > 1:
        document.report("MF012", (*path, given[1]), f"a version is told by {given[0]} or by {given[1]}",
                        "remove one of them", key=True)  # fmt: skip


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
