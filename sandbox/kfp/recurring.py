"""What the recurring-run service does (reference kfp.md, 4): it keeps them, and starts nothing.

There is no scheduled-workflow controller here: a recurring run is what clients create, list, switch and delete.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import Any

from sandbox.kfp.catalog import Catalog
from sandbox.kfp.clock import now
from sandbox.kfp.errors import APIError, internal, invalid, not_found
from sandbox.kfp.messages import CRON, PERIODIC, RECURRING, RUNTIME_CONFIG, TRIGGER, Message, parsed
from sandbox.kfp.runs import Runs
from sandbox.kfp.specs import check_parameters, pipeline_of
from sandbox.kfp.store import Document, Store

_CREATING = "Failed to create a recurring run"
_MODES = {"ENABLE": "ENABLED", "DISABLE": "DISABLED"}
# Six fields, seconds first, or one of the cron library's descriptors (robfig/cron).
_CRON_FIELD = re.compile(r"[\d*/?,\-A-Za-z#L]+")
_DESCRIPTOR = re.compile(r"@(yearly|annually|monthly|weekly|daily|midnight|hourly|every \S+)")
MOST_AT_ONCE = 10


class RecurringRuns:
    """Creates, lists and switches recurring runs; they can't be changed."""

    def __init__(self, store: Store, catalog: Catalog, runs: Runs) -> None:
        self.store, self._catalog, self._runs = store, catalog, runs

    def create(self, given: Mapping[str, Any]) -> Document:
        """A new recurring run, names need not be unique. Raises APIError 400, 404 or 500."""
        body = parsed(given, RECURRING, "RecurringRun")
        if not body.get("display_name"):
            raise internal(_CREATING, "Job name cannot be empty")
        body["runtime_config"] = parsed(body.get("runtime_config", {}), RUNTIME_CONFIG, "RuntimeConfig")
        experiment = body.get("experiment_id") or self._catalog.default_experiment()
        self._catalog.find("experiments", experiment, _CREATING)
        spec = pipeline_of(self._runs.source(body, _CREATING))
        check_parameters(spec, body["runtime_config"].get("parameters", {}))
        made: Message = {name: body[name] for name in ("display_name", "description", "runtime_config", "no_catchup",
                "pipeline_spec", "pipeline_version_reference", "service_account") if name in body}  # fmt: skip
        made |= {
            "recurring_run_id": str(uuid.uuid4()), "experiment_id": experiment, "created_at": now(),
            "updated_at": now(), "trigger": _trigger(body), "max_concurrency": _most_at_once(body), **_switched(body),
        }  # fmt: skip
        self.store.put("recurring", made["recurring_run_id"], made)
        return made

    def get(self, key: str, doing: str = "Failed to get a recurring run") -> Document:
        """Raises APIError 404."""
        found = self.store.get("recurring", key)
        if found is None:
            raise not_found(doing, f"Job {key}")
        return found

    def switch(self, key: str, mode: str) -> None:
        """ENABLE or DISABLE; the one that it is in already is fine."""
        self.get(key, f"Failed to {mode.lower()} a recurring run")
        changes = {**_switched({"mode": mode}), "updated_at": now()}
        self.store.change("recurring", key, lambda document: document.update(changes))

    def delete(self, key: str) -> None:
        """Raises APIError 404."""
        self.get(key, "Failed to delete a recurring run")
        self.store.delete("recurring", key)


def _switched(body: Mapping[str, Any]) -> Message:
    """``mode`` as it was given and the ``status`` that it makes."""
    mode = body.get("mode", "DISABLE")
    if mode not in _MODES:
        raise APIError(400, f'proto: (line 1:2): invalid value for enum field mode: "{mode}"')
    return {"mode": mode, "status": _MODES[mode]}


def _most_at_once(body: Mapping[str, Any]) -> str:
    number = _int64(body.get("max_concurrency", 0), "max_concurrency")
    if not 1 <= number <= MOST_AT_ONCE:
        message = f"The max concurrency of the job is out of range. Support 1-{MOST_AT_ONCE}. Received: {number}"
        raise invalid(_CREATING, message)
    return str(number)


def _trigger(body: Mapping[str, Any]) -> Message:
    """The trigger, of one of its two kinds; int64 is text on its way out."""
    trigger = parsed(body.get("trigger", {}), TRIGGER, "Trigger")
    if "cron_schedule" in trigger:
        cron = parsed(trigger["cron_schedule"], CRON, "CronSchedule")
        text = cron.get("cron", "")
        fields = text.split()
        good = len(fields) == 6 and all(_CRON_FIELD.fullmatch(field) for field in fields)
        if not good and not _DESCRIPTOR.fullmatch(text):
            raise invalid(_CREATING, f"Schedule cron is not a legal cron format: {text!r}")
        return {"cron_schedule": cron}
    if "periodic_schedule" in trigger:
        periodic = parsed(trigger["periodic_schedule"], PERIODIC, "PeriodicSchedule")
        seconds = _int64(periodic.get("interval_second", 0), "interval_second")
        if seconds < 1:
            raise invalid(_CREATING, f"The interval for the period is out of range. Received: {seconds}")
        return {"periodic_schedule": {**periodic, "interval_second": str(seconds)}}
    return {}


def _int64(value: str | int, field: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise APIError(400, f"proto: (line 1:2): invalid value for int64 field {field}: {value!r}") from None
