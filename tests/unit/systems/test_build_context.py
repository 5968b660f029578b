from __future__ import annotations

import os
from pathlib import Path

import fsspec
import pytest

from mlfleet.errors import ConfigError
from mlfleet.systems.build_context import assemble, content_hash


@pytest.fixture
def project(tmp_path: Path) -> Path:
    source = tmp_path / "project"
    (source / "__pycache__").mkdir(parents=True)
    (source / "__pycache__" / "serve.cpython-311.pyc").write_bytes(b"\0")
    (source / "serve.py").write_text("serve")
    (source / "run.sh").write_text("#!/bin/sh\n")
    (source / "run.sh").chmod(0o700)
    (source / "serve.py").chmod(0o600)
    return source


def test_models_lie_below_their_experiments(project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "deep").mkdir(parents=True)
    (folder / "model.joblib").write_text("1")
    (folder / "deep" / "more.json").write_text("2")
    single = tmp_path / "single.joblib"
    single.write_text("3")
    with fsspec.filesystem("memory").open("/store/m.joblib", "w") as file:
        file.write("4")
    target = tmp_path / "context"
    models = {"a": str(folder), "b": f"file://{single}", "c": "memory://store/m.joblib"}
    assemble(project, models, target)
    files = {path.relative_to(target).as_posix(): path.read_text() for path in target.rglob("*") if path.is_file()}
    assert files == {
        "serve.py": "serve",
        "run.sh": "#!/bin/sh\n",
        "models/a/model.joblib": "1",
        "models/a/deep/more.json": "2",
        "models/b/single.joblib": "3",
        "models/c/m.joblib": "4",
    }
    modes = {name: oct((target / name).stat().st_mode & 0o777) for name in ("serve.py", "run.sh", "models")}
    assert modes == {"serve.py": "0o644", "run.sh": "0o755", "models": "0o755"}


def test_the_source_is_left_as_it_is(project: Path, tmp_path: Path) -> None:
    assemble(project, {}, tmp_path / "context")
    assert (project / "serve.py").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [("/no/such/model", "model of experiment a is not at /no/such/model"), ("nosuch://x/y", "can't be read")],
)
def test_a_model_that_is_not_there(uri: str, sentence: str, project: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=sentence):
        assemble(project, {"a": uri}, tmp_path / "context")


def test_models_stay_in_the_context(project: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leads out of the build context"):
        assemble(project, {}, tmp_path / "context", "../elsewhere")


def test_the_hash_is_about_content(project: Path, tmp_path: Path) -> None:
    def hashed(name: str, **changes: object) -> str:
        assemble(project, {}, tmp_path / name)
        given = {"build_args": {"A": "1"}, "labels": {"l": "1"}, **changes}
        return content_hash(tmp_path / name, project / "serve.py", **given)  # type: ignore[arg-type]

    first = hashed("1")
    os.utime(project / "serve.py", (1, 1))
    assert hashed("2") == first
    assert len({first, hashed("3", build_args={"A": "2"}), hashed("4", labels={})}) == 3
    (project / "run.sh").chmod(0o600)
    changed = hashed("5")
    (project / "serve.py").write_text("other")
    assert len({first, changed, hashed("6")}) == 3
