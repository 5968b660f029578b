"""Experiments, pipelines and pipeline versions, with their unique names (reference kfp.md, 4 and 5).

The server is single-user: whatever namespace is asked for, it keeps and shows none.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from sandbox.kfp.clock import EPOCH, now
from sandbox.kfp.errors import ABORTED, APIError, exists, invalid, not_found
from sandbox.kfp.messages import EXPERIMENT, PIPELINE, Message, parsed
from sandbox.kfp.specs import parse_spec
from sandbox.kfp.store import Document, Store

PIPELINE_NAME, VERSION_NAME = 128, 127  # widths of the columns
_WORDS = {"experiments": "Experiment", "pipelines": "Pipeline", "versions": "PipelineVersion"}
DEFAULT_EXPERIMENT = "Default"


class Catalog:
    """What the experiment and pipeline services do."""

    def __init__(self, store: Store) -> None:
        self.store = store
        if not store.all("experiments"):
            self.create_experiment(
                {"display_name": DEFAULT_EXPERIMENT, "description": "All runs created without an experiment"}
            )

    def find(self, kind: str, key: str, doing: str) -> Document:
        """A document; raises APIError 404."""
        found = self.store.get(kind, key)
        if found is None:
            raise not_found(doing, f"{_WORDS[kind]} {key}")
        return found

    # Experiments

    def create_experiment(self, given: Mapping[str, Any]) -> Document:
        """A new experiment; raises APIError 400, or 409 when the name is taken."""
        body = parsed(given, EXPERIMENT, "Experiment")
        doing, name = "Failed to create a experiment", body.get("display_name", "")
        if not name:
            raise invalid(doing, "Experiment must have a non-empty name")
        experiment = {
            "experiment_id": str(uuid.uuid4()), "display_name": name, "description": body.get("description", ""),
            "created_at": now(), "last_run_created_at": EPOCH, "storage_state": "AVAILABLE",
        }  # fmt: skip
        with self.store.lock:
            _refuse_taken(self.store.all("experiments"), "display_name", name, doing, "experiment")
            self.store.put("experiments", experiment["experiment_id"], experiment)
        return experiment

    def default_experiment(self) -> str:
        """The id of the experiment that runs without one belong to."""
        for experiment in self.store.all("experiments"):
            if experiment["display_name"] == DEFAULT_EXPERIMENT:
                return str(experiment["experiment_id"])
        return str(self.create_experiment({"display_name": DEFAULT_EXPERIMENT})["experiment_id"])

    def delete_experiment(self, key: str) -> None:
        """Deletes it, its runs stay; the default one is refused with ABORTED."""
        self.find("experiments", key, f"Failed to delete experiment: Failed to delete experiment {key}")
        if key == self.default_experiment():
            message = f"Failed to delete experiment {key}. The default experiment cannot be deleted"
            raise APIError(409, f"Failed to delete experiment: BadRequestError: {message}", message, ABORTED)
        self.store.delete("experiments", key)

    def set_storage(self, key: str, state: str) -> None:
        """ARCHIVED takes the experiment's runs along; AVAILABLE gives only the experiment back."""
        self.find("experiments", key, "Failed to change the storage state of an experiment")
        self.store.change("experiments", key, lambda document: document.update(storage_state=state))
        if state == "ARCHIVED":
            for run in self.store.all("runs"):
                if run["experiment_id"] == key:
                    self.store.change("runs", run["run_id"], lambda document: document.update(storage_state=state))

    # Pipelines and versions

    def create_pipeline(self, given: Mapping[str, Any]) -> Document:
        """A new pipeline without versions; raises APIError 400, or 409 when the name is taken."""
        body = parsed(given, PIPELINE, "Pipeline")
        name = body.get("name") or body.get("display_name", "")
        doing = "Failed to create a pipeline due to server error"
        if not name:
            raise invalid(doing, "name is required")
        if len(name) > PIPELINE_NAME:
            raise invalid(doing, f"Pipeline.Name length cannot exceed {PIPELINE_NAME}")
        pipeline = {
            "pipeline_id": str(uuid.uuid4()), "name": name, "display_name": body.get("display_name") or name,
            "description": body.get("description", ""), "created_at": now(), "tags": body.get("tags", {}),
        }  # fmt: skip
        with self.store.lock:
            _refuse_taken(self.store.all("pipelines"), "name", name, doing, "pipeline")
            self.store.put("pipelines", pipeline["pipeline_id"], pipeline)
        return pipeline

    def create_version(self, pipeline_id: str, content: bytes, fields: Message) -> Document:
        """A new version from a file; its name is unique within the pipeline. Raises APIError 400, 404 or 409."""
        doing, name = "Failed to create a pipeline version", fields["name"]
        self.find("pipelines", pipeline_id, doing)
        version = {
            "pipeline_id": pipeline_id, "pipeline_version_id": str(uuid.uuid4()), "name": name,
            "display_name": fields["display_name"] or name, "description": fields.get("description", ""),
            "created_at": now(), "pipeline_spec": parse_spec(content), "tags": fields.get("tags", {}),
            "code_source_url": fields.get("code_source_url", ""), "status": "READY",
        }  # fmt: skip
        with self.store.lock:
            _refuse_taken(self.versions_of(pipeline_id), "name", name, doing, "pipeline version")
            self.store.put("versions", version["pipeline_version_id"], version)
        return version

    def pipeline_named(self, name: str) -> Document:
        """Raises APIError 404."""
        for pipeline in self.store.all("pipelines"):
            if pipeline["name"] == name:
                return pipeline
        raise not_found(f"Failed to get a pipeline with name {name}", f"Namespace/Pipeline /{name}")

    def delete_pipeline(self, key: str, cascade: bool) -> None:
        """Raises APIError 404, or 400 while there are versions and ``cascade`` is off."""
        doing = f"Failed to delete pipeline {key}"
        self.find("pipelines", key, doing)
        versions = self.versions_of(key)
        if versions and not cascade:
            raise invalid(doing, f"Failed to delete pipeline with id {key} as it has existing pipeline versions "
                                 f"(e.g. {versions[-1]['pipeline_version_id']}). Set cascade=true to delete all "
                                 "versions")  # fmt: skip
        for version in versions:
            self.store.delete("versions", version["pipeline_version_id"])
        self.store.delete("pipelines", key)

    def version(self, pipeline_id: str, key: str, doing: str = "Failed to get a pipeline version") -> Document:
        """A version of this pipeline; raises APIError 404."""
        found = self.find("versions", key, doing)
        if found["pipeline_id"] != pipeline_id:
            raise not_found(doing, f"PipelineVersion {key}")
        return found

    def update(self, kind: str, key: str, changes: Message) -> Document:
        """Display name, description and tags; a name never changes."""
        known: Message = {name: changes[name] for name in ("display_name", "description", "tags") if name in changes}
        return self.store.change(kind, key, lambda document: document.update(known)) or {}

    def versions_of(self, pipeline_id: str) -> list[Document]:
        """All versions of a pipeline, oldest first."""
        return [version for version in self.store.all("versions") if version["pipeline_id"] == pipeline_id]


def _refuse_taken(known: list[Document], field: str, name: str, doing: str, what: str) -> None:
    # The unique indexes compare as MySQL does, without regard to case.
    if any(each[field].lower() == name.lower() for each in known):
        raise exists(doing, f"Failed to create a new {what}. The name {name} already exists. Please specify a new name")
