"""What makes two executions the same for the cache, which is on unless a pipeline switches it off."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from sandbox.kfp.component import Values


def fingerprint(pipeline: str, component: dict[str, Any], executor: dict[str, Any], inputs: Values) -> str:
    """SHA-256 (hex) of pipeline name, interface, code, parameters and input artifacts.

    The pipeline's name is part of it, as in the real driver: another pipeline does not share its results.
    """
    interface = {key: component.get(key) for key in ("inputDefinitions", "outputDefinitions")}
    content = json.dumps([pipeline, interface, executor, inputs.as_json()], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()
