"""``airflow mlfleet``: the same commands, as Airflow's own parser takes them."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest
from airflow.cli.cli_parser import AirflowHelpFormatter, _add_command

from mlfleet.airflow_cli import get_cli_commands
from mlfleet.cli.main import mlfleet

ROOT = Path(__file__).parents[3]


def run(*words: str) -> int:
    parser = argparse.ArgumentParser(formatter_class=AirflowHelpFormatter)
    subparsers = parser.add_subparsers(dest="subcommand")
    for group in get_cli_commands():
        _add_command(subparsers, group)
    args = parser.parse_args(["mlfleet", *words])
    with pytest.raises(SystemExit) as left:
        args.func(args)
    return int(left.value.code or 0)


def test_it_has_every_command_but_those_of_its_own_and_those_whose_exit_codes_it_would_blur() -> None:
    (group,) = get_cli_commands()
    assert {command.name for command in group.subcommands} == set(mlfleet.commands) - {"completion", "plan", "apply"}


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("validate", "--root", str(ROOT)), 0, "2 manifests, 0 errors"),
        (("validate", "--root", str(ROOT), "-o", "json"), 0, '"manifests": 2'),
        (("validate", "--strict", str(ROOT / "tests/data/deck-manifest.yml")), 1, "3 warnings"),
        (("render", "--root", str(ROOT), "--no-origins", "flight-delay"), 0, "name: flight-delay\n"),
        (("render", "--root", str(ROOT), "flight-delay"), 0, "# include/projects/flight-delay.yaml:"),
        (("explain", "schedule.cron"), 0, "Five fields"),
        (("explain",), 0, "* required"),
        (("codeowners", "--root", str(ROOT), "--check"), 0, "up to date"),
        (("pipelines", "changed", "--root", str(ROOT), "--base", "HEAD", "-o", "json"), 0, '"total": 2'),
        (("list", "--root", str(ROOT)), 0, "price-suggestion"),
        (("render", "--root", str(ROOT), "nobody"), 64, ""),
    ],
)
def test_words_and_exit_codes_arrive(
    words: tuple[str, ...], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == code
    assert says in capsys.readouterr().out


def test_airflow_finds_it(tmp_path: Path) -> None:
    """Through the provider's entry, in a process of its own."""
    ran = subprocess.run(
        [str(Path(sys.executable).with_name("airflow")), "mlfleet", "validate", "--root", str(ROOT)],
        capture_output=True, text=True, check=False, timeout=120, cwd=tmp_path,
        env={**os.environ, "AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
             "AIRFLOW__CORE__PLUGINS_FOLDER": str(tmp_path / "none")},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.endswith("2 manifests, 0 errors, 0 warnings\n")
