"""``mlfleet plan``: what is to be done to make an environment as the manifests ask for."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mlfleet.cli.exits import CHANGES, FOUND_ERRORS, OK
from mlfleet.cli.fleet import prepare, show, terminal
from mlfleet.fleet.plan import as_json


def run(root: Path | None, environment: str | None, output: str) -> int:
    """Prints the plan; returns the exit code."""
    prepared = prepare(root, environment)
    if prepared is None:
        return FOUND_ERRORS
    plan = prepared.plan()
    if output == "json":
        click.echo(json.dumps(as_json(plan, prepared.environment.name), indent=2, ensure_ascii=False))
    else:
        show(plan, prepared.environment.name, terminal())
    if plan.unread:
        return FOUND_ERRORS
    return CHANGES if plan.changes else OK
