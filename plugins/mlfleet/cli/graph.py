"""``mlfleet dag``: the tasks of a project and what waits for what, drawn as git draws a history."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from mlfleet.cli.exits import FOUND_ERRORS, MISSING, OK
from mlfleet.cli.places import load_one
from mlfleet.cli.report import print_findings
from mlfleet.manifest.environments import select_environment


def run(root: Path | None, project: str, output: str) -> int:
    """Prints the graph on stdout and findings on stderr; returns the exit code."""
    fleet, loaded, repository = load_one(root, project)
    print_findings(fleet.all_diagnostics(), stderr=True)
    if loaded.project is None:
        return FOUND_ERRORS
    if importlib.util.find_spec("airflow") is None:
        click.echo("mlfleet: `dag` builds the DAG as Airflow sees it, and Airflow is not installed here; "
                   "install mlfleet[airflow]", err=True)  # fmt: skip
        return MISSING
    os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "ERROR")
    from mlfleet.factory.dags import build_dags
    from mlfleet.factory.plan import Plan
    from mlfleet.manifest.known import commit_of

    environment = select_environment(repository.environments)
    built = build_dags(
        Plan(loaded.project, environment, loaded.document.file, commit_of(repository.root), repository.root)
    )
    if output == "json":
        tasks = [
            {"dag": dag.dag_id, "task": task.task_id, "operator": task.task_type,
             "then": sorted(task.downstream_task_ids)}
            for dag in built for task in dag.tasks
        ]  # fmt: skip
        click.echo(json.dumps(tasks, indent=2))
        return OK
    for number, dag in enumerate(built):
        if len(built) > 1:
            click.echo(f"{chr(10) if number else ''}{dag.dag_id}")
        follows = {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks}
        for line in drawn(follows, {task.task_id: task.task_type for task in dag.tasks}):
            click.echo(line)
    return OK


def drawn(follows: Mapping[str, Sequence[str]], notes: Mapping[str, str]) -> list[str]:
    """One line per task, and one for each fork or join.

    ``follows``  from each task to those that wait for it; the order of keys is kept where the graph allows it
    ``notes``    what is written after a task's name
    """
    lines: list[tuple[str, str]] = []
    # What each column leads to, from left to right; None below a task that nothing waits for.
    columns: list[str | None] = []
    for task in _in_order(follows):
        mine = [index for index, target in enumerate(columns) if target == task]
        if columns and not any(columns):
            # Else the next task would stand below one that does not lead to it.
            lines.append(("", ""))
            columns = []
        if len(mine) > 1:
            lines.append((_join(columns, mine), ""))
            columns = [target for index, target in enumerate(columns) if target != task or index == mine[0]]
        at = mine[0] if mine else len(columns)
        if not mine:
            columns.append(task)
        marks = ["o" if index == at else "│" if target else " " for index, target in enumerate(columns)]
        lines.append((" ".join(marks).rstrip(), task))
        then: list[str | None] = list(follows[task])
        if len(then) > 1:
            lines.append((_fork(columns, at, len(then)), ""))
        columns[at : at + 1] = then or [None]
    width = max((len(graph) + len(task) for graph, task in lines), default=0)
    return [f"{graph} {task}{' ' * (width - len(graph) - len(task))}  {notes.get(task, '')}".rstrip()
            for graph, task in lines]  # fmt: skip


def _in_order(follows: Mapping[str, Sequence[str]]) -> list[str]:
    """Topological, a chain to its end before the next one begins, so that few columns are open at once."""
    waits = dict.fromkeys(follows, 0)
    for targets in follows.values():
        for target in targets:
            waits[target] += 1
    ready = [task for task in reversed(list(follows)) if waits[task] == 0]
    order: list[str] = []
    while ready:
        task = ready.pop()
        order.append(task)
        for target in reversed(follows[task]):
            waits[target] -= 1
            if waits[target] == 0:
                ready.append(target)
    return order


def _join(columns: Sequence[str | None], mine: Sequence[int]) -> str:
    """``├─┴─╯``: all columns of one task run together in the leftmost of them."""
    marks = []
    for index in range(len(columns)):
        inside = mine[0] <= index <= mine[-1]
        if index == mine[0]:
            mark = "├"
        elif index == mine[-1]:
            mark = "╯"
        elif index in mine:
            mark = "┴"
        else:
            mark = ("┼" if inside else "│") if columns[index] else ("─" if inside else " ")
        marks.append(mark + ("─" if inside and index != mine[-1] else " "))
    return "".join(marks).rstrip()


def _fork(columns: Sequence[str | None], at: int, count: int) -> str:
    """``├─┬─╮``: a column becomes several; those to the right of it move on by as many."""
    rails = ["│ " if target else "  " for target in columns]
    forks = ["├─", *["┬─"] * (count - 2), "╮ "]
    return "".join((*rails[:at], *forks, *rails[at + 1 :])).rstrip()
