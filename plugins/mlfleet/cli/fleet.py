"""What `plan` and `apply` share: from a repository to a plan, and the plan on a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlfleet.cli.places import repository_of
from mlfleet.cli.report import print_findings, summary
from mlfleet.fleet.connecting import Wire
from mlfleet.fleet.plan import Action, Change, Plan
from mlfleet.fleet.preparing import Prepared, prepare_fleet
from mlfleet.fleet.resources import Kind
from mlfleet.manifest.diagnostics import errors, visible
from mlfleet.manifest.environments import select_environment
from mlfleet.manifest.loading import load_fleet

_SIGNS = {Action.CREATE: ("+", "green"), Action.CHANGE: ("~", "yellow"), Action.DRIFT: ("!", "magenta"),
          Action.ORPHAN: ("-", "red")}  # fmt: skip
# Where there is no terminal, nobody must look for the second half of a name on the next line.
_WIDTH_OF_FILES = 160
_LINES = 8


def prepare(root: Path | None, name: str | None, wire: Wire | None = None) -> Prepared | None:
    """Loads manifests and connections; None after manifests with errors were told on stderr.

    Raises ConfigError for an environment or a connection that cannot be used, click.UsageError without manifests.
    """
    repository = repository_of(root, ())
    environment = select_environment(repository.environments, name=name or "")
    fleet = load_fleet(repository, environment=environment.name)
    if not fleet.manifests:
        raise click.UsageError(f"no manifest in {repository.shown(repository.projects)}; write one, or name --root")
    found = fleet.all_diagnostics()
    wrong = errors(found)
    print_findings(wrong, stderr=True)
    if wrong:
        click.echo(f"{summary(found, len(fleet.manifests))}; nothing was looked at", err=True)
        return None
    return prepare_fleet(fleet, environment, repository, wire or Wire(dict(os.environ)))


def terminal(stderr: bool = False) -> Console:
    """A terminal that prints texts as they are; wide where nobody sees an edge."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else _WIDTH_OF_FILES
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def show(plan: Plan, environment: str, out: Console) -> None:
    """The plan as a table for each kind, what could not be read, what is not managed, and a line of counts."""
    for kind in Kind:
        rows = [change for change in plan.changes if change.kind is kind]
        if rows:
            out.print(_table(kind, rows))
    for unread in plan.unread:
        out.print(Text(f"{unread.system} could not be read: {visible(str(unread.error))}", style="red"))
    for note in plan.notes:
        out.print(Text(note, style="dim"))
    out.print(Text(f"{environment}: {plan.told()}", style="bold"))


def _table(kind: Kind, rows: Iterable[Change]) -> Table:
    table = Table(title=f"{kind.value}s", title_justify="left", box=None, padding=(0, 2, 0, 0), show_header=False)
    for _ in range(2):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for change in rows:
        sign, colour = _SIGNS[change.action]
        table.add_row(Text(f" {sign} {change.action.value}", style=colour), Text(visible(change.name)), _detail(change))
    return table


def _detail(change: Change) -> Text:
    """What is different, line by line; where it is asked for; the hint."""
    lines = [f"{each.setting}: {_short(each.before)} -> {_short(each.after)}" for each in change.differences[:_LINES]]
    if len(change.differences) > _LINES:
        lines.append(f"and {len(change.differences) - _LINES} more (--output json has all)")
    if change.action is Action.CREATE:
        lines.append(change.origin)
    if change.hint:
        lines.append(change.hint)
    if change.left_to_people:
        lines.append("left to you: it may be somebody else's")
    return Text(visible_lines(lines), style="dim" if change.action is Action.CREATE else "")


def visible_lines(lines: Iterable[str]) -> str:
    """Lines without control characters."""
    return "\n".join(visible(line) for line in lines if line)


def _short(value: Any) -> str:
    """A setting in at most 60 characters."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        text = f"[{', '.join(value)}]"
    elif isinstance(value, Mapping | list):
        text = f"{'mapping' if isinstance(value, Mapping) else 'list'} of {len(value)}"
    elif isinstance(value, bool):
        text = "yes" if value else "no"
    else:
        text = "nothing" if value is None else str(value) or "empty"
    return text if len(text) <= 60 else f"{text[:59]}…"
