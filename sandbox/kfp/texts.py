"""Parameters as the text that components write into files (backend/src/v2/metadata/converter.go)."""

from __future__ import annotations

import json
from typing import Any

# What Go's strconv.ParseBool takes; Python writes "True".
_BOOLEANS = {**dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
             **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False)}  # fmt: skip


def value_of(text: str, kind: str) -> Any:
    """The value of a parameter of this type; raises ValueError for text that is none."""
    match kind:
        case "STRING":
            return text
        case "NUMBER_INTEGER":
            return int(text)
        case "NUMBER_DOUBLE":
            return float(text)
        case "BOOLEAN" if text.strip() in _BOOLEANS:
            return _BOOLEANS[text.strip()]
        case "LIST" | "STRUCT":
            value = json.loads(text)
            if isinstance(value, list if kind == "LIST" else dict):
                return value
    raise ValueError(f"{text[:80]!r} is no {kind}")
