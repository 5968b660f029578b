from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest
import yaml

from mlfleet.errors import SpecError
from mlfleet.systems.polyaxon_operation import as_content, build_operation, warnings

COMPONENT = """
version: 1.1
kind: component
inputs:
- {name: segment, type: str}
- {name: depth, type: int, value: 4}
- {name: note, type: str, isOptional: true}
run:
  kind: job
  init: [{file: {filename: first.txt, content: one}}]
  container: {command: [python, train.py], args: ["{{ segment }}"]}
"""


def build(text: str = COMPONENT, **more: Any) -> dict[str, Any]:
    return build_operation(text, source="polyaxonfile.yaml", **more)


def test_a_component_becomes_an_operation_with_values() -> None:
    operation = build(params={"segment": "Premium", "depth": {"ref": "runs.x", "value": "outputs.d"}})
    assert operation["kind"] == "operation"
    assert operation["params"] == {
        "segment": {"value": "Premium"},
        "depth": {"ref": "runs.x", "value": "outputs.d"},
    }
    assert json.loads(as_content(operation)) == operation


def test_an_operation_keeps_what_it_has_and_ours_win() -> None:
    text = yaml.safe_dump(
        {
            "version": 1.1,
            "kind": "operation",
            "queue": "agent/gpu",
            "presets": ["gpu"],
            "params": {"segment": {"value": "all"}, "depth": {"value": 2}},
            "component": yaml.safe_load(COMPONENT),
        }
    )
    operation = build(text, params={"segment": "Fair"})
    assert operation["params"] == {"segment": {"value": "Fair"}, "depth": {"value": 2}}
    assert (operation["queue"], operation["presets"]) == ("agent/gpu", ["gpu"])


def test_the_servers_cache_is_off_unless_the_file_decides() -> None:
    assert build(params={"segment": "x"})["cache"] == {"disable": True}
    decided = build(COMPONENT + "cache: {ttl: 60}\n", params={"segment": "x"})
    assert "cache" not in decided
    assert decided["component"]["cache"] == {"ttl": 60}


def test_a_matrix_takes_plain_lists_and_replaces_values() -> None:
    matrix = {"kind": "grid", "concurrency": 2, "params": {"depth": [2, 4], "segment": {"kind": "choice", "value": []}}}
    operation = build(params={"depth": 3}, matrix=matrix)
    assert operation["matrix"]["params"]["depth"] == {"kind": "choice", "value": [2, 4]}
    assert operation["params"] == {}
    assert matrix["params"]["depth"] == [2, 4]  # the caller's own stays as it was


def test_files_are_added_behind_those_of_the_file() -> None:
    files = build(params={"segment": "x"}, files={"train.py": "print(1)\n"})["component"]["run"]["init"]
    assert [entry["file"]["filename"] for entry in files] == ["first.txt", "train.py"]
    assert files[1]["file"]["content"] == "print(1)\n"


@pytest.mark.parametrize("code", ['x = f"{{{1}}}"\n', 'print("{% raw %}")\n', '"""Only a docstring."""\n', "12\n"])
def test_code_that_the_template_engine_would_change_arrives_unchanged(code: str) -> None:
    """The server renders texts until nothing changes: nothing that looks like a template can be escaped."""
    sent = build(params={"segment": "x"}, files={"a.py": code})["component"]["run"]["init"][1]["file"]["content"]
    assert "{{" not in sent
    assert "{%" not in sent
    encoded = re.search(r'b64decode\("([^"]+)"\)', sent)
    assert encoded is not None
    assert base64.b64decode(encoded[1]).decode() == code
    compile(sent, "a.py", "exec")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"text": "a: [1"}, r"polyaxonfile\.yaml:\d+:\d+ was refused .*no valid YAML"),
        ({"text": "[]"}, "is a mapping"),
        ({"text": "kind: dag"}, "`kind` is 'dag'"),
        ({"params": {"segment": "x", "dept": 3}}, "no input dept; its inputs: segment, depth, note"),
        ({}, "input segment has neither a value nor a parameter"),
        ({"params": {"segment": "x"}, "matrix": {"kind": "gird"}}, "kind 'gird'"),
        ({"params": {"segment": "x"}, "files": {"conf.yaml": "a: 1\nb: '{{ x }}'"}}, r"conf\.yaml:2 has \{\{"),
        ({"params": {"segment": "x"}, "files": {"conf.json": '{"a": 1}'}}, r"turn conf\.json into a value"),
        ({"params": {"segment": "x"}, "files": {"big.txt": "x" * 600_000}}, "600000 bytes"),
        ({"text": "kind: operation\nhubRef: x", "files": {"a.txt": "b"}}, "files need a component"),
    ],
)
def test_what_can_be_seen_to_be_wrong_is_refused_before_it_is_sent(more: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        build(**more)
    assert not caught.value.retryable


def test_searches_that_the_community_edition_cannot_run_are_named() -> None:
    assert warnings({"matrix": {"kind": "bayes"}})
    assert not warnings({"matrix": {"kind": "grid"}})
    assert not warnings({})
