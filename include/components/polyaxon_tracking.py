"""Outputs and metrics of a Polyaxon run, without the SDK (whose import costs 7 to 15 s).

Ship this file with the training code as an init file; it needs the standard library only. Outside a run it is a no-op.
The source must stay free of double curly braces: Polyaxon would take them for a template, even in an init file.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

RETRY_SECONDS = (0.5, 1, 2, 4, 8)
TIMEOUT = 30.0


def log_outputs(**values: Any) -> bool:
    """Merge `values` (JSON-able) into the outputs of this run; False outside a run.

    The last value of a metric belongs here as well: `sort=-metrics.<name>` looks at outputs. Raises OSError
    (urllib.error.HTTPError for 4xx) when the server does not take them even after retries.
    """
    return _call("PATCH", "", {"outputs": values, "merge": True})


def log_metrics(step: int, **values: float) -> bool:
    """Append one point to the curve of each metric and make its last value an output; False outside a run."""
    instance = _instance()
    if not instance:
        return False
    folder = (
        Path(os.environ.get("POLYAXON_CONTEXT_ROOT", "/plx-context")) / "artifacts" / instance[-1] / "events/metric"
    )
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")  # noqa: UP017 - runs on older Pythons, too
    for name, value in values.items():
        file = folder / f"{name}.plx"
        new = not file.exists()
        with file.open("a") as events:
            # Polyaxon's format: a header, then "\n" before each point.
            events.write(("step|timestamp|metric" if new else "") + f"\n{step}|{now}|{float(value)}")
        if new:  # or the page draws no curve; without a summary the server fails
            artifact = {"name": name, "kind": "metric", "path": f"events/metric/{name}.plx", "summary": {"step": step}}
            _call("POST", "/lineage/artifacts", {"artifacts": [artifact]})
    return log_outputs(**values)


def _instance() -> list[str]:
    """Owner, project, "runs", uuid of the run this process belongs to; empty outside a run."""
    owner, _, rest = os.environ.get("POLYAXON_RUN_INSTANCE", "").partition(".")
    return [owner, *rest.rsplit(".", 2)] if owner else []


def _call(method: str, path: str, body: dict[str, Any]) -> bool:
    instance = _instance()
    if not instance:
        return False
    owner, project, _, uuid = instance
    url = f"{os.environ['POLYAXON_HOST'].rstrip('/')}/api/v1/{owner}/{project}/runs/{uuid}{path}"
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}, method=method
    )
    if os.environ.get("POLYAXON_AUTH_TOKEN"):
        request.add_header("Authorization", f"Token {os.environ['POLYAXON_AUTH_TOKEN']}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for wait in (*RETRY_SECONDS, None):
        try:
            with opener.open(request, timeout=TIMEOUT):
                return True
        except OSError as error:  # HTTPError is one, too; 405 is how a 500 of Polyaxon CE looks
            refused = isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code not in (405, 429)
            if wait is None or refused:
                raise
            time.sleep(wait)
    return False
