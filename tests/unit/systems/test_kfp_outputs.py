from __future__ import annotations

import json
import os
from pathlib import Path

import fsspec
import pytest

from mlfleet.errors import SpecError, TransientError
from mlfleet.systems.kfp_outputs import read_run


def artifact(root: Path, task: str, attempt: str, name: str, text: str, age: float = 0) -> Path:
    path = root / "churn" / "run-1" / task / attempt / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (1_000_000 - age, 1_000_000 - age))
    return path


def test_outputs_and_addresses(tmp_path: Path) -> None:
    artifact(tmp_path, "measure", "u1", "mlfleet_outputs", json.dumps({"mae": 1.5}))
    folder = artifact(tmp_path, "train", "u2", "model/model.joblib", "x").parent
    artifact(tmp_path, "train", "u2", "executor_output.json", "{}")
    found = read_run(str(tmp_path), "churn", "run-1")
    assert found["outputs"] == {"mae": 1.5}
    assert found["model_uri"] == str(folder)
    assert set(found["artifacts"]) == {"measure.mlfleet_outputs", "train.model"}


def test_of_a_task_that_was_retried_the_newest_attempt_counts(tmp_path: Path) -> None:
    artifact(tmp_path, "measure", "a-first", "mlfleet_outputs", '{"mae": 9}', age=100)
    artifact(tmp_path, "measure", "z-second", "mlfleet_outputs", '{"mae": 1}', age=1)
    artifact(tmp_path, "measure", "m-oldest", "mlfleet_outputs", '{"mae": 7}', age=500)
    assert read_run(str(tmp_path), "churn", "run-1")["outputs"] == {"mae": 1}


def test_other_stores_give_addresses() -> None:
    fs = fsspec.filesystem("memory")
    fs.pipe("/bucket/churn/run-1/measure/u/mlfleet_outputs", b'{"mae": 2}')
    found = read_run("memory://bucket", "churn", "run-1")
    assert found["outputs"] == {"mae": 2}
    assert found["artifacts"]["measure.mlfleet_outputs"].startswith("memory://")


def test_nothing_was_written(tmp_path: Path) -> None:
    assert read_run(str(tmp_path), "churn", "run-1") == {"outputs": {}, "artifacts": {}, "model_uri": None}


def test_outputs_that_are_no_json_object_are_an_error_of_the_pipeline(tmp_path: Path) -> None:
    path = artifact(tmp_path, "measure", "u", "mlfleet_outputs", "mae=1")
    with pytest.raises(SpecError, match=r"measure\.mlfleet_outputs is no JSON"):
        read_run(str(tmp_path), "churn", "run-1")
    path.write_text("[1]")
    with pytest.raises(SpecError, match="no JSON object"):
        read_run(str(tmp_path), "churn", "run-1")


def test_an_unknown_store_is_told() -> None:
    with pytest.raises(TransientError, match="nosuch"):
        read_run("nosuch://bucket", "churn", "run-1")
