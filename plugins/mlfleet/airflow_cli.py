"""``airflow mlfleet``: the commands of `mlfleet.cli` in Airflow's command line, told from the same declarations.

Airflow calls `get_cli_commands` in each of its commands (the provider's ``cli`` entry), so nothing heavy is imported.
"""

from __future__ import annotations

import argparse
import functools
import inspect
import sys
from typing import Any

import click
from airflow.cli.cli_config import ActionCommand, GroupCommand
from airflow.cli.cli_config import Arg as UntypedArg
from airflow.utils.cli_action_loggers import register_pre_exec_callback

from mlfleet.cli.main import main, mlfleet
from mlfleet.starting import before_command

Arg: Any = UntypedArg
# Shell completion is Airflow's own there; and Airflow says 2 for a wrong call, which `plan` says for changes.
_LEFT_OUT = ("completion", "plan", "apply")


def get_cli_commands() -> list[GroupCommand]:
    """One group with one command for each of ours.

    It is also the code of a provider that runs before a program of Airflow does, see `starting`.
    """
    _register()
    commands = [_told(name, command, ()) for name, command in mlfleet.commands.items() if name not in _LEFT_OUT]
    return [GroupCommand(name="mlfleet", help="Manifests of machine-learning projects", subcommands=commands)]


@functools.cache
def _register() -> None:
    register_pre_exec_callback(before_command)  # type: ignore[no-untyped-call]


def _told(name: str, command: click.Command, above: tuple[str, ...]) -> Any:
    """One of our commands as Airflow declares it; ``above`` are the groups that it is in."""
    told: dict[str, Any] = {
        "name": name,
        "help": command.get_short_help_str(limit=100),
        "description": inspect.cleandoc(command.help or ""),
    }
    if isinstance(command, click.Group):
        inner = [_told(each, one, (*above, name)) for each, one in command.commands.items()]
        return GroupCommand(**told, subcommands=inner)
    args = [_argument(parameter) for parameter in (*mlfleet.params, *command.params) if _is_ours(parameter)]
    return ActionCommand(**told, func=functools.partial(_run, (*above, name)), args=args)


def _is_ours(parameter: click.Parameter) -> bool:
    """Not --version and --help, which each command line has of its own."""
    return parameter.expose_value


def _argument(parameter: click.Parameter) -> Any:
    told: dict[str, Any] = {"help": getattr(parameter, "help", None)}
    if isinstance(parameter.type, click.Choice):
        told["choices"] = list(parameter.type.choices)
    if isinstance(parameter, click.Argument):
        told["metavar"] = parameter.make_metavar(click.Context(mlfleet)).strip("[].")
        if parameter.nargs == -1 or not parameter.required:
            told["nargs"] = "*" if parameter.nargs == -1 else "?"
        return Arg((parameter.name or "",), **told)
    flags = (*parameter.opts, *parameter.secondary_opts)
    if getattr(parameter, "is_flag", False):
        action: Any = argparse.BooleanOptionalAction if parameter.secondary_opts else "store_true"
        return Arg(tuple(parameter.opts), help=told["help"], action=action, default=None)
    return Arg(flags, **told)


def _run(names: tuple[str, ...], args: argparse.Namespace) -> None:
    """Hands the parsed arguments on as the words that `mlfleet` takes; leaves with its exit code."""
    command: click.Command = mlfleet
    for name in names:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    words = [*_words(mlfleet, args), *names, *_words(command, args)]
    sys.exit(main(words))


def _words(command: click.Command, args: argparse.Namespace) -> list[str]:
    options: list[str] = []
    positional: list[str] = []
    for parameter in filter(_is_ours, command.params):
        value = getattr(args, parameter.name or "", None)
        if value is None or value == []:
            continue
        if isinstance(parameter, click.Argument):
            positional += value if isinstance(value, list) else [value]
        elif isinstance(value, bool):
            flags = parameter.opts if value else parameter.secondary_opts
            options += flags[:1]
        else:
            options += [parameter.opts[0], str(value)]
    return [*options, *(["--", *positional] if positional else [])]
