"""Whether the steps of a manifest can be what it says, told from files alone: no code is run or imported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Any

from mlfleet.manifest.code import Unreadable, function_signature
from mlfleet.manifest.diagnostics import suggestion
from mlfleet.manifest.document import Document, Path, at
from mlfleet.manifest.naming import slug_of
from mlfleet.manifest.tasks import DELIVERY

PLACES = ("before_training", "after_training", "after_deploy")
# Every step gets it from the factory.
TASK_ID = "task_id"


def steps_of(data: Any) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Each step of plain data with its path."""
    for place in PLACES:
        steps = at(data, "steps", place)
        for index, step in enumerate(steps if isinstance(steps, list) else ()):
            if isinstance(step, dict):
                yield ("steps", place, index), step


def check_steps(document: Document) -> None:
    """Adds what is wrong with the steps beside each other and beside the rest of the project."""
    _check_places(document)
    experiments = at(document.data, "experiments")
    names = [at(item, "name") for item in experiments] if isinstance(experiments, list) else []
    taken = dict.fromkeys(DELIVERY, "a task of every project")
    taken |= {slug_of(name): f"the task group of {name!r}" for name in names if isinstance(name, str)}
    for path, step in steps_of(document.data):
        name = step.get("name")
        if isinstance(name, str) and name in taken:
            document.report("MF015", (*path, "name"), f"{name!r} is {taken[name]} already", "choose another name")
        elif isinstance(name, str):
            taken[name] = "a step"
        made = [key for key in ("callable", "operator") if step.get(key) is not None]
        if len(made) != 1:
            document.report("MF012" if made else "MF011", (*path, "callable"),
                            "a step has either `callable` or `operator`",
                            "write it like `callable: steps.py:check_rows`", key=True)  # fmt: skip
        arguments = step.get("arguments")
        if isinstance(arguments, dict) and TASK_ID in arguments:
            document.report("MF012", (*path, "arguments", TASK_ID), "the id of the task is the step's `name`",
                            "remove it", key=True)  # fmt: skip


def check_step_code(document: Document, folder: FilePath) -> None:
    """Adds what the files of the project say against its steps; `checks` has seen to it that they are there."""
    wrong = {found.path for found in document.diagnostics}
    for path, step in steps_of(document.data):
        named, arguments = step.get("callable"), step.get("arguments") or {}
        where = (*path, "callable")
        if not isinstance(named, str) or document.written(where) in wrong or not isinstance(arguments, dict):
            continue
        name, _, function = named.rpartition(":")
        try:
            signature = function_signature(folder / name, function)
        except Unreadable as problem:
            document.report("MF021", where, problem.summary, problem.fix)
            continue
        if signature is None:
            continue
        if TASK_ID not in signature.names:
            document.report("MF021", where, f"{function!r} does not take `{TASK_ID}`, which names its task",
                            f"write it like `def {function}({TASK_ID}, ...)`")  # fmt: skip
        takes = [known for known in signature.names if known != TASK_ID]
        for argument in (known for known in arguments if known not in (*signature.names, TASK_ID)):
            document.report("MF022", (*path, "arguments", argument), f"{function!r} has no parameter {argument!r}",
                            suggestion(argument, takes) or "it takes no arguments", key=True)  # fmt: skip
        for missing in sorted(signature.required - {TASK_ID, *arguments}, key=signature.names.index):
            document.report("MF023", where, f"the parameter {missing!r} of {function!r} has no value",
                            f"add `{missing}:` to `arguments`, or give it a default")  # fmt: skip


def _check_places(document: Document) -> None:
    data = document.data
    trained = at(data, "training") is not None
    for place, there, needs in (
        ("before_training", trained, "training"), ("after_training", trained, "training"),
        ("after_deploy", at(data, "deploy") is not None, "deploy"),
    ):  # fmt: skip
        if at(data, "steps", place) and not there:
            document.report("MF016", ("steps", place), f"`{place}` needs `{needs}`", key=True)
