"""Every folder here with a `script` is a case; README.md says how one is made."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from mlfleet.cli import main
from mlfleet.manifest.diagnostics import MEANINGS

GOLDEN = Path(__file__).parent
CASES = sorted(script.parent for script in GOLDEN.glob("*/script"))


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in ("MLFLEET_ROOT", "MLFLEET_ENV", "GITHUB_ACTIONS", "AIRFLOW_CONN_KFP_DEFAULT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    root = tmp_path / "repository"
    shutil.copytree(GOLDEN / "_shared", root)
    monkeypatch.chdir(root)
    return root


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_golden(case: Path, repository: Path, pytestconfig: pytest.Config) -> None:
    ignored = shutil.ignore_patterns("script", "output")
    shutil.copytree(case, repository, ignore=ignored, dirs_exist_ok=True)
    steps = [line for line in (case / "script").read_text(encoding="utf-8").splitlines() if line.strip()]
    said = "\n".join(step(line, repository) for line in steps)
    expected = case / "output"
    if pytestconfig.getoption("update_golden"):
        expected.write_text(said, encoding="utf-8")
    assert said == expected.read_text(encoding="utf-8"), f"if this is right: pytest {GOLDEN.name} --update-golden"


def test_there_are_enough_cases_and_each_has_an_output() -> None:
    assert len(CASES) >= 60
    assert [case.name for case in CASES if not (case / "output").is_file()] == []


def test_every_finding_has_a_case() -> None:
    """All but what only building the DAG shows: MF020, a fault of the factory, and MF025, one of a team's own code."""
    shown = {id for case in CASES for id in re.findall(r"MF\d{3}(?=:)", (case / "output").read_text(encoding="utf-8"))}
    assert shown == set(MEANINGS) - {"MF020", "MF025"}


def step(line: str, root: Path) -> str:
    """What one line of a script prints, after the line itself."""
    command, _, rest = line.partition(" | ") if line.startswith("mlfleet ") else ("", "", line)
    text, code = call(command) if command else ("", 0)
    if rest:
        ran = subprocess.run(
            ["bash", "-c", rest], input=text, cwd=root, text=True, timeout=60, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        text, code = ran.stdout, code or ran.returncode
    text = text.replace(str(root.resolve()), "$REPOSITORY").rstrip("\n")
    return f">>> {line}\n{text}{chr(10) if text else ''}{f'exit code {code}{chr(10)}' if code else ''}"


def call(command: str) -> tuple[str, int]:
    """One call of the command line: what both streams got, in order, and the exit code."""
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        code = main(shlex.split(command)[1:])
    return stream.getvalue(), code
