"""A team's own tasks: made by a function of the project, or by any operator class."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.definitions.mappedoperator import MappedOperator

from mlfleet.factory.foreign import ForeignCodeError
from mlfleet.factory.plan import RETRIES, Plan

if TYPE_CHECKING:
    from mlfleet.manifest.models import Step

Task = BaseOperator | MappedOperator


class StepError(ForeignCodeError):
    """A step whose code makes no task; ``place`` is its name."""

    def __init__(self, step: str, what: str, where: str = "") -> None:
        super().__init__(step, f"the step {step!r}: {what}", where)
        self.args = (step, what, where)


def steps_at(plan: Plan, place: str) -> list[Task]:
    """Adds the steps of one place to the current DAG, one after the other. Raises StepError."""
    steps: Sequence[Step] = getattr(plan.project.steps, place, ())
    tasks = [_task(plan, step) for step in steps]
    for earlier, later in itertools.pairwise(tasks):
        earlier >> later
    return tasks


def _task(plan: Plan, step: Step) -> Task:
    make, where = _function(plan, step) if step.callable else _class(step)
    try:
        made = make(task_id=step.name, **step.arguments)
    except Exception as error:  # whatever a team's code does must be told as theirs
        raise StepError(step.name, f"{type(error).__name__}: {error}", where) from error
    # A function with @task gives the task's result, which knows its task.
    task: Any = getattr(made, "operator", made)
    if not isinstance(task, (BaseOperator, MappedOperator)):
        raise StepError(step.name, f"it returned {type(made).__name__}, and not a task", where)
    if task.task_id != step.name:
        raise StepError(step.name, f"its task is called {task.task_id!r}: it must pass `task_id` on", where)
    if isinstance(task, MappedOperator):
        return task
    if task.retry_policy is None:
        task.retry_policy = RETRIES
    return task


def _class(step: Step) -> tuple[Callable[..., Any], str]:
    path = str(step.operator)
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:
        raise StepError(step.name, f"{type(error).__name__}: {error}", path) from error
    if not (isinstance(found, type) and issubclass(found, BaseOperator)):
        raise StepError(step.name, "it is not an operator class", path)
    return found, path


def _function(plan: Plan, step: Step) -> tuple[Callable[..., Any], str]:
    """The function of the project's file; the file is imported under a name that no other project has."""
    name, _, function = str(step.callable).rpartition(":")
    shown = plan.file(name)
    if plan.root is None:
        raise StepError(step.name, "its code is nowhere to be found without the repository", shown)
    module_name = f"mlfleet_steps.{plan.project.name}.{name.removesuffix('.py').replace('/', '.')}".replace("-", "_")
    spec = importlib.util.spec_from_file_location(module_name, plan.root / shown)
    if spec is None or spec.loader is None:
        raise StepError(step.name, "it is no Python file", shown)
    module = importlib.util.module_from_spec(spec)
    # Pickle and dataclasses look a module up by its name.
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
        found = getattr(module, function)
    except Exception as error:
        raise StepError(step.name, f"{type(error).__name__}: {error}", shown) from error
    if not callable(found):
        raise StepError(step.name, f"{function} is not a function", shown)
    return found, f"{shown}:{function}"
