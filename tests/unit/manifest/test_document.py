from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlfleet.manifest.document import parse


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("1", 1), ("-3", -3), ("1.5", 1.5), ("1e-3", 0.001), (".5", 0.5), ("true", True), ("False", False),
        ("null", None), ("~", None), ("", None), ("2026-11-01", "2026-11-01"), ("1:30", "1:30"), ("a b", "a b"),
        ('"5"', "5"), ("'no'", "no"), ("“Default”", "Default"), ("‘x’", "x"), ('"“kept”"', "“kept”"),
        ("[1, [a]]", [1, ["a"]]), ("{b: {c: d}}", {"b": {"c": "d"}}), ("|\n  two\n  lines\n", "two\nlines\n"),
    ],
)  # fmt: skip
def test_scalars_are_read_by_yaml_1_2(written: str, read: object) -> None:
    document = parse(f"a: {written}\n", "m.yaml")
    assert document.data == {"a": read}
    assert [type(document.data["a"])] == [type(read)]
    assert not [found for found in document.diagnostics if found.severity == "error"]


@pytest.mark.parametrize(
    ("text", "id", "line", "column"),
    [
        ("a: yes", "MF005", 1, 4),
        ("a: {on: Off}", "MF005", 1, 9),
        ("a: 010", "MF005", 1, 4),
        ("a: 1_000", "MF005", 1, 4),
        ("a: .nan", "MF005", 1, 4),
        ("a: 1e999", "MF005", 1, 4),
        ("a: 123456789012345678901234567890", "MF005", 1, 4),
        ("a: 1\nb: 2\na: 3", "MF004", 3, 1),
        ("a: 1\n---\nb: 2", "MF003", 2, 1),
        ("", "MF003", 1, 1),
        ("- a", "MF003", 1, 1),
        ("a: b: c", "MF002", 1, 5),
        ("a: 1\n\tb: 2", "MF002", 2, 1),
        ("a: @team", "MF002", 1, 4),
        ("a: \x01", "MF002", 1, 4),
        ("a: *nobody", "MF006", 1, 4),
        ("a: &x [*x]", "MF006", 1, 4),
        ("a: !!python/object:os.system x", "MF006", 1, 4),
        ("a: !!str 5", "MF006", 1, 4),
        ("a: {<<: {b: 1}}", "MF006", 1, 5),
        ("? [a]\n: b", "MF012", 1, 3),
        ("“a: b", "MF007", 1, 1),
    ],
)
def test_findings_stand_where_the_fault_is(text: str, id: str, line: int, column: int) -> None:
    (found,) = parse(text, "m.yaml").diagnostics
    assert (found.id, found.line, found.column) == (id, line, column)


def test_aliases_are_values_until_they_explode() -> None:
    assert parse("a: &x {b: 1}\nc: *x\n", "m.yaml").data == {"a": {"b": 1}, "c": {"b": 1}}
    laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    laughs += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9))
    (found,) = parse(laughs, "m.yaml").diagnostics
    assert found.id == "MF006"


@pytest.mark.parametrize(
    "text", ["[" * 3000, "[\n" * 100_000, "a: " + "[" * 60 + "]" * 60, "- " * 9000, "{a: " * 30_000]
)
def test_deep_nesting_is_refused_and_crashes_nothing(text: str) -> None:
    (found,) = parse(text, "m.yaml").diagnostics
    assert found.id in ("MF002", "MF003", "MF006")


def test_a_diagnostic_prints_place_line_caret_and_fix() -> None:
    (found,) = parse('name: x\nowners: "a"\nflag: yes\n', "x.yaml").diagnostics
    assert str(found).splitlines() == [
        "x.yaml:3:7: error MF005: 'yes' is a boolean for some YAML readers and text for others (at flag)",
        "  3 | flag: yes",
        "    |       ^^^",
        '  fix: write true or false, or quote it: "yes"',
    ]


@given(st.text(max_size=60))
def test_any_text_is_read_or_explained(text: str) -> None:
    document = parse(text, "m.yaml")
    assert document.data is not None or document.diagnostics
    json.dumps(document.data)
    assert all(str(found) for found in document.diagnostics)
