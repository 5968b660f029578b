"""What makes two executions the same for the cache, which is on unless a pipeline switches it off."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from sandbox.kfp.component import Values


def fingerprint(
    pipeline: str, task: dict[str, Any], component: dict[str, Any], container: dict[str, Any], inputs: Values
) -> str:
    """SHA-256 (hex) of what the real driver looks at (backend/src/v2/driver/cache.go).

    Pipeline name, inputs, outputs, image and command; environment variables are no part of it. A cache key that the
    pipeline sets takes the place of all but the names of pipeline and component.
    """
    content: list[Any] = [inputs.as_json(), component.get("outputDefinitions")]
    content += [container.get(name) for name in ("image", "command", "args")]
    if own := task["cachingOptions"].get("cacheKey"):
        content = [task["componentRef"]["name"], own]
    return hashlib.sha256(json.dumps([pipeline, content], sort_keys=True).encode()).hexdigest()
