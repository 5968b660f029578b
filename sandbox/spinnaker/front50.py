"""Pipelines and applications as front50 keeps them: files that somebody wrote, and what was saved through Gate.

Its rules, from front50's ``PipelineController`` and ``ApplicationService``: the id of a pipeline decides whether it is
new, a name is unique within its application without regard to case, and unknown keys are kept.
"""

from __future__ import annotations

import json
import logging
import uuid
from pathlib import Path
from typing import Any

from sandbox.spinnaker.model import Store, now_ms, ulid

log = logging.getLogger("front50")
TASK_SECONDS = 0.3
_NAME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")


class Invalid(Exception):
    """What front50 refuses, in its words."""


class Pipelines:
    """Pipeline configurations, read anew at every look, as front50's cache is short.

    ``folder`` holds files that the sandbox never changes; ``saved`` what came through Gate, and wins by id.
    """

    def __init__(self, folder: Path, saved: Path) -> None:
        self._folder, self._saved = folder, saved

    def all(self) -> list[dict[str, Any]]:
        """Every pipeline; a file that is no JSON is logged and left out."""
        found: dict[str, dict[str, Any]] = {}
        for file in (*sorted(self._folder.glob("*.json")), *sorted(self._saved.glob("*.json"))):
            try:
                pipeline = json.loads(file.read_text())
                found[pipeline.get("id", file.name)] = pipeline
            except ValueError as error:
                log.error("%s is not JSON: %s", file.name, error)
        return list(found.values())

    def of(self, application: str) -> list[dict[str, Any]]:
        """The pipelines of an application."""
        return [pipeline for pipeline in self.all() if pipeline["application"] == application]

    def find(self, application: str, name_or_id: str) -> dict[str, Any] | None:
        """A pipeline by its name or id."""
        return next((p for p in self.of(application) if name_or_id in (p["name"], p["id"])), None)

    def save(self, given: dict[str, Any], user: str) -> None:
        """Creates or replaces the pipeline with the id of the body, or a new one without an id. Raises Invalid."""
        application, name = given.get("application"), str(given.get("name") or "").strip()
        if not isinstance(application, str) or not application or not name:
            raise Invalid("A pipeline requires name and application fields")
        pipeline = {**given, "id": given.get("id") or str(uuid.uuid4()), "name": name}
        for known in self.of(application):
            if known["name"].lower() == name.lower() and known["id"] != pipeline["id"]:
                raise Invalid(f"A pipeline with name {name} already exists in application {application}")
        pipeline |= {"updateTs": str(now_ms()), "lastModifiedBy": user}
        pipeline.setdefault("stages", [])
        pipeline.setdefault("triggers", [])
        self._saved.mkdir(parents=True, exist_ok=True)
        file = self._saved / f"{uuid.uuid5(uuid.NAMESPACE_URL, pipeline['id'])}.json"
        draft = file.with_suffix(".draft")
        draft.write_text(json.dumps(pipeline))
        draft.replace(file)


class Applications:
    """Applications that were made through Gate, and orca's tasks that made them."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def all(self) -> dict[str, dict[str, Any]]:
        """Attributes by name."""
        return dict(self._store.get("applications", {}))

    def submit(self, body: dict[str, Any], user: str) -> str:
        """Runs the one job of a task, createApplication, and returns the task's id. Nothing of it is refused yet."""
        task_id = ulid()
        try:
            self._save(body, user)
            failed = ""
        except Invalid as error:
            failed = str(error)
        tasks = self._store.get("tasks", {})
        tasks[task_id] = {
            "application": body.get("application"), "name": body.get("description"), "at": now_ms(), "failed": failed
        }  # fmt: skip
        self._store.put("tasks", tasks)
        return task_id

    def _save(self, body: dict[str, Any], user: str) -> None:
        jobs = body.get("job")
        job = jobs[0] if isinstance(jobs, list) and len(jobs) == 1 and isinstance(jobs[0], dict) else {}
        attributes = job.get("application")
        if job.get("type") not in ("createApplication", "updateApplication") or not isinstance(attributes, dict):
            raise Invalid(f"the sandbox knows no job {job.get('type')}")
        name = str(attributes.get("name") or "").lower()
        if not name or not set(name) <= _NAME:
            raise Invalid(f"Application name {name!r} is not valid")
        if not attributes.get("email"):
            raise Invalid("Application email cannot be empty")
        known = self.all()
        created = known.get(name, {}).get("createTs") or str(now_ms())
        known[name] = {**known.get(name, {}), **attributes, "name": name, "user": user, "createTs": created,
                       "updateTs": str(now_ms())}  # fmt: skip
        self._store.put("applications", known)

    def task(self, task_id: str) -> dict[str, Any] | None:
        """A task as orca tells it; it runs for a moment first. None when there is none."""
        task = self._store.get("tasks", {}).get(task_id)
        if task is None:
            return None
        ended = now_ms() - task["at"] >= 1000 * TASK_SECONDS
        status = ("TERMINAL" if task["failed"] else "SUCCEEDED") if ended else "RUNNING"
        exception = {"key": "exception", "value": {"details": {"errors": [task["failed"]]}}}
        return {
            "id": task_id, "application": task["application"], "name": task["name"], "status": status,
            "startTime": task["at"], "endTime": now_ms() if ended else None,
            "variables": [exception] if ended and task["failed"] else [], "steps": [],
        }  # fmt: skip
