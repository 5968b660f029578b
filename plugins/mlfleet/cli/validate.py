"""``mlfleet validate``: every finding of the given manifests, or of all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from mlfleet.cli.exits import FOUND_ERRORS, OK
from mlfleet.cli.places import manifests_of, repository_of
from mlfleet.cli.report import as_github, as_json, print_findings, summary
from mlfleet.manifest.diagnostics import errors
from mlfleet.manifest.loading import check_against_rest, load_fleet


def run(root: Path | None, paths: Sequence[Path], output: str, strict: bool) -> int:
    """Prints the findings; returns the exit code."""
    repository = repository_of(root, paths)
    manifests = manifests_of(repository, paths)
    if not manifests and not paths:
        raise click.UsageError(f"no manifest in {repository.shown(repository.projects)}; write one, or name files")
    fleet = load_fleet(repository, manifests if paths else None)
    if paths:
        check_against_rest(fleet, repository)
    found = fleet.all_diagnostics()
    if output == "json":
        click.echo(as_json(found, len(manifests)))
    elif output == "github":
        for diagnostic in found:
            click.echo(as_github(diagnostic))
    else:
        print_findings(found)
    if output != "json":
        click.echo(summary(found, len(manifests)))
    return FOUND_ERRORS if errors(found) or (strict and found) else OK
