"""The JSON Schema of manifests, from the models and their documentation; `include/schema` holds a copy for editors."""

from __future__ import annotations

import json
from typing import Any

from mlfleet.manifest.documentation import DOCUMENTATION
from mlfleet.manifest.layers import NOT_IN_TARGETS
from mlfleet.manifest.models import Manifest

# Where a deployment repository keeps it, for the first line of its manifests.
SCHEMA_FILE = "include/schema/mlfleet-v1.json"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def manifest_schema() -> dict[str, Any]:
    """The schema as plain data. It is wider than the models where rules look at several fields, files or names."""
    schema = Manifest.model_json_schema(by_alias=True, mode="validation")
    for name, section in (("Project", schema), *schema.get("$defs", {}).items()):
        _document(name, section)
    schema["patternProperties"] = {"^x-": {"description": "Free form; a good place for anchors."}}
    schema["title"] = "mlfleet manifest"
    schema["properties"]["targets"]["additionalProperties"] = {"$ref": "#/$defs/Target"}
    schema["$defs"]["Target"] = _target(schema)
    return {"$schema": _DIALECT, "$id": "urn:mlfleet:manifest:v1", **schema}


def schema_text() -> str:
    """As it is committed and printed."""
    return json.dumps(manifest_schema(), indent=2, ensure_ascii=False) + "\n"


def _target(schema: dict[str, Any]) -> dict[str, Any]:
    """A manifest in which nothing is required: what a target says of an environment.

    Adds the parts that differ from those of a whole manifest to the definitions.
    """
    definitions = schema["$defs"]

    def partial(node: Any) -> Any:
        if isinstance(node, list):
            return [partial(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return {**node, "$ref": f"#/$defs/{partial_name(node['$ref'].rpartition('/')[2])}"}
        # Entries of lists are found by their name or replaced, and so are whole ones.
        return {key: item if key == "items" else partial(item) for key, item in node.items() if key != "required"}

    def partial_name(name: str) -> str:
        made = partial(definitions[name])
        if made == definitions[name]:
            return name
        definitions[f"{name}InTarget"] = made
        return f"{name}InTarget"

    keys = {key: value for key, value in schema["properties"].items() if key not in NOT_IN_TARGETS}
    return {
        "type": "object", "description": "What is different in one environment.", "additionalProperties": False,
        "properties": {key: partial(value) for key, value in keys.items()},
        "patternProperties": schema["patternProperties"],
    }  # fmt: skip


def _document(model: str, section: dict[str, Any]) -> None:
    """Puts the documentation in, and leaves out the titles that pydantic makes of field names."""
    words = DOCUMENTATION.get(model, {})
    section["description"] = section.get("description", "").replace("``", "`")
    for key, field in section.get("properties", {}).items():
        field.pop("title", None)
        if field.get("default", ...) is None:
            del field["default"]
        found = words.get(key)
        if found:
            field.setdefault("description", found.text)
            if found.examples:
                field.setdefault("examples", list(found.examples))
