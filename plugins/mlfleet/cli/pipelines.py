"""``mlfleet pipelines``: which may have changed, compiling them, uploading them, removing old versions."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from mlfleet.cli.exits import FOUND_ERRORS, OK
from mlfleet.cli.places import repository_of
from mlfleet.cli.report import print_findings
from mlfleet.fleet.compiling import Compiled, Compiling, Refused
from mlfleet.fleet.git import Git
from mlfleet.fleet.ir import as_yaml
from mlfleet.fleet.pipelines import Comparison, Declared, State, compare_with, read_state
from mlfleet.fleet.trees import Trees
from mlfleet.manifest.diagnostics import suggestion, visible
from mlfleet.manifest.loading import Repository

_SHOWN = 3


@dataclass(frozen=True)
class Chosen:
    """Pipelines of the work tree that a command was called for."""

    repository: Repository
    git: Git
    state: State
    pipelines: tuple[Declared, ...]


@contextmanager
def chosen(root: Path | None, projects: Sequence[str], base: str | None, environment: str = "") -> Iterator[Chosen]:
    """Those of the named projects (default: of all), with `base` those of them that may have changed since.

    With an `environment` only as that one has them. Raises click.UsageError for a project without a pipeline.
    """
    repository = repository_of(root, ())
    git = Git.required(repository.root)
    with Trees(git) as trees:
        state = read_state(trees.of_work_tree(), git.prefix)
        print_findings([found for _, found in sorted(state.unreadable.items())], stderr=True)
        names = set(state.declared)
        for project in projects:
            if project not in names:
                hint = suggestion(project, names) or "no project has one"
                raise click.UsageError(f"there is no project {project!r} with a KFP pipeline; {hint}")
        wanted = names & set(projects) if projects else names
        if base is not None:
            wanted &= {change.project for change in compare_with(git, base).changed}
        pipelines = [
            each
            for name in sorted(wanted)
            for each in state.declared[name]
            if not environment or environment in each.environments
        ]
        yield Chosen(repository, git, state, tuple(pipelines))


def changed(root: Path | None, base: str, output: str) -> int:
    """Prints the projects whose compiled pipeline may differ; returns the exit code."""
    git = Git.required(repository_of(root, ()).root)
    found = compare_with(git, base)
    print_findings(found.unreadable, stderr=True)
    if output == "json":
        click.echo(json.dumps(_as_json(found), indent=2, ensure_ascii=False))
    elif output == "names":
        for change in found.changed:
            click.echo(change.project)
    else:
        _print_changed(found)
    return FOUND_ERRORS if found.unreadable else OK


def compile_them(
    root: Path | None, projects: Sequence[str], base: str | None, out: Path | None, how: Compiling
) -> int:  # fmt: skip
    """Compiles and, with `out`, writes ``<project>.yaml`` there; returns the exit code."""
    with chosen(root, projects, base) as given:
        outcomes = how.run(given.state, given.repository.root, given.pipelines)
        for outcome in outcomes:
            if isinstance(outcome, Refused):
                told(outcome.declared.project, "refused", outcome.reason)
            else:
                where = _write(out, outcome, given.state) if out else ""
                told(outcome.declared.project, "cached" if outcome.cached else "compiled", where or outcome.hash[:12])
        refused = sum(isinstance(outcome, Refused) for outcome in outcomes)
        click.echo(f"{count(len(outcomes) - refused, 'pipeline')} compiled, {refused} refused")
        return FOUND_ERRORS if refused or given.state.unreadable else OK


def told(project: str, verb: str, more: str) -> None:
    """One line of a command's result."""
    colour = {"refused": "red", "failed": "red", "uploaded": "green", "compiled": "green"}.get(verb)
    click.echo(f"{visible(project):30} {click.style(f'{verb:9}', fg=colour)} {visible(more)}".rstrip())


def count(number: int, word: str) -> str:
    """``1 pipeline``, ``2 pipelines``."""
    return f"{number} {word}{'' if number == 1 else 's'}"


def compiling(
    jobs: int | None, timeout: float, cache_dir: Path | None, cache: bool, verify: bool
) -> Compiling:  # fmt: skip
    """How to compile, from a command's options."""
    home = os.environ.get("XDG_CACHE_HOME")
    folder = cache_dir or (Path(home) if home else Path.home() / ".cache") / "mlfleet" / "pipelines"
    return Compiling(folder if cache else None, jobs or os.cpu_count() or 1, timeout, verify)


def _write(out: Path, compiled: Compiled, state: State) -> str:
    declared = compiled.declared
    # Where environments differ in more than parameters, each has a file of its own.
    several = len(state.declared[declared.project]) > 1
    name = f"{declared.project}.{'-'.join(declared.environments)}.yaml" if several else f"{declared.project}.yaml"
    path, temporary = out / name, out / f".{name}.{os.getpid()}.tmp"
    try:
        out.mkdir(parents=True, exist_ok=True)
        temporary.write_text(as_yaml(compiled.package), encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise click.UsageError(f"{path} cannot be written: {error.strerror or error}") from error
    return str(path)


def _print_changed(found: Comparison) -> None:
    for change in found.changed:
        shown = ", ".join(change.because[:_SHOWN])
        more = f", and {len(change.because) - _SHOWN} more" if len(change.because) > _SHOWN else ""
        told(change.project, "changed", shown + more)
    for project in found.removed:
        told(project, "removed", "")
    click.echo(f"{len(found.changed)} of {count(found.total, 'pipeline')} may compile to something else")


def _as_json(found: Comparison) -> dict[str, Any]:
    return {
        "changed": [
            {
                "project": change.project,
                "pipelines": [each.reference for each in change.pipelines],
                "because": list(change.because),
            }
            for change in found.changed
        ],
        "removed": list(found.removed),
        "unreadable": [str(each) for each in found.unreadable],
        "total": found.total,
    }
