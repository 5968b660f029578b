"""``mlfleet new``: what it writes is a project that validates, trains, is packaged and served as it stands."""

from __future__ import annotations

import csv
import importlib.util
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

from mlfleet.cli.columns import Columns, look_at
from mlfleet.cli.main import main, mlfleet
from mlfleet.cli.new import Flags, run
from mlfleet.systems.kfp_package import load_package
from tests.support.processes import REPOSITORY

ENVIRONMENT = "name: dev\nvalues: {data_root: /data, base_image: base}\n"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "include" / "projects").mkdir(parents=True)
    (tmp_path / "include" / "environments").mkdir()
    (tmp_path / "include" / "environments" / "dev.yaml").write_text(ENVIRONMENT)
    return tmp_path


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def houses(path: Path, rows: int = 400) -> Path:
    """A price that follows from size and town, with some rows that hold gaps."""
    draw = random.Random(1)
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "size", "town", "note", "price"])
        for number in range(rows):
            size, town = draw.randint(30, 200), draw.choice(["Ayr", "Bath", "St Ives"])
            price = size * 1000 + 20000 * len(town)
            table.writerow([f"h{number}", "" if number % 50 == 0 else size, town, f"text {number}", price])
    return path


def new(repository: Path, *words: str) -> int:
    return main(["--root", str(repository), "new", *words])


def test_it_validates_and_leaves_what_is_there_alone(repository: Path) -> None:
    assert new(repository, "prices", "--owner", "@acme/pricing") == 0
    first = {name: (repository / name).read_bytes() for name in files(repository)}
    assert new(repository, "more", "--owner", "@me", "--experiment", "Trading Cards", "--cron", "0 3 * * *") == 0
    assert main(["--root", str(repository), "validate", "--strict"]) == 0
    assert {name: (repository / name).read_bytes() for name in first} == first
    assert new(repository, "more", "--owner", "@me") == 64


def test_an_installed_mlfleet_brings_the_components_along(repository: Path) -> None:
    assert new(repository, "prices", "--owner", "@me") == 0
    for link, component in {"serve.py": "model_server.py", "tracking.py": "polyaxon_tracking.py"}.items():
        own = repository / "include" / "components" / component
        assert not own.is_symlink()
        assert own.read_text() == (REPOSITORY / "include" / "components" / component).read_text()
        assert (repository / "include" / "pipelines" / "prices" / link).resolve() == own.resolve()
    for name in ("__init__.py", "handover.py"):
        shared = Path("include", "pipelines", "_lib", name)
        assert (repository / shared).read_text() == (REPOSITORY / shared).read_text()
    own.write_text("# ours")
    assert new(repository, "more", "--owner", "@me") == 0
    assert own.read_text() == "# ours"


