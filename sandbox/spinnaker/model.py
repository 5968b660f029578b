"""Executions as Gate's clients see them (reference spinnaker.md, 1.3 and 2), and where they are kept."""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import time
from pathlib import Path
from typing import Any

Execution = dict[str, Any]
Stage = dict[str, Any]

COMPLETE = {"SUCCEEDED", "FAILED_CONTINUE", "TERMINAL", "CANCELED", "STOPPED", "SKIPPED", "REDIRECT"}
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def now_ms() -> int:
    """Epoch milliseconds, the unit of every time in orca."""
    return int(time.time() * 1000)


def ulid() -> str:
    """A sortable id: 48 bits of time, 80 of chance."""
    value = now_ms() << 80 | secrets.randbits(80)
    return "".join(_CROCKFORD[value >> shift & 31] for shift in range(125, -1, -5))


def new_stage(config: dict[str, Any]) -> Stage:
    """A top-level stage that has not begun; what the pipeline configures for it is its context."""
    plumbing = {"refId", "type", "name", "requisiteStageRefIds"}
    return {
        "id": ulid(), "refId": config["refId"], "type": config["type"], "name": config.get("name", config["type"]),
        "status": "NOT_STARTED", "startTime": None, "endTime": None, "startTimeExpiry": None, "scheduledTime": None,
        "requisiteStageRefIds": list(config.get("requisiteStageRefIds", [])), "parentStageId": None,
        "syntheticStageOwner": None, "lastModified": None,
        "context": {key: value for key, value in config.items() if key not in plumbing}, "outputs": {}, "tasks": [],
    }  # fmt: skip


def new_execution(pipeline: dict[str, Any], trigger: dict[str, Any], execution_id: str | None = None) -> Execution:
    """An execution that waits to begin."""
    user = trigger.get("user", "anonymous")
    return {
        "type": "PIPELINE", "id": execution_id or ulid(), "application": pipeline["application"],
        "name": pipeline["name"], "pipelineConfigId": pipeline["id"], "buildTime": now_ms(), "startTime": None,
        "endTime": None, "startTimeExpiry": None, "status": "NOT_STARTED", "canceled": False, "canceledBy": None,
        "cancellationReason": None, "limitConcurrent": pipeline.get("limitConcurrent", True),
        "maxConcurrentExecutions": 0, "keepWaitingPipelines": pipeline.get("keepWaitingPipelines", False),
        "authentication": {"user": user, "allowedAccounts": []}, "paused": None, "origin": "api", "description": None,
        "notifications": [], "initialConfig": {}, "systemNotifications": [], "spelEvaluator": "v4",
        "templateVariables": None, "partition": None, "source": None, "trigger": trigger,
        "stages": [new_stage(stage) for stage in pipeline["stages"]],
    }  # fmt: skip


def final_status(execution: Execution) -> str:
    """The rule of orca's CompleteExecutionHandler over the top-level stages."""
    stages = [stage for stage in execution["stages"] if stage["parentStageId"] is None]
    statuses = {stage["status"] for stage in stages}
    if statuses <= {"SUCCEEDED", "SKIPPED", "FAILED_CONTINUE"}:
        return "SUCCEEDED"
    if "TERMINAL" in statuses:
        return "TERMINAL"
    if "CANCELED" in statuses:
        return "CANCELED"
    stopped = [stage for stage in stages if stage["status"] == "STOPPED"]
    return "TERMINAL" if any(s["context"].get("completeOtherBranchesThenFail") for s in stopped) else "SUCCEEDED"


def without_details(execution: Execution) -> Execution:
    """What ``expand=false`` leaves: stages without context, outputs and tasks."""
    light = [{**stage, "context": {}, "outputs": {}, "tasks": []} for stage in execution["stages"]]
    return {**execution, "stages": light}


def pending_judgments(execution: Execution) -> list[str]:
    """Names of the judgments that wait for a person."""
    if execution["status"] in COMPLETE:
        return []
    return [s["name"] for s in execution["stages"] if s["type"] == "manualJudgment" and s["status"] == "RUNNING"]


class Store:
    """Executions by id, and small values by name, in one SQLite file. For one thread only."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(file, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")  # after a crash of the machine the sandbox may forget a moment
        self._db.execute("CREATE TABLE IF NOT EXISTS executions (id TEXT PRIMARY KEY, body TEXT NOT NULL)")
        self._db.execute("CREATE TABLE IF NOT EXISTS vals (name TEXT PRIMARY KEY, body TEXT NOT NULL)")
        rows = self._db.execute("SELECT id, body FROM executions ORDER BY id")
        self.executions: dict[str, Execution] = {key: json.loads(body) for key, body in rows}
        os.chmod(file, 0o600)

    def newest_first(self) -> list[Execution]:
        """All executions, the latest built first."""
        return sorted(self.executions.values(), key=lambda each: (each["buildTime"], each["id"]), reverse=True)

    def save(self, execution: Execution) -> None:
        """Keeps the execution as it is now."""
        self.executions[execution["id"]] = execution
        with self._db:
            self._db.execute("REPLACE INTO executions VALUES (?, ?)", (execution["id"], json.dumps(execution)))

    def delete(self, execution_id: str) -> None:
        """Forgets an execution."""
        self.executions.pop(execution_id, None)
        with self._db:
            self._db.execute("DELETE FROM executions WHERE id = ?", (execution_id,))

    def get(self, name: str, default: Any) -> Any:
        """A small value, or the default."""
        row = self._db.execute("SELECT body FROM vals WHERE name = ?", (name,)).fetchone()
        return json.loads(row[0]) if row else default

    def put(self, name: str, value: Any) -> None:
        """Keeps a small JSON value."""
        with self._db:
            self._db.execute("REPLACE INTO vals VALUES (?, ?)", (name, json.dumps(value)))

    def close(self) -> None:
        """Closes the file."""
        self._db.close()
