"""Rules over several fields, references and files of a manifest.

They read the plain data and not the models, so that all of them speak in one pass even when some field is wrong.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from mlfleet.manifest import references
from mlfleet.manifest.code_checks import check_code
from mlfleet.manifest.data_checks import check_data
from mlfleet.manifest.diagnostics import suggestion
from mlfleet.manifest.document import Document, Path, at, dotted
from mlfleet.manifest.environments import Environment
from mlfleet.manifest.image_checks import check_base, check_image
from mlfleet.manifest.naming import slug_of
from mlfleet.manifest.schedule_checks import check_schedules
from mlfleet.manifest.step_checks import check_step_code, check_steps, steps_of
from mlfleet.manifest.tasks import ALL, tasks_of
from mlfleet.manifest.training_checks import check_build_context, check_training

# Ids of the tasks after training, which no task group of an experiment may take.
RESERVED_SLUGS = frozenset(("evaluate", "release", "deploy"))
_RUN = ("data.start", "data.end", "run.key", "run.type", "project.name", "env.*", "git.commit")
_EXPERIMENT = ("experiment.name", "experiment.slug", "experiment.params.*")
_POLYAXON = ("polyaxon.uuid", "polyaxon.outputs.*")
_BEST = ("polyaxon.best.inputs.*", "polyaxon.best.outputs.*")
# What of the training is resolved when it runs, beside the params of KFP, which also know the Polyaxon run.
_TRAINING_READS: tuple[Path, ...] = (
    *(("training", "polyaxon", key) for key in ("params", "matrix", "image")),
    ("training", "polyaxon", "code", "revision"),
    ("training", "polyaxon", "build", "destination"),
    ("training", "polyaxon", "build", "params"),
    *(("training", "kfp", key) for key in ("pipeline_root", "service_account", "version")),
)
_PIPELINE: Path = ("deploy", "spinnaker", "pipeline")
_FREE_FORM = ("annotations", "description")


@dataclass(frozen=True)
class Surroundings:
    """What a manifest is checked against.

    ``root``          of the repository, which no path may leave
    ``folder``        of the project's code, include/pipelines/<project>; None when files cannot be checked
    ``environments``  all that the repository has; every one must know each ``${env.*}``
    """

    root: FilePath
    folder: FilePath | None
    environments: Sequence[Environment]


def check(document: Document, surroundings: Surroundings) -> None:
    """Adds what is wrong beyond single fields; the document must have data."""
    _check_experiments(document)
    check_data(document)
    check_image(document)
    check_schedules(document)
    _check_sections(document)
    check_training(document, surroundings.environments)
    _check_pools(document)
    _check_notify(document)
    check_steps(document)
    _check_texts(document, surroundings)
    if surroundings.folder is not None:
        _check_files(document, surroundings.root, surroundings.folder)
        check_code(document, surroundings.folder)
        check_step_code(document, surroundings.folder)
        check_base(document, surroundings.folder)
        check_build_context(document, surroundings.root, surroundings.folder)


def _experiments(document: Document) -> Iterator[tuple[int, dict[str, Any]]]:
    found = at(document.data, "experiments")
    for index, experiment in enumerate(found if isinstance(found, list) else ()):
        if isinstance(experiment, dict):
            yield index, experiment


def _check_experiments(document: Document) -> None:
    seen: dict[str, int] = {}
    for index, experiment in _experiments(document):
        name = experiment.get("name")
        if not isinstance(name, str) or not (slug := slug_of(name)):
            continue
        path = ("experiments", index, "name")
        if slug in RESERVED_SLUGS:
            document.report("MF015", path, f"{slug!r} is the name of a task of every project", "choose another name")
        elif slug in seen:
            first = document.place_of(("experiments", seen[slug], "name"))
            document.report("MF015", path, f"the task group id {slug!r} is taken on line {first.line}",
                            "choose another name")  # fmt: skip
        seen.setdefault(slug, index)
    found = at(document.data, "experiments")
    if found and isinstance(found, list) and all(at(item, "enabled") is False for item in found):
        document.report("MF012", ("experiments", 0, "enabled"), "no experiment is enabled", "enable one")


def _check_sections(document: Document) -> None:
    data = document.data
    polyaxon, kfp = at(data, "training", "polyaxon"), at(data, "training", "kfp")
    evaluation = at(data, "evaluation")
    if isinstance(evaluation, dict):
        if not polyaxon and not kfp:
            document.report(
                "MF016", ("evaluation",), "`evaluation` needs `training`: there is nothing to measure", key=True
            )
        _check_bounds(document, evaluation)
    if at(data, "deploy") is not None and at(data, "image") is None:
        document.report("MF016", ("deploy",), "`deploy` needs `image`: there is nothing to deploy", key=True)


def _check_pools(document: Document) -> None:
    there = tasks_of(document.data)
    pools = at(document.data, "pools")
    for name in pools if isinstance(pools, dict) else ():
        if name in ALL and name not in there:
            document.report("MF016", ("pools", name), f"this project has no task {name!r}",
                            "remove it", key=True)  # fmt: skip


def _check_notify(document: Document) -> None:
    events = at(document.data, "notify", "events")
    if not isinstance(events, list):
        return
    for index, event in enumerate(events):
        if event in events[:index]:
            document.report("MF015", ("notify", "events", index), f"{event!r} is in the list already", "remove one")
    if not events and not at(document.data, "notify", "late_after"):
        document.report("MF011", ("notify", "events"), "`notify` tells nothing: no events, and no `late_after`",
                        "name an event, or leave `notify` out")  # fmt: skip


def _check_bounds(document: Document, evaluation: dict[str, Any]) -> None:
    improvement = evaluation.get("min_improvement")
    if evaluation.get("min") is None and evaluation.get("max") is None and improvement is None:
        document.report("MF011", ("evaluation", "max"), "`evaluation` needs a bound: `min` or `max`",
                        "for example `max: 800` for an error, `min: 0.9` for an accuracy", key=True)  # fmt: skip
    if improvement is not None and at(document.data, "deploy") is None:
        nothing_live = "`min_improvement` needs `deploy`: there is no live model to be better than"
        document.report("MF016", ("evaluation", "min_improvement"), nothing_live, key=True)
    low, high = evaluation.get("min"), evaluation.get("max")
    if isinstance(low, (int, float)) and isinstance(high, (int, float)) and low > high:
        document.report("MF012", ("evaluation", "min"), f"no value is both at least {low} and at most {high}")


def _check_texts(document: Document, surroundings: Surroundings) -> None:
    """Jinja and references, in every text of the manifest."""
    for path, text in _texts(document.data, ()):
        if path[0] in _FREE_FORM or str(path[0]).startswith("x-"):
            continue
        if "{{" in text or "{%" in text:
            document.report("MF013", path, "there is no Jinja in manifests",
                            "use a reference like ${data.end}")  # fmt: skip
        if "${" in text:
            _check_references(document, path, text, surroundings)


def _check_references(document: Document, path: Path, text: str, surroundings: Surroundings) -> None:
    allowed = _allowed(document, path)
    try:
        found = list(references.paths_in(text))
    except references.BadReference as problem:
        document.report("MF014", path, problem.summary, problem.fix)
        return
    for reference in found:
        try:
            if not allowed:
                known = "they are known in `params` of training and in `image.args`"
                if path == _PIPELINE:
                    known = "write `per: experiment` in `image` to have one for each experiment"
                raise references.BadReference(f"`{dotted(path)}` takes no references", known)
            references.check(reference, allowed)
            _check_value_exists(document, path, reference, surroundings)
        except references.BadReference as problem:
            document.report("MF014", path, problem.summary, problem.fix)


def _allowed(document: Document, path: Path) -> tuple[str, ...]:
    """The scopes that have a value where the text stands; empty where references are not read at all."""
    if path[:1] == ("experiments",) and path[2:3] == ("training",):
        # What an experiment changes is read as what it changes.
        path = path[2:]
    if any(path[: len(place)] == place for place in _TRAINING_READS):
        return _RUN + _EXPERIMENT
    if path[:3] == ("training", "kfp", "params"):
        polyaxon = at(document.data, "training", "polyaxon")
        earlier = _POLYAXON + (_BEST if at(polyaxon, "matrix") and at(polyaxon, "best_by") else ()) if polyaxon else ()
        return _RUN + _EXPERIMENT + earlier
    per_experiment = at(document.data, "image", "per") == "experiment"
    if path[:2] in (("image", "args"), ("image", "base")):
        return _RUN + _EXPERIMENT if per_experiment else _RUN
    if path == _PIPELINE and per_experiment:
        return _EXPERIMENT
    if path[:1] == ("data",) and path[2:3] in (("gcs",), ("bigquery",), ("asset",)):
        return _RUN
    return ()


def _check_value_exists(document: Document, path: Path, reference: str, surroundings: Surroundings) -> None:
    scope, _, name = reference.rpartition(".")
    if scope == "env":
        for environment in surroundings.environments:
            if name not in environment.values:
                raise references.BadReference(
                    f"the environment {environment.name!r} has no value {name!r}",
                    suggestion(name, environment.values) or "add it to its file in include/environments",
                )
    if scope == "experiment.params":
        for index, experiment in _experiments(document):
            params = experiment.get("params") or {}
            concerned = path[0] != "experiments" or path[1] == index
            if concerned and isinstance(params, dict) and name not in params:
                raise references.BadReference(
                    f"the experiment {experiment.get('name')!r} has no param {name!r}",
                    "give every experiment this param",
                )


def _texts(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, (*path, index))


def _check_files(document: Document, root: FilePath, folder: FilePath) -> None:
    for path, name, kind in _files(document.data):
        problem = _problem_with(root, folder, name, kind)
        if problem:
            document.report(*problem[:1], path, *problem[1:])


def _files(data: Any) -> Iterator[tuple[Path, str, str]]:
    """Path in the manifest, path of the file, and what it must be."""
    named: list[tuple[Path, Any, str]] = [(("training", "polyaxon", "polyaxonfile"), None, "file")]
    files = at(data, "training", "polyaxon", "files")
    for index in range(len(files) if isinstance(files, list) else 0):
        named.append((("training", "polyaxon", "files", index), None, "sent"))
    pipeline = at(data, "training", "kfp", "pipeline")
    if isinstance(pipeline, str):
        named.append((("training", "kfp", "pipeline"), pipeline.rpartition(":")[0] or pipeline, "file"))
    for path, step in steps_of(data):
        if isinstance(step.get("callable"), str):
            named.append(((*path, "callable"), step["callable"].rpartition(":")[0] or step["callable"], "file"))
    if isinstance(at(data, "image"), dict):
        named.append((("image", "dockerfile"), at(data, "image", "dockerfile") or "Dockerfile", "file"))
        named.append((("image", "context"), at(data, "image", "context") or ".", "folder"))
        named.append((("image", "models", "dest"), at(data, "image", "models", "dest") or "models", "new"))
    for path, name, kind in named:
        found = at(data, *path) if name is None else name
        if isinstance(found, str) and found and "${" not in found:
            yield path, found, kind


def _problem_with(root: FilePath, folder: FilePath, name: str, kind: str) -> tuple[str, str, str] | None:
    """Id, summary, fix; ``kind`` is file, folder, sent (a file that keeps its name elsewhere) or new (made later)."""
    shown = f"include/pipelines/{folder.name}"
    if "\0" in name:
        return "MF012", "a path cannot hold a NUL character", ""
    target = folder / name
    # realpath follows symbolic links, so a link that points out of the repository is found out too.
    if os.path.isabs(name) or not _inside(os.path.realpath(target), os.path.realpath(root)):
        return "MF018", f"{name!r} leaves the repository", f"paths are relative to {shown}"
    if kind in ("sent", "new") and not _inside(os.path.normpath(target), os.path.normpath(folder)):
        return "MF018", f"{name!r} leaves the project's folder {shown}", "link the file into the folder"
    if kind == "new":
        return None
    if kind == "folder" and not target.is_dir():
        return "MF017", f"there is no folder {name!r} in {shown}", suggestion(name, _entries(folder))
    if kind != "folder" and not target.is_file():
        return "MF017", f"there is no file {name!r} in {shown}", suggestion(name, _entries(folder))
    return None


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _entries(folder: FilePath) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir() if not entry.name.startswith((".", "__"))]
    except OSError:
        return []
