"""``mlfleet new``: a project that passes validation and trains as it stands, from flags or by questions."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from pydantic import TypeAdapter, ValidationError

from mlfleet.cli.columns import DIAMONDS, Columns, look_at
from mlfleet.cli.exits import FOUND_ERRORS, OK
from mlfleet.cli.places import repository_of
from mlfleet.cli.report import print_findings
from mlfleet.cli.scaffold import Wishes, lay_out, remove
from mlfleet.manifest.diagnostics import errors
from mlfleet.manifest.loading import Repository, check_against_rest, load_fleet
from mlfleet.manifest.names import GitHubName, ProjectName
from mlfleet.manifest.values import Cron, ExperimentName

PIPELINE = "deploy-model"
EXPERIMENT = "Default"
CRON = "0 3 * * *"


@dataclass(frozen=True)
class Flags:
    """What the command line says; None and empty mean "not said"."""

    name: str | None = None
    title: str | None = None
    owners: tuple[str, ...] = ()
    experiments: tuple[str, ...] = ()
    cron: str | None = None
    data: Path | None = None
    target: str | None = None
    deploy: bool = True


def run(root: Path | None, flags: Flags, ask: bool | None) -> int:
    """Writes the project and says what is next; returns the exit code.

    ``ask`` says whether questions may be asked; None: if somebody sits at the terminal.
    """
    asking = sys.stdin.isatty() if ask is None else ask
    repository = repository_of(root, ())
    if not repository.projects.is_dir():
        raise click.UsageError(f"there is no {repository.shown(repository.projects)} here; name the deployment "
                               "repository with --root, or make that folder in a new one")  # fmt: skip
    wishes = _asked(flags) if asking else _told(flags)
    written = lay_out(repository, wishes)
    fleet = load_fleet(repository, [repository.projects / f"{wishes.name}.yaml"])
    check_against_rest(fleet, repository)
    found = fleet.all_diagnostics()
    if errors(found):
        remove(written)
        print_findings(found, stderr=True)
        click.echo("Nothing was written.", err=True)
        return FOUND_ERRORS
    print_findings(found, stderr=True)
    _say(repository, wishes, written)
    return OK


def _told(flags: Flags) -> Wishes:
    if not flags.name or not flags.owners:
        missing = "NAME" if not flags.name else "--owner"
        raise click.UsageError(f"{missing} is missing, and nobody is here to be asked")
    return _wishes(flags, flags.name, flags.owners, flags.title or "", flags.cron or "", _columns(flags, flags.target))


def _asked(flags: Flags) -> Wishes:
    name = _name(flags.name) if flags.name else click.prompt("Name of the project", value_proc=_name)
    owners = flags.owners or tuple(click.prompt("Owners on GitHub (@user or @organisation/team)", value_proc=_owners))
    title = flags.title if flags.title is not None else click.prompt("Title", "", show_default=False)
    cron = flags.cron
    if cron is None:
        cron = click.prompt("Cron (- for none)", CRON, value_proc=lambda text: "" if text == "-" else _cron(text))
    columns = _columns(flags, flags.target)
    return _wishes(flags, name, owners, title, cron, columns)


def _wishes(
    flags: Flags, name: str, owners: tuple[str, ...], title: str, cron: str, columns: Columns
) -> Wishes:  # fmt: skip
    return Wishes(
        name=_name(name),
        title=title,
        owners=tuple(_checked(GitHubName, owner) for owner in owners),
        experiments=tuple(_checked(ExperimentName, each) for each in flags.experiments or (EXPERIMENT,)),
        cron=_cron(cron) if cron else "",
        deploy=PIPELINE if flags.deploy else "",
        columns=columns,
    )


def _columns(flags: Flags, target: str | None) -> Columns:
    if flags.data is not None:
        return look_at(flags.data, target)
    if target is not None:
        raise click.UsageError("--target names a column of --data, which is missing")
    return DIAMONDS


def _checked(kind: Any, value: str) -> str:
    """The value as the manifest would take it; raises click.UsageError with the sentence of the diagnostic."""
    try:
        return str(TypeAdapter(kind).validate_python(value))
    except ValidationError as error:
        first = error.errors()[0]
        fix = (first.get("ctx") or {}).get("fix", "")
        raise click.UsageError(first["msg"] + (f"; {fix}" if fix else "")) from None


def _name(text: str) -> str:
    return _checked(ProjectName, text)


def _cron(text: str) -> str:
    return _checked(Cron, text)


def _owners(text: str) -> list[str]:
    return [_checked(GitHubName, word) for word in text.replace(",", " ").split()]


def _say(repository: Repository, wishes: Wishes, written: list[Path]) -> None:
    for path in written:
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            click.echo(f"  {repository.shown_link(file)}")
    columns = wishes.columns
    features = [*columns.numbers, *(name for name, _ in columns.categories)]
    click.echo(f"\nPredicts {columns.target} from {', '.join(features)}.")
    if columns.left_out:
        click.echo(f"Left out, because it is neither numbers nor a few texts: {', '.join(columns.left_out)}.")
    for number, step in enumerate(_steps(wishes), 1):
        click.echo(f"{number}. {step}")


def _steps(wishes: Wishes) -> list[str]:
    columns = wishes.columns
    steps = []
    if columns is not DIAMONDS:
        steps.append(f"Put {columns.file} where data_root of include/environments says (params.data in the manifest).")
    steps.append(f"Look at it: `mlfleet render {wishes.name}`; every key: `mlfleet explain`.")
    if wishes.deploy:
        steps.append(f"Spinnaker needs application {wishes.name} with pipeline {wishes.deploy}; `mlfleet apply` makes "
                     "both where the environment names a template.")  # fmt: skip
    steps.append("Commit it; Airflow shows the DAG as soon as it refreshes.")
    return steps
