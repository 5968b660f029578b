"""``mlfleet explore``: submits a project's Polyaxon spec with local code, follows it, and says what came of it."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import yaml

from mlfleet.cli.exits import FOUND_ERRORS, OK
from mlfleet.cli.places import load_one
from mlfleet.cli.report import print_findings
from mlfleet.fleet.explore import Exploration, Explorer, Wishes, prepare
from mlfleet.manifest.diagnostics import errors, suggestion, visible
from mlfleet.manifest.environments import select_environment
from mlfleet.manifest.models import Experiment, Project
from mlfleet.remote.job import JobState
from mlfleet.remote.watching import End, Outcome


@dataclass(frozen=True)
class Flags:
    """What the command line says."""

    environment: str = "dev"
    experiment: str | None = None
    params: tuple[str, ...] = ()
    search: bool = True
    end: datetime.datetime | None = None
    detach: bool = False
    dry_run: bool = False


def run(root: Path | None, project: str, flags: Flags, environ: Mapping[str, str] | None = None) -> int:
    """Returns the exit code: OK when the run succeeded (or was submitted, with --detach), else FOUND_ERRORS."""
    _, loaded, repository = load_one(root, project, flags.environment)
    if errors(loaded.diagnostics):
        print_findings(errors(loaded.diagnostics), stderr=True)
        return FOUND_ERRORS
    found = loaded.require()
    environment = select_environment(repository.environments, {"MLFLEET_ENV": flags.environment})
    now = datetime.datetime.now(datetime.UTC)
    end = flags.end.replace(tzinfo=datetime.UTC) if flags.end else None
    wishes = Wishes(_experiment(found, flags.experiment), _params(flags.params), flags.search, end)
    exploration = prepare(found, environment, repository, wishes, now)
    for note in exploration.notes:
        click.echo(f"note: {note}", err=True)
    if flags.dry_run:
        click.echo(yaml.safe_dump(json.loads(exploration.content), sort_keys=False, allow_unicode=True).rstrip())
        return OK
    explorer = Explorer(environment, os.environ if environ is None else environ)
    return asyncio.run(_explore(explorer, exploration, flags.detach))


async def _explore(explorer: Explorer, run: Exploration, detach: bool) -> int:
    async with explorer:
        status = await explorer.submit(run)
        click.echo(f"Submitted {run.name}: {status.url}")
        if detach:
            return OK
        following = asyncio.ensure_future(explorer.follow(run, status.id, _say, time.time()))
        try:
            outcome = await following
        except asyncio.CancelledError:  # Ctrl-C, which asyncio.run makes a cancellation
            await _left(explorer, run, status.id, status.url)
            raise
        return await _told(explorer, run, status.id, outcome)


async def _left(explorer: Explorer, run: Exploration, job_id: str, url: str) -> None:
    """Somebody pressed Ctrl-C: the run goes on unless they say otherwise."""
    if sys.stdin.isatty() and click.confirm("\nStop the run in Polyaxon, too?", default=False, err=True):
        await explorer.stop(run, job_id)
        click.echo("Asked Polyaxon to stop it.", err=True)
    else:
        click.echo(f"\nIt goes on without you: {url}", err=True)


async def _told(explorer: Explorer, run: Exploration, job_id: str, outcome: Outcome) -> int:
    status = outcome.status
    if outcome.end is End.FINISHED and status is not None and status.state is JobState.SUCCEEDED:
        result = await explorer.result(run, job_id)
        _print_values("inputs", result["inputs"])
        _print_values("outputs", result["outputs"])
        best = result["best"]
        if best:
            click.echo(f"best: {best['uuid']}")
            _print_values("  inputs", best["inputs"])
            _print_values("  outputs", best["outputs"])
        click.echo(f"It {status.native}: {status.url}")
        return OK
    reason = outcome.error or (status.reason if status else "")
    ended = status.native if status and outcome.end is End.FINISHED else outcome.end.value
    click.echo(f"It did not succeed ({ended}){f': {visible(reason)}' if reason else ''}"
               + (f"; {status.url}" if status else ""), err=True)  # fmt: skip
    return FOUND_ERRORS


def _say(text: str) -> None:
    click.echo("\n".join(visible(line) for line in text.split("\n")))


def _print_values(title: str, values: Mapping[str, Any]) -> None:
    if values:
        click.echo(f"{title}: " + ", ".join(f"{name}={value}" for name, value in sorted(values.items())))


def _experiment(project: Project, name: str | None) -> Experiment:
    enabled = [experiment for experiment in project.experiments if experiment.enabled]
    if name is None:
        return enabled[0]
    # Who asks for one by name may want to see whether it should be enabled.
    found = next((each for each in project.experiments if name in (each.name, each.slug)), None)
    if found is None:
        names = [each.name for each in project.experiments]
        raise click.UsageError(f"{project.name} has no experiment {name!r}; {suggestion(name, names)}")
    return found


def _params(given: Sequence[str]) -> dict[str, Any]:
    """``name=value``, the value read as YAML: ``0.1`` is a number, ``[1, 2]`` a list."""
    params: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise click.UsageError(f"a param is written name=value, not {text!r}")
        try:
            params[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise click.UsageError(f"the value of {name.strip()} cannot be read: {error}") from None
    return params
