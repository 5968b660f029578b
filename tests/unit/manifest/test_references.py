from __future__ import annotations

from typing import Any

import pytest

from mlfleet.errors import ConfigError
from mlfleet.manifest import references

KNOWN: dict[str, Any] = {
    "data.end": "2026-11-02", "polyaxon.best.inputs.depth": 4, "experiment.params.tags": ["a", "b"],
    "env.root": "${process.MLFLEET_TEST_ROOT}/x", "env.flag": True, "experiment.params.tricky": "${data.end}",
}  # fmt: skip


@pytest.mark.parametrize(
    ("value", "resolved"),
    [
        ("plain", "plain"),
        ("${polyaxon.best.inputs.depth}", 4),
        ("${experiment.params.tags}", ["a", "b"]),
        ("depth-${polyaxon.best.inputs.depth}-${data.end}", "depth-4-2026-11-02"),
        ("x ${experiment.params.tags}", 'x ["a", "b"]'),
        ("$${data.end}", "${data.end}"),
        ("a$${b}${data.end}", "a${b}2026-11-02"),
        ({"a": ["${data.end}", 1, None]}, {"a": ["2026-11-02", 1, None]}),
        (5, 5),
        ("${env.flag}", True),
        ("${env.root}/data.csv", "there/x/data.csv"),
    ],
)
def test_resolve(value: Any, resolved: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLEET_TEST_ROOT", "there")
    assert references.resolve(value, KNOWN.__getitem__) == resolved


def test_what_a_reference_gives_is_not_resolved_again() -> None:
    """Only environment values may hold a reference; data that looks like one is data."""
    assert references.resolve("${experiment.params.tricky}", KNOWN.__getitem__) == "${data.end}"


def test_a_missing_value_names_the_reference() -> None:
    with pytest.raises(ConfigError, match=r"\$\{kfp\.outputs\.mae\}"):
        references.resolve("${kfp.outputs.mae}", KNOWN.__getitem__)


def test_a_missing_variable_of_the_process_is_named() -> None:
    with pytest.raises(ConfigError, match="MLFLEET_TEST_ROOT is not set"):
        references.resolve("${env.root}", KNOWN.__getitem__)


@pytest.mark.parametrize("path", [scope.replace("*", "x") for scope in references.SCOPES])
def test_the_closed_list_is_accepted(path: str) -> None:
    references.check(path)


@pytest.mark.parametrize(
    ("path", "fix"),
    [
        ("data.ende", "data.end"),
        ("experiment.param.x", "experiment.params"),
        ("polyaxon.best.input.x", "polyaxon.best.inputs"),
        ("process.HOME", ""),
        ("", ""),
        ("data.end ", ""),
        ("a+b", ""),
        ("env.", ""),
        ("data", "data"),
    ],
)
def test_everything_else_is_refused(path: str, fix: str) -> None:
    with pytest.raises(references.BadReference) as caught:
        references.check(path)
    assert fix in caught.value.fix


def test_an_open_reference_is_refused() -> None:
    with pytest.raises(references.BadReference):
        list(references.paths_in("a ${data.end"))
