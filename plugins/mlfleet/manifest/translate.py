"""pydantic's errors as diagnostics: in the words of somebody who writes YAML, with the nearest valid name."""

from __future__ import annotations

import json
import re
import types
import typing
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mlfleet.manifest.diagnostics import Severity, nearest, suggestion
from mlfleet.manifest.document import Document, Path, dotted

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list (lines that start with `- `)",
    "dict_type": "a mapping (`key: value`)",
    "model_type": "a mapping (`key: value`)",
    "model_attributes_type": "a mapping (`key: value`)",
}
_SCALARS = ("int_type", "float_type", "bool_type")


def report(document: Document, error: ValidationError, model: type[BaseModel]) -> None:
    """Adds one finding per error to the document."""
    explained = {found.path for found in document.diagnostics if found.severity is Severity.ERROR}
    details = [(_path_in(document, detail["loc"]), detail) for detail in error.errors(include_url=False)]
    # A key that is only misspelled is not missing as well.
    misspelled = {
        dotted((*path[:-1], nearest(str(path[-1]), _names_at(model, path[:-1])) or ""))
        for path, detail in details
        if detail["type"] == "extra_forbidden"
    }
    for path, detail in details:
        if path and (dotted(path) in explained or (detail["type"] == "missing" and dotted(path) in misspelled)):
            continue
        kind = detail["type"]
        if kind == "extra_forbidden":
            names = _names_at(model, path[:-1])
            document.report("MF010", path, f"unknown key {path[-1]!r}", suggestion(str(path[-1]), names), key=True)
        elif kind == "missing":
            document.report("MF011", path, f"the key {path[-1]!r} is missing", _how_to_write(model, path), key=True)
        else:
            summary, fix = _explain(detail)
            document.report("MF012", path, summary, fix)


def _explain(detail: ErrorDetails) -> tuple[str, str]:
    kind, context, given = detail["type"], detail.get("ctx", {}), detail["input"]
    if kind == "mlfleet":
        return str(context["summary"]), str(context["fix"])
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, found {_describe(given)}", _fix_of_type(kind, given)
    if kind == "literal_error":
        names = [name.strip().strip("'") for name in str(context["expected"]).replace(" or ", ", ").split(", ")]
        near = nearest(str(given), names)
        return f"{_describe(given)} is not one of: {', '.join(names)}", f"did you mean {near!r}?" if near else ""
    if kind == "too_short":
        return "at least one entry is needed", ""
    message = detail["msg"]
    return message.replace("Input should", "should", 1).replace("String should", "the text should", 1), ""


def _fix_of_type(kind: str, given: Any) -> str:
    if kind == "string_type" and isinstance(given, (int, float)):
        return f'put it in quotes: "{_describe(given).removeprefix("the number ")}"'
    if kind in _SCALARS and isinstance(given, str) and re.fullmatch(r"[-+.\deE]+|true|false", given):
        return f"leave the quotes out: {given}"
    return ""


def _describe(given: Any) -> str:
    if given is None:
        return "nothing"
    if isinstance(given, bool):
        return str(given).lower()
    if isinstance(given, (int, float)):
        return f"the number {given}"
    if isinstance(given, str):
        return repr(given) if len(given) < 60 else "a long text"
    return "a list" if isinstance(given, list) else "a mapping"


def _path_in(document: Document, location: tuple[int | str, ...]) -> Path:
    """The error's location without the parts that pydantic adds for unions and validators."""
    path: Path = ()
    here: Any = document.data
    for index, part in enumerate(location):
        inside = (isinstance(here, dict) and part in here) or (
            isinstance(here, list) and isinstance(part, int) and part < len(here)
        )
        if inside:
            path, here = (*path, part), here[part]
        elif index == len(location) - 1 and isinstance(here, dict) and isinstance(part, str):
            return (*path, part)
    return path


def _names_at(model: type[BaseModel], path: Path) -> list[str]:
    """The keys that the manifest may have at `path`."""
    found = _model_at(model, path)
    return [field.alias or name for name, field in found.model_fields.items()] if found else []


def _how_to_write(model: type[BaseModel], path: Path) -> str:
    """An example of the key, from its documentation."""
    # Only a manifest with an error needs it: the DAG processor loads it for no other.
    from mlfleet.manifest.documentation import DOCUMENTATION

    parent = _model_at(model, path[:-1])
    words = DOCUMENTATION.get(parent.__name__, {}).get(str(path[-1])) if parent else None
    return f"write it like `{path[-1]}: {_as_yaml(words.examples[0])}`" if words and words.examples else ""


def _as_yaml(value: Any) -> str:
    """On one line; text in quotes only where it needs them."""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z][\w ./-]*", value):
        return value
    return json.dumps(value, ensure_ascii=False)


def _model_at(model: type[BaseModel], path: Path) -> type[BaseModel] | None:
    current: type[BaseModel] | None = model
    for part in path:
        if isinstance(part, int):
            continue
        if current is None:
            return None
        fields = {field.alias or name: field for name, field in current.model_fields.items()}
        current = _model_in(fields[part].annotation) if part in fields else None
    return current


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model in ``Model``, ``Model | None``, ``list[Model]`` or ``Annotated[Model, ...]``."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, BaseModel) else None
    for argument in typing.get_args(annotation):
        found = _model_in(argument)
        if found:
            return found
    return None
