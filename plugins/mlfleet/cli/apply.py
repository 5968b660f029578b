"""``mlfleet apply``: shows the plan, asks, and does it, with what was done and what was not at its end."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from mlfleet.cli.exits import FOUND_ERRORS, INTERRUPTED, OK
from mlfleet.cli.fleet import prepare, show, terminal
from mlfleet.fleet.apply import Applied, Outcome, Step, apply_steps, steps_of
from mlfleet.fleet.plan import Plan, as_json
from mlfleet.fleet.preparing import Prepared
from mlfleet.manifest.diagnostics import visible

# More of them say no more.
_SHOWN = 20
_NOT_DONE = {Outcome.FAILED: "red", Outcome.UNKNOWN: "red", Outcome.NOT_TRIED: "yellow"}


def run(root: Path | None, environment: str | None, output: str, *, yes: bool, prune: bool, concurrency: int) -> int:
    """Prints the plan and what came of it; returns the exit code."""
    prepared = prepare(root, environment)
    if prepared is None:
        return FOUND_ERRORS
    plan = prepared.plan()
    out = terminal(stderr=output == "json")
    show(plan, prepared.environment.name, out)
    applied = steps_of(plan, prune=prune)
    interrupted = False
    if applied.steps:
        _ask(applied, prepared.environment.name, yes)
        try:
            asyncio.run(_apply(applied, prepared, concurrency, out))
        except KeyboardInterrupt:
            interrupted = True
    _tell(applied, plan, prune, out)
    if output == "json":
        click.echo(json.dumps({**as_json(plan, prepared.environment.name), "applied": _rows(applied)}, indent=2,
                              ensure_ascii=False))  # fmt: skip
    if interrupted:
        return INTERRUPTED
    return FOUND_ERRORS if plan.unread or len(applied.of(Outcome.DONE)) < len(applied.steps) else OK


def _ask(applied: Applied, environment: str, yes: bool) -> None:
    """Raises click.Abort for a no, click.UsageError where nobody can answer.

    What is taken away is asked for by itself: who says yes to the rest has not said yes to that.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("apply asks before it changes anything, and nobody is there to answer; add --yes")
    gone = [step for step in applied.steps if step.change.retires]
    if len(gone) < len(applied.steps):
        click.confirm(f"Make {len(applied.steps) - len(gone)} changes in {environment}?", abort=True, err=True)
    if gone:
        names = ", ".join(step.change.name for step in gone[:_SHOWN])
        click.confirm(f"Archive, disable or delete {len(gone)} in {environment} ({visible(names)})?", abort=True,
                      err=True)  # fmt: skip


async def _apply(applied: Applied, prepared: Prepared, concurrency: int, out: Console) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
        task = progress.add_task(prepared.environment.name, total=len(applied.steps))

        def advance(step: Step) -> None:
            progress.advance(task)

        await apply_steps(applied, prepared.systems, concurrency=concurrency, progress=advance)


def _tell(applied: Applied, plan: Plan, prune: bool, out: Console) -> None:
    for outcome, style in _NOT_DONE.items():
        steps = applied.of(outcome)
        for step in steps[:_SHOWN]:
            why = f": {step.why}" if step.why else ""
            out.print(Text(visible(f"{outcome.value}: {step.change.kind.value} {step.change.name}{why}"), style=style))
        if len(steps) > _SHOWN:
            out.print(Text(f"{outcome.value}: {len(steps) - _SHOWN} more", style=style))
    verbs = Counter(step.verb for step in applied.of(Outcome.DONE))
    told = [f"{count} {verb}" for verb, count in verbs.items()] or ["nothing changed"]
    told += [f"{len(applied.of(outcome))} {outcome.value}" for outcome in _NOT_DONE if applied.of(outcome)]  # fmt: skip
    out.print(Text(", ".join(told), style="bold"))
    kept = sum(change.retires and not change.left_to_people for change in plan.changes)
    if kept and not prune:
        out.print(Text(f"{kept} that nobody asks for were left alone; --prune takes them away"))
    if plan.unread or len(applied.of(Outcome.DONE)) < len(applied.steps):
        out.print(Text("Run it again when the cause is mended: it goes on from here"))


def _rows(applied: Applied) -> list[dict[str, str]]:
    return [
        {"kind": step.change.kind.value, "name": step.change.name, "outcome": step.outcome.value, "verb": step.verb,
         "why": step.why}
        for step in applied.steps
    ]  # fmt: skip
