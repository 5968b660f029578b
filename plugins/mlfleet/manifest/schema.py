"""The JSON Schema of manifests, from the models and their documentation; `include/schema` holds a copy for editors."""

from __future__ import annotations

import json
from typing import Any

from mlfleet.manifest.documentation import DOCUMENTATION
from mlfleet.manifest.models import Project

# Where a deployment repository keeps it, for the first line of its manifests.
SCHEMA_FILE = "include/schema/mlfleet-v1.json"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def manifest_schema() -> dict[str, Any]:
    """The schema as plain data. It is wider than the models where rules look at several fields, files or names."""
    schema = Project.model_json_schema(by_alias=True, mode="validation")
    for name, section in (("Project", schema), *schema.get("$defs", {}).items()):
        _document(name, section)
    schema["patternProperties"] = {"^x-": {"description": "Free form; a good place for anchors."}}
    schema["title"] = "mlfleet manifest"
    return {"$schema": _DIALECT, "$id": "urn:mlfleet:manifest:v1", **schema}


def schema_text() -> str:
    """As it is committed and printed."""
    return json.dumps(manifest_schema(), indent=2, ensure_ascii=False) + "\n"


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
