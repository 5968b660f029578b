"""The JSON Schema: current, complete, and no stricter than the models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from mlfleet.manifest.document import parse
from mlfleet.manifest.documentation import DOCUMENTATION
from mlfleet.manifest.schema import SCHEMA_FILE, manifest_schema, schema_text
from tests.unit.manifest.samples import FULL, MINIMAL

ROOT = Path(__file__).parents[3]
SCHEMA = manifest_schema()
SECTIONS = {"Project": SCHEMA, **SCHEMA["$defs"]}
MANIFESTS = [*sorted((ROOT / "include" / "projects").glob("*.y*ml")), ROOT / "tests" / "data" / "deck-manifest.yml"]
FIELDS = [(name, key) for name, section in SECTIONS.items() for key in section.get("properties", {})]


def faults(data: Any) -> list[str]:
    return [error.message for error in Draft202012Validator(SCHEMA).iter_errors(data)]


def test_the_committed_one_is_current() -> None:
    committed = (ROOT / SCHEMA_FILE).read_text(encoding="utf-8")
    assert committed == schema_text(), f"write it anew: mlfleet schema > {SCHEMA_FILE}"


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifests_of_the_house_are_valid(path: Path) -> None:
    data = parse(path.read_text(encoding="utf-8"), path.name).data
    assert faults(data) == []
    # Also as an editor reads it, which knows nothing of our quotes.
    assert faults(yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)["owners"]) != []
    assert faults({**yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader),
                   "schedule": data.get("schedule") if data else None}) == []  # fmt: skip


@pytest.mark.parametrize("text", [FULL, MINIMAL])
def test_what_the_models_take_is_valid(text: str) -> None:
    assert faults(parse(text, "x").data) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [("title:", "titel:"), ("kind: Project", "kind: Projekt"), ("catchup: false", "catchup: maybe"),
     ("timeout: 90m", "timeout: 90 minutes"), ("name: prices", "name: Prices!"), ("mlfleet/v1", "mlfleet/v2")],
)  # fmt: skip
def test_an_editor_sees_a_fault(old: str, new: str) -> None:
    assert faults(parse(FULL.replace(old, new, 1), "x").data)


@pytest.mark.parametrize(("section", "key"), FIELDS)
def test_every_key_is_explained_with_an_example(section: str, key: str) -> None:
    field = SECTIONS[section]["properties"][key]
    assert field.get("description"), f"{section}.{key}: say it in manifest/documentation.py"
    assert field.get("examples"), f"{section}.{key} has no example"


@pytest.mark.parametrize(("section", "key"), FIELDS)
def test_every_example_is_valid(section: str, key: str) -> None:
    field = SECTIONS[section]["properties"][key]
    validator = Draft202012Validator({**field, "$defs": SCHEMA["$defs"]})
    for example in field.get("examples", ()):
        assert not [error.message for error in validator.iter_errors(example)], example


def test_nothing_is_explained_that_is_not_there() -> None:
    told = {(section, key) for section, words in DOCUMENTATION.items() for key in words}
    assert told <= set(FIELDS)
