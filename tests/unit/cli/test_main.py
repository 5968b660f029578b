from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.shell_completion import ShellComplete

from mlfleet.cli import main
from mlfleet.cli.graph import drawn
from mlfleet.cli.main import mlfleet
from mlfleet.cli.report import coloured
from mlfleet.manifest.diagnostics import Diagnostic, Severity
from mlfleet.manifest.loading import Repository
from mlfleet.manifest.models import Project
from tests.unit.manifest.samples import FULL, MINIMAL

ROOT = Path(__file__).parents[3]


def test_validate_says_everything_and_counts(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    (repository.projects / "prices.yaml").write_text(FULL)
    assert main(["--root", str(repository.root), "validate"]) == 0
    assert capsys.readouterr().out == "1 manifest, 0 errors, 0 warnings\n"
    (repository.projects / "b.yml").write_text(MINIMAL.replace("prices", "b").replace("Default", "“D”") + "tites: x\n")
    assert main(["--root", str(repository.root), "validate"]) == 1
    out = capsys.readouterr().out
    assert "include/projects/b.yml:7:1: error MF010: unknown key 'tites'" in out
    assert "include/projects/b.yml:6:11: warning MF007" in out
    assert out.endswith("2 manifests, 1 error, 1 warning\n")
    assert main(["--root", str(repository.root), "validate", str(repository.projects / "prices.yaml")]) == 0


def test_validate_without_anything_to_look_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(tmp_path), "validate"]) == 64
    assert main(["--root", str(tmp_path), "validate", str(tmp_path / "gone.yaml")]) == 64
    assert main(["--root", str(tmp_path / "gone"), "validate"]) == 64
    assert "there is no" in capsys.readouterr().err


def test_render_gives_a_manifest_of_the_same_project(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository.projects / "prices.yaml").write_text(FULL)
    assert main(["--root", str(repository.root), "render", "prices"]) == 0
    rendered = yaml.safe_load(capsys.readouterr().out)
    assert rendered["training"]["kfp"]["timeout"] == "PT1H30M"
    again = Project.model_validate(rendered)
    assert again.training is not None
    assert again.image is not None
    assert again.image.dockerfile == "Dockerfile"
    assert main(["--root", str(repository.root), "render", "price"]) == 64
    assert "did you mean prices?" in capsys.readouterr().err


EVERY_FLEET_COMMAND = (["validate"], ["render", "price-suggestion"], ["list"], ["schema"], ["explain", "schedule"],
                       ["completion", "bash"], ["--help"])  # fmt: skip


def test_fleet_commands_need_no_airflow() -> None:
    """The base installs without it: an import would fail there, so nothing may ask for it here."""
    script = (
        "import sys; sys.modules['airflow'] = None\n"
        "from mlfleet.cli import main\n"
        f"for words in {EVERY_FLEET_COMMAND!r}:\n"
        "    assert main(words) == 0, words\n"
        "assert sys.modules['airflow'] is None\n"
        "assert not [name for name in sys.modules if name.startswith('airflow.')]\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, text=True, check=False, cwd=ROOT, timeout=60, env={"PYTHONPATH": str(ROOT / "plugins")},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "2 manifests, 0 errors" in ran.stdout


@pytest.mark.parametrize("words", [["render", str(ROOT / "tests/data/deck-manifest.yml")], ["explain", "experiments"]])
def test_a_terminal_without_unicode(words: list[str]) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "mlfleet.cli", *words], capture_output=True, check=False, cwd=ROOT, timeout=60,
        env={"PYTHONPATH": str(ROOT / "plugins"), "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr


def test_help_and_completion_load_no_model() -> None:
    """Airflow's command line asks for our commands each time it runs."""
    script = (
        "import sys; from mlfleet.cli import main; assert main(['--help']) == 0\n"
        "assert not {'pydantic', 'yaml', 'croniter'} & set(sys.modules)"
    )
    environment = {"PYTHONPATH": str(ROOT / "plugins")}
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60, env=environment, stdout=subprocess.DEVNULL)


def test_the_dag_is_not_drawn_without_airflow(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "airflow" else found(name))
    assert main(["--root", str(ROOT), "dag", "price-suggestion"]) == 3
    assert "install mlfleet[airflow]" in capsys.readouterr().err


