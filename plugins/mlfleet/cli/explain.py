"""``mlfleet explain``: what a key of the manifest means, from the same words that editors show."""

from __future__ import annotations

import json
import re
from typing import Any

import click

from mlfleet.cli.exits import OK
from mlfleet.manifest.diagnostics import MEANINGS, nearest, suggestion
from mlfleet.manifest.schema import manifest_schema

_KINDS = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false",
          "array": "list", "object": "mapping", "null": "nothing"}  # fmt: skip


def run(field: str) -> int:
    """Prints the explanation; raises click.UsageError for a key or an id that does not exist."""
    if re.fullmatch(r"(?i)MF\d+", field):
        return _explain_id(field.upper())
    schema = manifest_schema()
    node: dict[str, Any] = schema
    walked: list[str] = []
    required = False
    for part in _parts(field):
        section = _section(schema, node)
        keys = section.get("properties", {})
        if part not in keys:
            where = f"`{'.'.join(walked)}`" if walked else "a manifest"
            raise click.UsageError(f"{where} has no key {part!r}; {suggestion(part, keys) or _without_keys(node)}")
        node, required = keys[part], part in section.get("required", ())
        walked.append(part)
    _print(schema, node, ".".join(walked), required)
    return OK


def all_fields() -> list[str]:
    """Every field as `explain` takes it, for shell completion."""
    schema = manifest_schema()
    found: list[str] = []

    def walk(node: dict[str, Any], path: str) -> None:
        for name, inner in _section(schema, node).get("properties", {}).items():
            found.append(f"{path}{name}")
            walk(inner, f"{path}{name}.")

    walk(schema, "")
    return found


def _explain_id(id: str) -> int:
    if id not in MEANINGS:
        raise click.UsageError(f"there is no finding {id}; nearest: {nearest(id, MEANINGS)}")
    click.echo(f"{id}  {MEANINGS[id]}")
    return OK


def _parts(field: str) -> list[str]:
    """``experiments[0].name``, ``experiments[].name`` and ``experiments.name`` are one field."""
    return [part for part in re.sub(r"\[\d*\]", "", field).split(".") if part]


def _section(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    """The mapping below a field: behind a reference, a list's items, or one of several forms; {} for a plain value."""
    if "$ref" in node:
        return _section(schema, schema["$defs"][node["$ref"].rpartition("/")[2]])
    if "properties" in node:
        return node
    for inner in (*node.get("anyOf", ()), *node.get("oneOf", ()), *([node["items"]] if "items" in node else ())):
        found = _section(schema, inner) if isinstance(inner, dict) else {}
        if found:
            return found
    return {}


def _without_keys(node: dict[str, Any]) -> str:
    forms = [node, *node.get("anyOf", ())]
    free = any(form.get("type") == "object" for form in forms)
    return "it holds free form" if free else "it is a plain value"


def _print(schema: dict[str, Any], node: dict[str, Any], path: str, required: bool) -> None:
    facts = [_kind(schema, node), "required" if required else "optional"]
    if node.get("default") not in (None, [], {}):
        facts.append(f"default {json.dumps(node['default'], ensure_ascii=False)}")
    if path:
        click.echo(f"{click.style(path, bold=True)}  ({', '.join(facts)})")
    click.echo(f"  {node.get('description', '')}")
    for example in node.get("examples", ()):
        click.echo(f"  for example: {example if isinstance(example, str) else json.dumps(example, ensure_ascii=False)}")
    section = _section(schema, node)
    keys = section.get("properties", {})
    if keys:
        click.echo("\nkeys:")
    width = max(map(len, keys), default=0)
    for name, inner in keys.items():
        mark = "*" if name in section.get("required", ()) else " "
        click.echo(f" {mark}{name.ljust(width)}  {inner.get('description', '').partition('. ')[0].rstrip('.')}")
    if section.get("required"):
        click.echo("\n* required")


def _kind(schema: dict[str, Any], node: dict[str, Any]) -> str:
    if "$ref" in node:
        return _kind(schema, schema["$defs"].get(node["$ref"].rpartition("/")[2], {}))
    if "const" in node:
        return str(node["const"])
    if "enum" in node:
        return " | ".join(map(str, node["enum"]))
    forms = [inner for inner in (*node.get("anyOf", ()), *node.get("oneOf", ())) if inner.get("type") != "null"]
    if forms:
        return " or ".join(dict.fromkeys(_kind(schema, inner) for inner in forms))
    if node.get("type") == "array" and isinstance(node.get("items"), dict):
        return f"list of {_kind(schema, node['items'])}"
    return _KINDS.get(str(node.get("type")), "anything")
