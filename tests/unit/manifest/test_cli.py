from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mlfleet.cli import main
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
    assert main(["--root", str(tmp_path), "validate"]) == 2
    assert main(["--root", str(tmp_path), "validate", str(tmp_path / "gone.yaml")]) == 2
    assert main(["--root", str(tmp_path / "gone"), "validate"]) == 2
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
    assert main(["--root", str(repository.root), "render", "price"]) == 2
    assert "did you mean prices?" in capsys.readouterr().err


def test_the_command_needs_no_airflow() -> None:
    """The base installs without it: an import would fail there, so nothing may ask for it here."""
    script = "import sys; sys.modules['airflow'] = None; from mlfleet.cli import main; sys.exit(main(sys.argv[1:]))"
    ran = subprocess.run(
        [sys.executable, "-c", script, "validate", str(ROOT / "tests" / "data" / "deck-manifest.yml")],
        capture_output=True, text=True, check=False, cwd=ROOT, timeout=60, env={"PYTHONPATH": str(ROOT / "plugins")},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "3 warnings" in ran.stdout