def test_an_environment_that_does_not_exist(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLEET_ENV", "pord")
    assert main(["--root", str(ROOT), "dag", "price-suggestion"]) == 1
    assert "there is no environment 'pord'" in capsys.readouterr().err


def test_the_pre_commit_hooks_call_commands() -> None:
    validate, owners = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    for hook in (validate, owners):
        program, command = hook["entry"].split()
        assert (program, command in mlfleet.commands) == ("mlfleet", True)
        for name in ("projects/a.yaml", "environments/dev.yaml", "defaults.yaml"):
            assert re.search(hook["files"], f"include/{name}")
        assert not re.search(hook["files"], "README.md")
    assert re.search(validate["files"], "include/pipelines/a/train.py")
    assert re.search(owners["files"], ".github/CODEOWNERS")


def test_json_has_every_field_of_a_diagnostic(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    (repository.projects / "prices.yaml").write_text(MINIMAL + "titel: x\n")
    assert main(["--root", str(repository.root), "validate", "--output", "json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["manifests"], told["errors"], told["warnings"]) == (1, 1, 0)
    (found,) = told["diagnostics"]
    assert Diagnostic(**found).id == "MF010"
    assert (found["file"], found["line"], found["column"], found["width"]) == ("include/projects/prices.yaml", 7, 1, 5)


def test_github_reads_any_text(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    """A colon, a comma, a percent sign or a new line ends a property or the message unless it is escaped."""
    (repository.projects / "prices.yaml").write_text(MINIMAL + '"a:b,c%\\nd": x\n')
    assert main(["--root", str(repository.root), "validate", "--output", "github"]) == 1
    line = capsys.readouterr().out.splitlines()[0]
    head, message = line.removeprefix("::error ").split("::", 1)
    told = dict(part.split("=", 1) for part in head.split(","))
    assert (told["file"], told["line"], told["col"]) == ("include/projects/prices.yaml", "7", "1")
    assert told["title"] == "MF010 a%3Ab%2Cc%25�d"
    assert "%25" in message


def test_colours_change_no_text() -> None:
    found = Diagnostic(
        "MF010", Severity.ERROR, "titel", "a.yaml", 3, 2, "what [bold]is[/] wrong", "do that", " titel: x", 5
    )
    assert coloured(found).plain == str(found)
    assert {str(found)[span.start : span.end] for span in coloured(found).spans} == {
        "a.yaml:3:2:", " error MF010:", "    |  ^^^^^", "  fix: do that"
    }  # fmt: skip


def test_pre_commit_hands_over_any_file_of_a_project(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository.projects / "prices.yaml").write_text(FULL)
    (repository.projects / "cards.yaml").write_text(MINIMAL.replace("prices", "cards"))
    code = repository.folder_of("prices")
    (code / "polyaxonfile.yaml").write_text("kind: component\ninputs: [{name: data}]\n")
    names = [str(code / "polyaxonfile.yaml"), str(repository.projects / "prices.yaml"), str(code / "train.py")]
    assert main(["--root", str(repository.root), "validate", *names]) == 1
    out = capsys.readouterr().out
    assert "has no input 'segment'" in out
    assert out.endswith("1 manifest, 2 errors, 0 warnings\n")
    main(["--root", str(repository.root), "validate", str(repository.environments / "dev.yaml")])
    assert "2 manifests" in capsys.readouterr().out


def test_completion_of_projects_and_fields(repository: Repository) -> None:
    (repository.projects / "prices.yaml").write_text(MINIMAL)
    asked = ShellComplete(mlfleet, {}, "mlfleet", "_MLFLEET_COMPLETE")
    completed = asked.get_completions(["--root", str(repository.root), "render"], "pr")
    assert [item.value for item in completed] == ["prices"]
    fields = [item.value for item in asked.get_completions(["explain"], "training.polyaxon.best")]
    assert "training.polyaxon.best_by.metric" in fields


@pytest.mark.parametrize(
    ("follows", "lines"),
    [
        ({"a": ["b"], "b": []}, ["o a", "o b"]),
        ({"a": ["c"], "b": ["c"], "c": []}, ["o a", "│ o b", "├─╯", "o c"]),
        ({"a": ["b", "c", "d"], "b": ["e"], "c": ["e"], "d": ["e"], "e": []},
         ["o a", "├─┬─╮", "o │ │ b", "│ o │ c", "│ │ o d", "├─┴─╯", "o e"]),
        # One that no nesting of forks and joins can draw: a leads to the end past b.
        ({"a": ["b", "z"], "b": ["c", "d"], "c": [], "d": ["z"], "z": []},
         ["o a", "├─╮", "o │ b", "├─╮ │", "o │ │ c", "  o │ d", "  ├─╯", "  o z"]),
        # Nothing stands below a task that it does not follow.
        ({"a": [], "b": ["c"], "c": []}, ["o a", "", "o b", "o c"]),
        ({}, []),
    ],
)  # fmt: skip
def test_any_graph_can_be_drawn(follows: dict[str, list[str]], lines: list[str]) -> None:
    assert drawn(follows, {}) == lines
