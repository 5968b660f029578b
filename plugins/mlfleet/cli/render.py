"""``mlfleet render``: a manifest as mlfleet understands it, each value with its origin."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mlfleet.cli.exits import FOUND_ERRORS, OK
from mlfleet.cli.places import load_one
from mlfleet.cli.report import print_findings
from mlfleet.manifest.diagnostics import errors
from mlfleet.manifest.rendering import ORIGIN, origins_of, plain, rendered, with_origins


def run(root: Path | None, project: str, output: str, origins: bool) -> int:
    """Prints the manifest on stdout and its findings on stderr; returns the exit code."""
    fleet, loaded, _ = load_one(root, project)
    found = fleet.all_diagnostics()
    print_findings(found, stderr=True)
    if loaded.project is None:
        return FOUND_ERRORS
    if output == "json":
        content = {"manifest": plain(loaded.project)}
        if origins:
            content["origins"] = origins_of(loaded.project, loaded.document)
        click.echo(json.dumps(content, indent=2, ensure_ascii=False))
    elif origins:
        for line in with_origins(loaded.project, loaded.document).splitlines():
            value, mark, origin = line.rpartition(ORIGIN)
            click.echo(value + click.style(mark + origin, dim=True) if mark else line)
    else:
        click.echo(rendered(loaded.project), nl=False)
    return FOUND_ERRORS if errors(found) else OK
