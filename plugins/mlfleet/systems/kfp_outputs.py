"""What a KFP run produced, read from its pipeline root: the API gives no outputs (kfp.md 4).

The layout is the driver's: ``<root>/<pipeline name>/<run id>/<task>/<random uuid>/<artifact>``, where an artifact is a
file or a folder. A task that was retried has several uuids; the newest one counts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import fsspec

from mlfleet.errors import SpecError, TransientError

OUTPUTS = "mlfleet_outputs"
MODEL = "model"
_NOT_ARTIFACTS = frozenset({"executor_output.json", "executor-logs"})


def read_run(root: str, pipeline: str, run_id: str) -> dict[str, Any]:
    """``{"outputs": {...}, "artifacts": {"<task>.<artifact>": uri}, "model_uri": uri | None}`` of a run.

    Blocking: call it in a thread. Raises TransientError when the store can't be read, SpecError when the outputs are no
    JSON object.
    """
    base = f"{root.rstrip('/')}/{pipeline}/{run_id}"
    try:
        fs, path = fsspec.core.url_to_fs(base)
        artifacts = _list(fs, path)
        outputs = [(name, info) for name, info in artifacts.items() if name.endswith(f".{OUTPUTS}")]
        texts = {name: fs.cat_file(info["name"]) for name, info in outputs}
    except (OSError, ValueError, ImportError) as exc:
        raise TransientError("kfp", f"the pipeline root {base} can't be read: {exc}") from exc
    uris = {name: str(fs.unstrip_protocol(info["name"])) for name, info in sorted(artifacts.items())}
    models = [uri for name, uri in uris.items() if name.endswith(f".{MODEL}")]
    return {
        "outputs": _merged(texts, run_id),
        "artifacts": {name: _plain(uri, root) for name, uri in uris.items()},
        "model_uri": _plain(models[0], root) if models else None,
    }


def _list(fs: Any, path: str) -> dict[str, Mapping[str, Any]]:
    """``{"<task>.<artifact>": entry}``, of several attempts the newest."""
    found: dict[str, tuple[float, Mapping[str, Any]]] = {}
    if not fs.exists(path):
        return {}
    for task in _folders(fs, path):
        for attempt in _folders(fs, task["name"]):
            for entry in fs.ls(attempt["name"], detail=True):
                artifact = _base(entry["name"])
                if artifact in _NOT_ARTIFACTS or artifact.startswith("."):
                    continue
                name, made = f"{_base(task['name'])}.{artifact}", _modified(entry)
                if name not in found or made >= found[name][0]:
                    found[name] = (made, entry)
    return {name: entry for name, (_, entry) in found.items()}


def _folders(fs: Any, path: str) -> list[Mapping[str, Any]]:
    return [entry for entry in fs.ls(path, detail=True) if entry["type"] == "directory"]


def _base(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]


def _modified(entry: Mapping[str, Any]) -> float:
    """When it was written, by whichever name the file system gives that; 0 when it does not say (folders of S3)."""
    for key in ("mtime", "LastModified", "updated", "last_modified", "created"):
        value = entry.get(key)
        if isinstance(value, int | float):
            return float(value)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, str):
            try:
                return datetime.fromisoformat(value).timestamp()
            except ValueError:
                continue
    return 0.0


def _merged(texts: Mapping[str, bytes], run_id: str) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for name, text in texts.items():
        try:
            data = json.loads(text)
        except ValueError as exc:
            raise SpecError("kfp", run_id, "succeeded", f"the artifact {name} is no JSON: {exc}") from exc
        if not isinstance(data, dict):
            raise SpecError("kfp", run_id, "succeeded", f"the artifact {name} is no JSON object")
        merged.update(data)
    return merged


def _plain(uri: str, root: str) -> str:
    """A local path stays a path where the root is one: tools that take no ``file://`` read it too."""
    return uri.removeprefix("file://") if "://" not in root else uri
