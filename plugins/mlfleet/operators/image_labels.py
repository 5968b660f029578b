"""Labels that say where an image comes from, read from the results of the tasks before it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mlfleet.operators.release_policy import label_name
from mlfleet.remote.numbers import finite
from mlfleet.systems.labels import METRIC

if TYPE_CHECKING:
    from airflow.sdk import Context

    from mlfleet.operators.run_values import RunValues

# The id of a run in what its task hands on.
_IDS = {"polyaxon": "uuid", "kfp": "run_id"}


def lineage_labels(context: Context, values: RunValues, models: Mapping[str, str]) -> dict[str, str]:
    """``mlfleet.project``, ``mlfleet.run_id``, and per experiment its runs and metrics.

    ``models`` is experiment slug -> task id; that task and all tasks before it are looked at. A run gives
    ``mlfleet.<system>.<slug>``, its id; the outputs of the experiment's last task that are numbers give
    ``mlfleet.metric.<slug>.<name>``.
    """
    labels = {"mlfleet.run_id": str(context["dag_run"].run_id)}
    project = _project(values)
    if project:
        labels["mlfleet.project"] = project
    for slug, task_id in sorted(models.items()):
        for result in _results(context, values, task_id):
            labels |= _of_run(slug, result)
        labels |= _metrics(slug, values.task_output(task_id))
    return labels


def _project(values: RunValues) -> str | None:
    try:
        return str(values.lookup("project.name"))
    except LookupError:
        return None


def _results(context: Context, values: RunValues, task_id: str) -> Iterator[Mapping[str, Any]]:
    """What the task and all tasks before it handed on, earlier tasks first."""
    for name in [*_before(context, task_id), task_id]:
        try:
            result = values.task_output(name)
        except LookupError:
            continue
        if isinstance(result, Mapping):
            yield result


def _before(context: Context, task_id: str) -> list[str]:
    tasks: Mapping[str, Any] = getattr(context.get("dag"), "task_dict", None) or {}
    found: list[str] = []
    todo = [task_id]
    while todo:
        task = tasks.get(todo.pop())
        for name in sorted(task.upstream_task_ids if task is not None else ()):
            if name not in found:
                found.append(name)
                todo.append(name)
    return found


def _of_run(slug: str, result: Mapping[str, Any]) -> dict[str, str]:
    system = str(result.get("system") or "")
    run = result.get(_IDS.get(system, ""))
    return {f"mlfleet.{system}.{slug}": str(run)} if run else {}


def _metrics(slug: str, result: object) -> dict[str, str]:
    outputs = result.get("outputs") if isinstance(result, Mapping) else None
    named = {label_name(str(name)): finite(value) for name, value in (outputs or {}).items()}
    return {f"{METRIC}.{slug}.{name}": f"{value:.10g}" for name, value in named.items() if value is not None}
