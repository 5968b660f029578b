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
from mlfleet.cli.exits import CHANGES, FOUND_ERRORS, INTERRUPTED, MISSING, OK, USAGE
from mlfleet.errors import MlfleetError

EXIT_CODES = f"""\b
Exit codes:
  {OK}  all is well (warnings allowed, unless --strict)
  {FOUND_ERRORS}  a manifest or an environment file has errors
  {MISSING}  the command needs something that is not installed (Airflow)
  {USAGE}  the command was called wrongly, or there is nothing to look at
"""
PLAN_CODES = f"""\b
Exit codes:
  {OK}  nothing is to be done
  {FOUND_ERRORS}  a manifest, an environment or a connection cannot be used, or a system could not be read
  {CHANGES}  there are changes, drift or orphans
  {USAGE}  the command was called wrongly
"""
APPLY_CODES = f"""\b
Exit codes:
  {OK}  all was done, or nothing was to be done
  {FOUND_ERRORS}  the same as of `plan`, or something could not be done; run it again when that is mended
  {USAGE}  the command was called wrongly, or nobody is there to be asked
  {INTERRUPTED}  interrupted, or answered with no
"""
EXPLORE_CODES = f"""\b
Exit codes:
  {OK}  the run succeeded (with --detach: was submitted)
  {FOUND_ERRORS}  it did not, or could not be submitted
  {USAGE}  the command was called wrongly
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
        return USAGE if isinstance(error, click.UsageError) else error.exit_code
    except click.Abort:
        return INTERRUPTED
    except MlfleetError as error:
        print(f"mlfleet: {error}", file=sys.stderr)
        return FOUND_ERRORS
    return code if isinstance(code, int) else OK


def complete_project(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names of manifest files: completion must answer at once, so nothing is parsed."""
    from mlfleet.cli.places import repository_of

    root = context.find_root().params.get("root")
    names = sorted({path.stem for path in repository_of(root, ()).manifests()})
    return [name for name in names if name.startswith(incomplete)]


def complete_environment(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names of environment files."""
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
    """Manifests of machine-learning projects: write, check, show and explain them."""
    context.obj = root


def _output(*choices: str) -> Callable[[Command], Command]:
    return click.option("--output", "-o", type=click.Choice(choices), default=choices[0], show_default=True,
                        help="How the result is written.")  # fmt: skip


@mlfleet.command(epilog=EXIT_CODES)
@click.argument("name", required=False)
@click.option("--owner", "owners", multiple=True, help="@user or @organisation/team on GitHub; may be repeated.")
@click.option("--title", help="What people call it.")
@click.option("--data", type=click.Path(path_type=Path, dir_okay=False),
              help="A CSV file, or a sample of it, whose columns become the features.")  # fmt: skip
@click.option("--target", help="The column of --data that is predicted (default: the last one).")
@click.option("--experiment", "experiments", multiple=True, help="A model of the project; may be repeated.")
@click.option("--cron", help="When it trains; without one, runs start by hand.")
@click.option("--deploy/--no-deploy", default=True, show_default=True, help="Whether Spinnaker deploys its image.")
@click.option("--ask/--no-ask", default=None, help="Ask for what is missing (default: at a terminal).")
@click.pass_obj
def new(root: Path | None, /, ask: bool | None, **flags: Any) -> int:
    """Write a new project: manifest, polyaxonfile, pipeline, Dockerfile and training code.

    It passes `mlfleet validate` and trains as it stands; without --data it learns from the diamonds of the sandbox.
    Nothing that is there is changed.
    """
    from mlfleet.cli.new import Flags, run

    return run(root, Flags(**flags), ask)


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
@click.argument("project", shell_complete=complete_project)
@_output("yaml", "json")
@click.option("--origins/--no-origins", default=True, show_default=True, help="Say where each value comes from.")
@click.option("--env", "--environment", "-e", "environment", shell_complete=complete_environment,
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
@click.argument("project", shell_complete=complete_project)
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


@mlfleet.command(epilog=f"{_PROJECT}\n\n{EXPLORE_CODES}")
@click.argument("project", shell_complete=complete_project)
@click.option("--experiment", help="By its name (default: the first that is enabled).")
@click.option("--param", "-p", "params", multiple=True, metavar="NAME=VALUE",
              help="In place of the manifest's or the search's, read as YAML; may be repeated.")  # fmt: skip
@click.option("--search/--no-search", default=True, show_default=True, help="Run the manifest's matrix, if it has one.")
@click.option("--end", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]),
              help="End of the data, UTC (default: today); the manifest's window before it is its begin.")  # fmt: skip
@click.option("--env", "--environment", "-e", "environment", default="dev", show_default=True,
              shell_complete=complete_environment,
              help="Whose Polyaxon: its connection is read from AIRFLOW_CONN_<ID>.")  # fmt: skip
@click.option("--detach", is_flag=True, help="Submit, and do not wait.")
@click.option("--dry-run", is_flag=True, help="Print the operation that would be sent.")
@click.pass_obj
def explore(root: Path | None, /, project: str, **flags: Any) -> int:
    """Run a project's training on Polyaxon with the code as it lies here, and follow it.

    The spec, the params and the files are those that the DAG's Polyaxon task would send, taken from this folder, be
    they committed or not. Nothing is built or released of such a run. Ctrl-C stops following, not the run.
    """
    from mlfleet.cli.explore import Flags, run

    return run(root, project, Flags(**flags))


_environment = click.option("--env", "--environment", "-e", "environment", shell_complete=complete_environment,
                            help="Which environment (default: MLFLEET_ENV, else dev).")  # fmt: skip


@mlfleet.command(epilog=PLAN_CODES)
@_environment
@_output("terminal", "json")
@click.pass_obj
def plan(root: Path | None, environment: str | None, output: str) -> int:
    """Show what `apply` would do: what the manifests ask for, and does not exist or is otherwise.

    Reads the systems of the environment and changes nothing.
    """
    from mlfleet.cli.plan import run

    return run(root, environment, output)


@mlfleet.command(epilog=APPLY_CODES)
@_environment
@_output("terminal", "json")
@click.option("--yes", "-y", is_flag=True, help="Ask nobody (CI).")
@click.option("--prune", is_flag=True, help="Also archive, disable or delete what nobody asks for any more.")
@click.option("--concurrency", type=click.IntRange(1, 64), default=8, show_default=True,
              help="Changes that are under way at a time.")  # fmt: skip
@click.pass_obj
def apply(
    root: Path | None, environment: str | None, output: str, yes: bool, prune: bool, concurrency: int
) -> int:  # fmt: skip
    """Make an environment as the manifests ask for: shows the plan, asks, and does it.

    Safe to run again at any time, also after it was interrupted: it does what is left.
    """
    from mlfleet.cli.apply import run

    return run(root, environment, output, yes=yes, prune=prune, concurrency=concurrency)


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