def test_a_library_of_pipelines_that_is_another_one(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    library = repository / "include" / "pipelines" / "_lib" / "__init__.py"
    library.parent.mkdir(parents=True)
    library.write_text("def of_ours():\n    pass\n")
    before = files(repository)
    assert new(repository, "prices", "--owner", "@me") == 64
    assert "include/pipelines/_lib/__init__.py is not the library" in capsys.readouterr().err
    assert files(repository) == before
    library.write_text("from of_ours import component, HANDOVER\n")
    assert new(repository, "prices", "--owner", "@me") == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["Prices", "--owner", "@me"], "'Prices' is not a project name"),
        (["prices"], "--owner is missing"),
        (["--owner", "@me"], "NAME is missing"),
        (["prices", "--owner", "not a user"], "is not a GitHub user or team"),
        (["prices", "--owner", "@me", "--cron", "daily"], "cron"),
        (["prices", "--owner", "@me", "--experiment", "!!!"], "task group"),
        (["prices", "--owner", "@me", "--target", "price"], "--data, which is missing"),
        (["prices", "--owner", "@me", "--data", "nowhere.csv"], "cannot be read as a CSV file"),
    ],
)
def test_wrong_wishes_leave_nothing_behind(
    repository: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(repository)
    assert new(repository, "--no-ask", *words) == 64
    assert said in capsys.readouterr().err
    assert files(repository) == before


def test_a_project_with_errors_is_taken_back(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The name belongs to a project in a file of another name: only all manifests together tell."""
    (repository / "include" / "projects" / "old.yaml").write_text(
        "kind: Project\nname: prices\nowners: [{github: '@me'}]\nexperiments: [{name: A}]\n"
    )
    (repository / "include" / "environments" / "dev.yaml").write_text("name: dev\nvalues: {data_root: /data}\n")
    before = files(repository)
    assert new(repository, "prices", "--owner", "@me") == 1
    assert "Nothing was written" in capsys.readouterr().err
    assert files(repository) == before
    assert not (repository / "include" / "pipelines" / "prices").exists()


def test_a_folder_that_cannot_be_written(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / "include" / "pipelines").write_text("a file where the folder would be")
    before = files(repository)
    assert new(repository, "prices", "--owner", "@me") == 64
    assert "cannot be written" in capsys.readouterr().err
    assert files(repository) == before


def test_no_repository_around(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert new(tmp_path, "prices", "--owner", "@me") == 64
    assert "there is no include/projects here" in capsys.readouterr().err


def test_it_asks_for_what_is_missing(repository: Path) -> None:
    answers = "Prices\nprices\n@acme/a, @b\n\nevery day\n-\n"
    asked = CliRunner().invoke(mlfleet, ["--root", str(repository), "new", "--ask"], input=answers)
    assert asked.exit_code == 0, asked.output
    assert "is not a project name" in asked.output
    assert "five fields" in asked.output
    manifest = yaml.safe_load((repository / "include" / "projects" / "prices.yaml").read_text())
    assert [owner["github"] for owner in manifest["owners"]] == ["@acme/a", "@b"]
    assert "schedule" not in manifest


def test_columns_of_a_table(tmp_path: Path) -> None:
    table = houses(tmp_path / "houses.csv")
    assert look_at(table, None) == Columns(
        "houses.csv", "price", ("size",), (("town", ("Ayr", "Bath", "St Ives")),), ("id", "note")
    )
    assert look_at(table, "size").numbers == ("price",)


@pytest.mark.parametrize(
    ("text", "target", "said"),
    [
        ("a,b\n", None, "has no rows"),
        ("a,a\n1,2\n", None, "names a column twice"),
        ("a,price\n1,2\n", "prise", "did you mean 'price'"),
        ("a,b\n1,x\n", None, "not all numbers"),
        ("id,price\nx,1\ny,2\n", None, "no column that could tell"),
        ("{{a}},price\n1,2\n", None, "no column that could tell"),
        ("\udcff", None, "cannot be read"),
    ],
)
def test_tables_that_make_no_project(tmp_path: Path, text: str, target: str | None, said: str) -> None:
    file = tmp_path / "table.csv"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(click.UsageError, match=said):
        look_at(file, target)


def test_its_code_trains_measures_and_serves(repository: Path, tmp_path: Path) -> None:
    table = houses(tmp_path / "houses.csv")
    assert run(repository, Flags("houses", owners=("@me",), data=table, target="price"), ask=False) == 0
    folder = repository / "include" / "pipelines" / "houses"
    trained = subprocess.run(
        [sys.executable, "train.py", f"--data={table}"], cwd=folder, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    assert "left out 8 rows" in trained.stdout
    package = load_package(folder / "pipeline.py", "train")
    package.check({"data": "x", "learning_rate": 0.1})
    assert package.name == "houses"
    features = _features(folder)
    vectors, prices = features.load(table, ("train", "validation"))
    unseen, truth = features.load(table, ("test",))
    error = features.mean_absolute_error(truth, features.new_model(0.1).fit(vectors, prices).predict(unseen))
    naive = features.mean_absolute_error(truth, features.baseline(prices, unseen))
    assert features.gain(error, naive) > 0.5
    assert features.vector({"size": 50, "town": "Bath"}) == [50.0, 1.0]
    with pytest.raises(ValueError, match="town must be one of Ayr, Bath, St Ives"):
        features.vector({"size": 50, "town": "Rome"})


def _features(folder: Path) -> Any:
    spec = importlib.util.spec_from_file_location("features_of_new", folder / "features.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
