"""``mlfleet codeowners``: writes or checks the code owners."""

from __future__ import annotations

from pathlib import Path

import click

from mlfleet.cli.exits import FOUND_ERRORS, OK
from mlfleet.cli.places import repository_of
from mlfleet.cli.report import console
from mlfleet.fleet.codeowners import ownership
from mlfleet.manifest.diagnostics import visible

_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


def run(root: Path | None, check: bool) -> int:
    """Writes the file, or with `check` prints what would change; returns the exit code."""
    repository = repository_of(root, ())
    if not repository.manifests():
        raise click.UsageError(f"no manifest in {repository.shown(repository.projects)}; write one, or name --root")
    found = ownership(repository)
    if not found.is_stale:
        click.echo(f"{found.shown} is up to date")
        return OK
    if check:
        terminal = console()
        for line in found.difference().splitlines():
            terminal.print(visible(line), style=_COLOURS.get(line[:1]))
        click.echo(f"{found.shown} is stale; run `mlfleet codeowners` and commit it", err=True)
        return FOUND_ERRORS
    found.write()
    click.echo(f"{found.shown} is written")
    return OK
