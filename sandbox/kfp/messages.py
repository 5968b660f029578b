"""Reading and writing the API's JSON messages as protojson does (reference kfp.md, 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sandbox.kfp.errors import APIError

Message = dict[str, Any]
Fields = Mapping[str, type | tuple[type, ...]]
_PACKAGE = "kubeflow.pipelines.backend.api.v2beta1"
_NAMES = {str: "string", dict: "object", list: "list", bool: "bool"}

EXPERIMENT = {"experiment_id": str, "display_name": str, "description": str, "created_at": str, "namespace": str,
              "storage_state": str, "last_run_created_at": str}  # fmt: skip
PIPELINE = {"pipeline_id": str, "name": str, "display_name": str, "description": str, "created_at": str,
            "namespace": str, "error": dict, "tags": dict}  # fmt: skip
VERSION = {"pipeline_id": str, "pipeline_version_id": str, "name": str, "display_name": str, "description": str,
           "created_at": str, "package_url": dict, "code_source_url": str, "pipeline_spec": dict, "error": dict,
           "tags": dict}  # fmt: skip
RUN = {"experiment_id": str, "run_id": str, "display_name": str, "storage_state": str, "description": str,
       "pipeline_version_id": str, "pipeline_spec": dict, "pipeline_version_reference": dict, "runtime_config": dict,
       "service_account": str, "created_at": str, "scheduled_at": str, "finished_at": str, "state": str, "error": dict,
       "run_details": dict, "recurring_run_id": str, "state_history": list, "plugins_input": dict,
       "plugins_output": dict}  # fmt: skip
RECURRING: Fields = {"recurring_run_id": str, "display_name": str, "description": str, "pipeline_version_id": str,
             "pipeline_spec": dict, "pipeline_version_reference": dict, "runtime_config": dict, "service_account": str,
             "max_concurrency": (str, int), "trigger": dict, "mode": str, "created_at": str, "updated_at": str,
             "status": str, "error": dict, "no_catchup": bool, "namespace": str, "experiment_id": str,
             "plugins_input": dict}  # fmt: skip
TRIGGER: Fields = {"cron_schedule": dict, "periodic_schedule": dict}
CRON: Fields = {"cron": str, "start_time": str, "end_time": str}
PERIODIC: Fields = {"interval_second": (str, int), "start_time": str, "end_time": str}
REFERENCE = {"pipeline_id": str, "pipeline_version_id": str}
RUNTIME_CONFIG = {"parameters": dict, "pipeline_root": str}


def snake(name: str) -> str:
    """``pipelineRoot`` as ``pipeline_root``: both are taken."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def parsed(given: Mapping[str, Any], fields: Fields, message: str) -> Message:
    """The message's set fields by their proto names.

    Raises APIError 400 for an unknown field (the server discards none) and for a value of the wrong type.
    """
    found: Message = {}
    for key, value in given.items():
        name = snake(key)
        if name not in fields:
            raise APIError(400, f'proto: (line 1:2): unknown field "{key}" in {_PACKAGE}.{message}')
        if value is None:
            continue
        if not isinstance(value, fields[name]):
            kind = fields[name]
            told = "int64" if isinstance(kind, tuple) else _NAMES[kind]
            raise APIError(400, f"proto: (line 1:2): invalid value for {told} field {key}: {value!r}")
        found[name] = value
    return found


def shown(document: Mapping[str, Any]) -> Message:
    """The message without its empty fields (EmitUnpopulated is off)."""
    return {key: value for key, value in document.items() if value not in ("", None, [], {}, 0)}
