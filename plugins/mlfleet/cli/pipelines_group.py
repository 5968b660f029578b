"""Commands, arguments and help of ``mlfleet pipelines``; what they do stands in `mlfleet.cli.pipelines`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from mlfleet.cli.exits import FOUND_ERRORS, MISSING, OK, USAGE

Command = TypeVar("Command", bound=Callable[..., Any])
EXIT_CODES = f"""\b
Exit codes:
  {OK}  all is well
  {FOUND_ERRORS}  a manifest, a pipeline or an upload failed; what could be done was done
  {USAGE}  the command was called wrongly
  {MISSING}  the command needs something that is not installed
"""
_FOLDER = click.Path(path_type=Path, file_okay=False)


def _complete_project(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    from mlfleet.cli.main import complete_project

    return complete_project(context, parameter, incomplete)


def _complete_environment(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    from mlfleet.cli.main import complete_environment

    return complete_environment(context, parameter, incomplete)


@click.group(epilog=EXIT_CODES)
def pipelines() -> None:
    """Compile and upload the KFP pipelines of the repository: those that changed, once."""


def _compiling(command: Command) -> Command:
    """The options of everything that compiles."""
    for option in (
        click.option("--verify/--no-verify", default=True, show_default=True,
                     help="Compile twice, and refuse what is not the same each time."),
        click.option("--cache/--no-cache", default=True, show_default=True,
                     help="Take what was compiled from the same files from the cache."),
        click.option("--cache-dir", type=_FOLDER, envvar="MLFLEET_PIPELINE_CACHE",
                     help="Where the cache is (default: in the user's cache folder)."),
        click.option("--timeout", type=click.FloatRange(min=0, min_open=True), default=120, show_default=True,
                     help="Seconds that one pipeline may take."),
        click.option("--jobs", "-j", type=click.IntRange(min=1), help="Processes at a time (default: one a core)."),
        click.option("--base", metavar="REF", help="Only those that may have changed since this commit."),
    ):  # fmt: skip
        command = option(command)
    return command


@pipelines.command(epilog=EXIT_CODES)
@click.option("--base", metavar="REF", required=True, help="The commit to compare with, like origin/main.")
@click.option("--output", "-o", type=click.Choice(("terminal", "names", "json")), default="terminal",
              show_default=True, help="How the result is written.")  # fmt: skip
@click.pass_obj
def changed(root: Path | None, base: str, output: str) -> int:
    """List the pipelines whose compiled form may differ from that at REF.

    Compares the files of the work tree, uncommitted changes included, with those where its history parted from REF:
    the project's own, the modules and files that the pipeline takes, and the pinned compiler. Nothing is run.
    """
    from mlfleet.cli.pipelines import changed as run

    return run(root, base, output)


@pipelines.command("compile", epilog=EXIT_CODES)
@click.argument("projects", nargs=-1, metavar="[PROJECT]...", shell_complete=_complete_project)
@click.option("--out", type=_FOLDER, help="Write PROJECT.yaml into this folder.")
@_compiling
@click.pass_obj
def compile_(root: Path | None, /, projects: tuple[str, ...], out: Path | None, base: str | None, **how: Any) -> int:
    """Compile pipelines, all of them or those of PROJECTs, in parallel and with a cache."""
    from mlfleet.cli.pipelines import compile_them, compiling

    return compile_them(root, projects, base, out, compiling(**how))


@pipelines.command(epilog=EXIT_CODES)
@click.argument("projects", nargs=-1, metavar="[PROJECT]...", shell_complete=_complete_project)
@click.option(
    "--env",
    "-e",
    "environment",
    shell_complete=_complete_environment,
    help="Refuse to go anywhere else than to this environment.",
)
@click.option("--branch", help="The git branch (default: the one that is checked out).")
@click.option("--dry-run", is_flag=True, help="Compile, say what would be uploaded where, and ask no server.")
@click.option("--output", "-o", type=click.Choice(("terminal", "json")), default="terminal", show_default=True,
              help="How the result is written.")  # fmt: skip
@_compiling
@click.pass_obj
def upload(
    root: Path | None, /, projects: tuple[str, ...], environment: str | None, branch: str | None, dry_run: bool,
    output: str, base: str | None, **how: Any,
) -> int:  # fmt: skip
    """Upload compiled pipelines as versions BRANCH_COMMIT, to the one environment that the branch goes to.

    `branches` in include/environments says which one that is; by default main goes to prod and all others to dev. A
    version that is there already is compared, and what has not changed since the branch's newest one is not uploaded.
    """
    from mlfleet.cli.pipeline_upload import Asked, run
    from mlfleet.cli.pipelines import compiling

    return run(root, projects, base, compiling(**how), Asked(environment, branch, dry_run, output == "json"))


@pipelines.command(epilog=EXIT_CODES)
@click.option("--env", "-e", "environment", required=True, shell_complete=_complete_environment, help="Whose versions.")
@click.option("--days", type=click.FloatRange(min=0), default=30, show_default=True, help="Younger versions stay.")
@click.option("--keep", type=click.IntRange(min=0), default=3, show_default=True,
              help="So many of the newest versions of a branch stay, however old.")  # fmt: skip
@click.option("--remote", default="origin", show_default=True, help="Branches that it does not have keep no version.")
@click.option("--yes", "-y", is_flag=True, help="Ask nobody (CI).")
@click.pass_obj
def prune(
    root: Path | None, environment: str, days: float, keep: int, remote: str, yes: bool
) -> int:  # fmt: skip
    """Remove old versions of the repository's pipelines.

    Only versions that `upload` has made; never the newest of a pipeline, and never one that a recurring run, or a run
    that has not ended, names.
    """
    from mlfleet.cli.pipeline_prune import run

    return run(root, environment, days=days, keep=keep, remote=remote, yes=yes)
