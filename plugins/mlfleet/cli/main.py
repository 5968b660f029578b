"""Commands, arguments and exit codes; what a command does stands in a module of its own, imported when it runs.

So ``--help``, shell completion and Airflow's own command line, which asks every provider for its commands each time,
load no model. Airflow shows the same commands as ``airflow mlfleet`` (`mlfleet.airflow_cli`).
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from mlfleet import __version__
from mlfleet.cli import pipelines_group
from mlfleet.cli.exits import FOUND_ERRORS, MISSING, OK, USAGE
from mlfleet.errors import MlfleetError

EXIT_CODES = f"""\b
Exit codes:
  {OK}  all is well (warnings allowed, unless --strict)
  {FOUND_ERRORS}  a manifest or an environment file has errors
  {USAGE}  the command was called wrongly, or there is nothing to look at
  {MISSING}  the command needs something that is not installed (Airflow)
"""
Command = TypeVar("Command", bound=Callable[..., Any])
_PROJECT = "PROJECT is the name of a project or the path of a manifest."


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; results go to stdout, faults of the call to stderr."""
    if arguments is None:
        # The names of people and models are not ASCII; a terminal that is must not end the command.
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")
    try:
        code = mlfleet.main(args=None if arguments is None else list(arguments), prog_name="mlfleet",
                            standalone_mode=False)  # fmt: skip
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return 130
    except MlfleetError as error:
        print(f"mlfleet: {error}", file=sys.stderr)
        return FOUND_ERRORS
    return code if isinstance(code, int) else OK


def _complete_project(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names of manifest files: completion must answer at once, so nothing is parsed."""
    from mlfleet.cli.places import repository_of

    root = context.find_root().params.get("root")
    names = sorted({path.stem for path in repository_of(root, ()).manifests()})
    return [name for name in names if name.startswith(incomplete)]


def _complete_environment(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    from mlfleet.cli.places import repository_of
    from mlfleet.manifest.environments import environment_names

    names = environment_names(repository_of(context.find_root().params.get("root"), ()).environments)
    return [name for name in names if name.startswith(incomplete)]


def _complete_field(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    from mlfleet.cli.explain import all_fields

    return [name for name in all_fields() if name.startswith(incomplete)]


@click.group(epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="mlfleet", message="%(prog)s %(version)s")
@click.option("--root", type=click.Path(path_type=Path), envvar="MLFLEET_ROOT",
              help="The deployment repository (default: the one around the files, or around this folder).")  # fmt: skip
@click.pass_context
def mlfleet(context: click.Context, root: Path | None) -> None:
    """Manifests of machine-learning projects: check, show and explain them."""
    context.obj = root


def _output(*choices: str) -> Callable[[Command], Command]:
    return click.option("--output", "-o", type=click.Choice(choices), default=choices[0], show_default=True,
                        help="How the result is written.")  # fmt: skip


@mlfleet.command(epilog=EXIT_CODES)
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[PATH]...")
@_output("terminal", "json", "github")
@click.option("--strict", is_flag=True, help="Warnings count as errors.")
@click.pass_obj
def validate(root: Path | None, paths: tuple[Path, ...], output: str, strict: bool) -> int:
    """Say everything that is wrong with manifests.

    PATHs are manifests, folders of manifests, or any files of projects (below include/pipelines/NAME) whose manifests
    are then checked, as pre-commit hands them over; without any, all of include/projects is looked at. `--output
    github` writes annotations for GitHub Actions.
    """
    from mlfleet.cli.validate import run

    return run(root, paths, output, strict)


@mlfleet.command(epilog=EXIT_CODES)
@click.argument("project", shell_complete=_complete_project)
@_output("yaml", "json")
@click.option("--origins/--no-origins", default=True, show_default=True, help="Say where each value comes from.")
@click.option("--environment", "-e", shell_complete=_complete_environment,
              help="Whose targets are merged in (default: MLFLEET_ENV, else dev).")  # fmt: skip
@click.pass_obj
def render(root: Path | None, project: str, output: str, origins: bool, environment: str | None) -> int:
    """Show a manifest as an environment has it, and each value's origin: file and line, target, or default."""
    from mlfleet.cli.render import run

    return run(root, project, output, origins, environment)


@mlfleet.command()
def schema() -> int:
    """Print the JSON Schema of manifests, for editors."""
    from mlfleet.manifest.schema import schema_text

    click.echo(schema_text(), nl=False)
    return OK


@mlfleet.command(epilog=EXIT_CODES)
@click.argument("field", default="", metavar="[FIELD | ID]", shell_complete=_complete_field)
def explain(field: str) -> int:
    """Explain a key of the manifest or the id of a finding.

    FIELD is written like training.polyaxon.timeout or experiments.name; without one, all top-level keys are shown. ID
    is the number of a finding, like MF010.
    """
    from mlfleet.cli.explain import run

    return run(field)


@mlfleet.command("list", epilog=EXIT_CODES)
@_output("table", "json")
@click.pass_obj
def list_projects(root: Path | None, output: str) -> int:
    """List all projects with their schedule, experiments, owners and state."""
    from mlfleet.cli.listing import run

    return run(root, output)


@mlfleet.command(epilog=f"{_PROJECT}\n\n{EXIT_CODES}")
@click.argument("project", shell_complete=_complete_project)
@_output("graph", "json")
@click.pass_obj
def dag(root: Path | None, project: str, output: str) -> int:
    """Draw the DAG of a project, as the factory builds it (needs Airflow)."""
    from mlfleet.cli.graph import run

    return run(root, project, output)


@mlfleet.command(epilog=EXIT_CODES)
@click.option("--check", is_flag=True, help="Write nothing; say what is stale, and leave with 1 when something is.")
@click.pass_obj
def codeowners(root: Path | None, check: bool) -> int:
    """Write .github/CODEOWNERS from the owners in the manifests.

    Only the lines between mlfleet's markers are touched: a rule for each manifest and one for the folder of its code.
    """
    from mlfleet.cli.codeowners import run

    return run(root, check)


@mlfleet.command(epilog='For example, in ~/.bashrc: eval "$(mlfleet completion bash)"')
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Print the shell code that completes commands, options, projects and fields."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(found(mlfleet, {}, "mlfleet", "_MLFLEET_COMPLETE").source())
    return OK


mlfleet.add_command(pipelines_group.pipelines)
