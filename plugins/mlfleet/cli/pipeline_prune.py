"""``mlfleet pipelines prune``: removes old versions, after it has shown them and asked."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from mlfleet.cli.exits import FOUND_ERRORS, OK
from mlfleet.cli.pipelines import chosen, count, told
from mlfleet.fleet.connecting import Wire, connect_kfp
from mlfleet.fleet.pruning import Old, Rule, find_old, live_branches, remove
from mlfleet.manifest.environments import Environment, select_environment


def run(root: Path | None, name: str, *, days: float, keep: int, remote: str, yes: bool) -> int:
    """Prints what can go and what went; returns the exit code."""
    with chosen(root, (), None) as given:
        environment = select_environment(given.repository.environments, name=name)
        alive = live_branches(given.git, remote)
        if alive is None:
            click.echo(f"no branches at the remote {remote!r}: every branch keeps its newest versions", err=True)
        rule = Rule(timedelta(days=days), keep, datetime.now(UTC), environment.fleet, alive)
        wire = Wire(os.environ)
        old = asyncio.run(_find(environment, wire, sorted(given.state.declared), rule))
    for each in old:
        told(each.project, "old", each.version.name)
    if not old:
        click.echo(f"nothing old in {environment.name}")
        return OK
    _ask(old, environment.name, yes)
    outcomes = asyncio.run(_remove(environment, wire, old))
    failed = [each for each in outcomes if each.failed]
    for each in failed:
        told(each.project, "failed", f"{each.version.name}: {each.failed}")
    click.echo(f"{count(len(outcomes) - len(failed), 'version')} removed from {environment.name}, {len(failed)} left")
    return FOUND_ERRORS if failed else OK


def _ask(old: Sequence[Old], environment: str, yes: bool) -> None:
    """Raises click.Abort for a no, click.UsageError where nobody can answer."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("prune asks before it removes anything, and nobody is there to answer; add --yes")
    click.confirm(f"Remove {count(len(old), 'version')} from {environment}?", abort=True, err=True)


async def _find(environment: Environment, wire: Wire, projects: Sequence[str], rule: Rule) -> list[Old]:
    async with connect_kfp(environment, wire) as client:
        return await find_old(client, projects, rule)


async def _remove(environment: Environment, wire: Wire, old: Sequence[Old]) -> list[Old]:
    async with connect_kfp(environment, wire) as client:
        return await remove(client, old)
