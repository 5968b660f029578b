"""``mlfleet list``: all projects of the repository."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from mlfleet.cli.exits import FOUND_ERRORS, OK
from mlfleet.cli.places import repository_of
from mlfleet.manifest.diagnostics import errors, visible
from mlfleet.manifest.document import at
from mlfleet.manifest.loading import Loaded, load_fleet
from mlfleet.manifest.scheduling import overlaid


def run(root: Path | None, output: str) -> int:
    """Prints one line per manifest file; returns the exit code."""
    repository = repository_of(root, ())
    fleet = load_fleet(repository)
    if not fleet.manifests:
        raise click.UsageError(f"no manifest in {repository.shown(repository.projects)}; write one, or name --root")
    rows = [_row(loaded) for loaded in fleet.manifests]
    if output == "json":
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        _print_table(rows)
    return FOUND_ERRORS if any(row["errors"] for row in rows) else OK


def _row(loaded: Loaded) -> dict[str, Any]:
    """Read from the plain data, so that a manifest with errors is listed too."""
    data = loaded.document.data
    wrong = len(errors(loaded.diagnostics))
    return {
        "name": _text(at(data, "name")) or loaded.path.stem,
        "schedule": "; ".join([_schedule(at(data, "schedule")), *_own_schedules(data)]),
        "experiments": [_text(at(item, "name")) for item in _list(at(data, "experiments"))],
        "owners": [_text(at(item, "github")) for item in _list(at(data, "owners"))],
        "file": loaded.document.file,
        "errors": wrong,
        "warnings": len(loaded.diagnostics) - wrong,
    }


def _own_schedules(data: Any) -> list[str]:
    experiments = [item for item in _list(at(data, "experiments")) if isinstance(at(item, "schedule"), dict)]
    return [f"{_text(at(item, 'name'))}: {_schedule(overlaid(at(data, 'schedule'), item['schedule']))}"
            for item in experiments]  # fmt: skip


def _schedule(data: Any) -> str:
    cron, asset = at(data, "cron"), at(data, "asset")
    several = [name for name in (asset if isinstance(asset, list) else [asset]) if isinstance(name, str)]
    joined = " or " if at(data, "wait_for") == "any" else " and "
    ticks = " | ".join(filter(None, map(_text, cron if isinstance(cron, list) else [cron])))
    timetable = _text(at(data, "timetable", "class"))
    told = ticks or timetable or (f"after {joined.join(several)}" if several else "by hand")
    return f"paused ({told})" if at(data, "paused") is True else told


def _print_table(rows: list[dict[str, Any]]) -> None:
    cells = [("PROJECT", "SCHEDULE", "EXPERIMENTS", "OWNERS", "FILE", "STATE")]
    for row in rows:
        state = [f"{row[kind]} {kind if row[kind] != 1 else kind[:-1]}" for kind in ("errors", "warnings") if row[kind]]
        cells.append((row["name"], row["schedule"], str(len(row["experiments"])), ", ".join(row["owners"]),
                      row["file"], ", ".join(state) or "ok"))  # fmt: skip
    widths = [max(len(cell[column]) for cell in cells) for column in range(len(cells[0]))]
    for cell in cells:
        line = "  ".join(text.ljust(width) for text, width in zip(cell, widths, strict=True))
        click.echo(visible(line).rstrip())


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
