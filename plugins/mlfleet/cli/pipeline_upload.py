"""``mlfleet pipelines upload``: compiles, and uploads to the environment of the branch."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from mlfleet.cli.exits import FOUND_ERRORS, OK
from mlfleet.cli.pipelines import chosen, count, told
from mlfleet.cli.places import repository_of
from mlfleet.errors import ConfigError, ManifestError
from mlfleet.fleet.branches import Destination, branch_of, destination_of, refuse_unpublished
from mlfleet.fleet.compiling import Compiled, Compiling, Refused
from mlfleet.fleet.connecting import Wire, connect_kfp
from mlfleet.fleet.git import Git
from mlfleet.fleet.pipelines import PINS, State
from mlfleet.fleet.uploading import Action, Source, Uploaded, upload_all
from mlfleet.manifest.diagnostics import errors, visible
from mlfleet.manifest.environments import SUFFIXES, Environment, load_environment
from mlfleet.manifest.loading import Repository

# What a compiled pipeline comes from; anything else may lie about uncommitted.
_SOURCES = ("include/", "plugins/", *PINS)
_SHOWN = 5


@dataclass(frozen=True)
class Asked:
    """What the command line says of where to."""

    environment: str | None
    branch: str | None
    dry_run: bool
    json: bool


def run(root: Path | None, projects: Sequence[str], base: str | None, how: Compiling, asked: Asked) -> int:
    """Prints what became of each pipeline; returns the exit code."""
    repository = repository_of(root, ())
    git = Git.required(repository.root)
    branch = branch_of(git, asked.branch, os.environ)
    destination = _destination(repository, branch, asked.environment)
    environment = destination.environment
    with chosen(root, projects, base, environment.name) as given:
        _refuse_uncommitted(given.state)
        if destination.exact:
            refuse_unpublished(git, branch, given.state.tree.commit)
        source = Source(branch, given.state.tree.commit, environment.fleet)
        # Before the work: a connection that is not set is said at once.
        wire = Wire(os.environ)
        if not asked.dry_run:
            connect_kfp(environment, wire)
        outcomes = how.run(given.state, repository.root, given.pipelines)
        good = [outcome for outcome in outcomes if isinstance(outcome, Compiled)]
        if asked.dry_run:
            results = [Uploaded(each.declared.project, Action.PLANNED, source.version) for each in good]
        else:
            results = asyncio.run(_upload(environment, wire, good, source))
        refused = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
        results += [Uploaded(each.declared.project, Action.REFUSED, "", each.reason) for each in refused]
        _print(results, environment, asked.json)
        failed = any(result.action in (Action.FAILED, Action.REFUSED) for result in results)
        return FOUND_ERRORS if failed or given.state.unreadable else OK


async def _upload(
    environment: Environment, wire: Wire, pipelines: Sequence[Compiled], source: Source
) -> list[Uploaded]:  # fmt: skip
    async with connect_kfp(environment, wire) as client:
        return await upload_all(client, pipelines, source)


def _destination(repository: Repository, branch: str, asked: str | None) -> Destination:
    """Raises ConfigError when the branch does not go where somebody asked to upload to."""
    found = destination_of(branch, environments_of(repository))
    if asked and asked != found.environment.name:
        raise ConfigError(f"the branch {branch!r} goes to {found.environment.name}, not to {asked}",
                          "`branches` in include/environments",
                          f"Check out a branch that goes to {asked}")  # fmt: skip
    return found


def environments_of(repository: Repository) -> list[Environment]:
    """All of them; raises ManifestError when one has errors, because it might be the one."""
    found, faults = [], []
    for path in sorted(path for path in repository.environments.glob("*") if path.suffix in SUFFIXES):
        environment, diagnostics = load_environment(path, repository.shown(path))
        faults += errors(diagnostics)
        if environment:
            found.append(environment)
    if faults:
        raise ManifestError(faults)
    return found


def _refuse_uncommitted(state: State) -> None:
    """Raises ConfigError: a version is named after a commit, and must be what that has."""
    sources = [path for path in sorted(state.tree.dirty) if path.removeprefix(state.top).startswith(_SOURCES)]
    if sources:
        more = f" and {len(sources) - _SHOWN} more" if len(sources) > _SHOWN else ""
        raise ConfigError(f"there are uncommitted changes: {visible(', '.join(sources[:_SHOWN]))}{more}", "",
                          "Commit or stash them; a version is named after its commit")  # fmt: skip


def _print(results: Sequence[Uploaded], environment: Environment, as_json: bool) -> None:
    if as_json:
        rows = [asdict(result) for result in results]
        click.echo(json.dumps({"environment": environment.name, "pipelines": rows}, indent=2, ensure_ascii=False))
        return
    for result in results:
        told(result.project, result.action, result.why or result.version)
    made = [f"{sum(result.action is action for result in results)} {action}" for action in Action
            if any(result.action is action for result in results)]  # fmt: skip
    click.echo(f"{count(len(results), 'pipeline')} for {environment.name}" + (f": {', '.join(made)}" if made else ""))
    if any(result.action is Action.FAILED for result in results):
        click.echo("Run it again when the cause is mended: what is there already is only compared", err=True)
