"""Routes of experiments, pipelines and their versions."""

from __future__ import annotations

import io
import tarfile
import uuid
import zipfile
from typing import Any

import yaml
from fastapi import APIRouter, Body, UploadFile

from sandbox.kfp.engine import now
from sandbox.kfp.errors import APIError
from sandbox.kfp.listing import page, predicate
from sandbox.kfp.runs import refuse_unknown, snake
from sandbox.kfp.store import Document, Store

_PLURAL = {"experiments": "experiments", "pipelines": "pipelines", "versions": "pipeline_versions"}
_ID = {"experiments": "experiment_id", "pipelines": "pipeline_id", "versions": "pipeline_version_id"}
NAME_LIMIT = 127
_EXPERIMENT_FIELDS = {
    "display_name", "description", "namespace", "experiment_id", "created_at", "storage_state", "last_run_created_at",
}  # fmt: skip


class Catalog:
    """Experiments, pipelines and versions with their unique names."""

    def __init__(self, store: Store) -> None:
        self.store = store
        if not store.all("experiments"):
            self.create_experiment({"display_name": "Default", "description": "Runs without an experiment"})

    def find(self, kind: str, key: str) -> Document:
        """A document; raises APIError 404."""
        found = self.store.get(kind, key)
        if found is None:
            raise APIError(404, f"Failed to get {kind[:-1]}: ResourceNotFoundError: {kind[:-1]} {key} not found.")
        return found

    def listed(self, kind: str, documents: list[Document], query: dict[str, Any]) -> dict[str, Any]:
        """One page as the API answers it; an empty list is an empty object."""
        wanted = predicate(kind, query.get("filter"))
        found = [document for document in documents if wanted(document)]
        rows, token = page(found, query.get("sort_by"), query.get("page_size"), query.get("page_token"), kind)
        if not rows:
            return {}
        answer: dict[str, Any] = {_PLURAL[kind]: rows, "total_size": len(found)}
        return {**answer, "next_page_token": token} if token else answer

    def create_experiment(self, given: dict[str, Any]) -> Document:
        """A new experiment; its name is unique in its namespace."""
        body = snake(given)
        refuse_unknown(body, _EXPERIMENT_FIELDS, "Experiment")
        name, namespace = body.get("display_name", ""), body.get("namespace", "")
        if not name:
            raise APIError(400, "Failed to create experiment: InvalidInputError: experiment has empty name")
        for known in self.store.all("experiments"):
            if (known["display_name"], known.get("namespace", "")) == (name, namespace):
                raise APIError(409, f"Failed to create experiment: AlreadyExistError: Experiment {name} already exists")
        experiment = {
            "experiment_id": str(uuid.uuid4()),
            "display_name": name,
            "description": body.get("description", ""),
            "created_at": now(),
            "last_run_created_at": "1970-01-01T00:00:00Z",
            "namespace": namespace,
            "storage_state": "AVAILABLE",
        }
        self.store.put("experiments", experiment["experiment_id"], experiment)
        return experiment

    def create_pipeline(
        self, name: str, display_name: str = "", description: str = "", namespace: str = ""
    ) -> Document:
        """A new pipeline; its name is unique in its namespace."""
        if not name or len(name) > NAME_LIMIT + 1:
            raise APIError(400, "Failed to create pipeline: InvalidInputError: the name must have 1 to 128 letters")
        if any((p["name"], p["namespace"]) == (name, namespace) for p in self.store.all("pipelines")):
            raise APIError(
                409, f"Failed to create pipeline: AlreadyExistError: pipeline with name {name} already exists"
            )
        pipeline = {
            "pipeline_id": str(uuid.uuid4()),
            "name": name,
            "display_name": display_name or name,
            "description": description,
            "created_at": now(),
            "namespace": namespace,
        }
        self.store.put("pipelines", pipeline["pipeline_id"], pipeline)
        return pipeline

    def create_version(
        self, pipeline_id: str, name: str, content: bytes, display_name: str = "", description: str = ""
    ) -> Document:
        """A new version; its name is unique within the pipeline."""
        self.find("pipelines", pipeline_id)
        if not name or len(name) > NAME_LIMIT:
            raise APIError(400, "Failed to create version: InvalidInputError: the name must have 1 to 127 characters")
        spec = parse_spec(content)
        for version in self.versions_of(pipeline_id):
            if version["name"] == name:
                raise APIError(409, f"Failed to create version: AlreadyExistError: version {name} already exists")
        version = {
            "pipeline_id": pipeline_id,
            "pipeline_version_id": str(uuid.uuid4()),
            "name": name,
            "display_name": display_name or name,
            "description": description,
            "created_at": now(),
            "pipeline_spec": spec,
        }
        self.store.put("versions", version["pipeline_version_id"], version)
        return version

    def versions_of(self, pipeline_id: str) -> list[Document]:
        """All versions of a pipeline, oldest first."""
        return [version for version in self.store.all("versions") if version["pipeline_id"] == pipeline_id]


def parse_spec(content: bytes) -> dict[str, Any]:
    """The compiled pipeline in an uploaded file: YAML or JSON, plain, zipped or in a tar; raises APIError 400."""
    try:
        documents = [each for each in yaml.safe_load_all(_unpacked(content)) if each]
    except (yaml.YAMLError, UnicodeDecodeError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise APIError(400, f"Failed to validate pipeline: InvalidInputError: {error}") from error
    spec = documents[0] if documents else None
    if not isinstance(spec, dict) or "root" not in spec or "pipelineInfo" not in spec:
        raise APIError(400, "Failed to validate pipeline: InvalidInputError: unknown template format")
    if len(documents) > 1:
        return {"pipeline_spec": spec, "platform_spec": documents[1]}
    return spec


def _unpacked(content: bytes) -> str:
    if content[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return archive.read(archive.namelist()[0]).decode()
    if content[:2] == b"\x1f\x8b":
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            member = tar.extractfile(tar.getmembers()[0])
            return member.read().decode() if member else ""
    return content.decode()


def router(catalog: Catalog) -> APIRouter:
    """The routes, below ``/apis/v2beta1``."""
    api = APIRouter(prefix="/apis/v2beta1")
    _experiments(api, catalog)
    _pipelines(api, catalog)
    _versions(api, catalog)
    _uploads(api, catalog)
    return api


def _experiments(api: APIRouter, catalog: Catalog) -> None:
    @api.post("/experiments")
    def create(body: dict[str, Any] = Body()) -> Document:  # noqa: B008
        return catalog.create_experiment(body)

    @api.get("/experiments")
    def listed(
        namespace: str = "", page_token: str = "", page_size: int | None = None, sort_by: str = "",
        filter: str | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        query = {"page_token": page_token, "page_size": page_size, "sort_by": sort_by, "filter": filter}
        return catalog.listed("experiments", catalog.store.all("experiments"), query)

    @api.get("/experiments/{experiment_id}")
    def one(experiment_id: str) -> Document:
        return catalog.find("experiments", experiment_id)

    @api.delete("/experiments/{experiment_id}")
    def delete(experiment_id: str) -> dict[str, Any]:
        catalog.find("experiments", experiment_id)
        catalog.store.delete("experiments", experiment_id)
        return {}

    @api.post("/experiments/{experiment_id}:{verb}")
    def act(experiment_id: str, verb: str) -> dict[str, Any]:
        catalog.find("experiments", experiment_id)
        state = {"archive": "ARCHIVED", "unarchive": "AVAILABLE"}.get(verb)
        if state is None:
            raise APIError(404, "Not Found")
        catalog.store.change("experiments", experiment_id, lambda document: document.update(storage_state=state))
        return {}


def _pipelines(api: APIRouter, catalog: Catalog) -> None:
    @api.post("/pipelines")
    def create(body: dict[str, Any] = Body()) -> Document:  # noqa: B008
        given = snake(body)
        refuse_unknown(
            given, {"name", "display_name", "description", "namespace", "pipeline_id", "created_at", "tags"}, "Pipeline"
        )
        name = given.get("name") or given.get("display_name", "")
        return catalog.create_pipeline(
            name, given.get("display_name", ""), given.get("description", ""), given.get("namespace", "")
        )

    @api.get("/pipelines")
    def listed(
        namespace: str = "", page_token: str = "", page_size: int | None = None, sort_by: str = "",
        filter: str | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        query = {"page_token": page_token, "page_size": page_size, "sort_by": sort_by, "filter": filter}
        return catalog.listed("pipelines", catalog.store.all("pipelines"), query)

    @api.get("/pipelines/names/{name}")
    def by_name(name: str, namespace: str = "") -> Document:
        for pipeline in catalog.store.all("pipelines"):
            if (pipeline["name"], pipeline["namespace"]) == (name, namespace):
                return pipeline
        raise APIError(404, f"Failed to get pipeline by name: ResourceNotFoundError: Pipeline {name} not found.")

    @api.get("/pipelines/{pipeline_id}")
    def one(pipeline_id: str) -> Document:
        return catalog.find("pipelines", pipeline_id)

    @api.delete("/pipelines/{pipeline_id}")
    def delete(pipeline_id: str, cascade: bool = False) -> dict[str, Any]:
        catalog.find("pipelines", pipeline_id)
        versions = catalog.versions_of(pipeline_id)
        if versions and not cascade:
            raise APIError(400, f"Failed to delete pipeline: InvalidInputError: pipeline {pipeline_id} has versions")
        for version in versions:
            catalog.store.delete("versions", version["pipeline_version_id"])
        catalog.store.delete("pipelines", pipeline_id)
        return {}


def _versions(api: APIRouter, catalog: Catalog) -> None:
    @api.get("/pipelines/{pipeline_id}/versions")
    def versions(
        pipeline_id: str,
        page_token: str = "",
        page_size: int | None = None,
        sort_by: str = "",
        filter: str | None = None,
    ) -> dict[str, Any]:
        query = {"page_token": page_token, "page_size": page_size, "sort_by": sort_by, "filter": filter}
        return catalog.listed("versions", catalog.versions_of(pipeline_id), query)

    @api.get("/pipelines/{pipeline_id}/versions/{version_id}")
    def version(pipeline_id: str, version_id: str) -> Document:
        found = catalog.find("versions", version_id)
        if found["pipeline_id"] != pipeline_id:
            raise APIError(404, f"Failed to get version: ResourceNotFoundError: version {version_id} not found.")
        return found

    @api.delete("/pipelines/{pipeline_id}/versions/{version_id}")
    def delete_version(pipeline_id: str, version_id: str) -> dict[str, Any]:
        version(pipeline_id, version_id)
        catalog.store.delete("versions", version_id)
        return {}

    @api.patch("/pipelines/{pipeline_id}/versions/{version_id}")
    def rename_version(pipeline_id: str, version_id: str, body: dict[str, Any] = Body()) -> Document:  # noqa: B008
        version(pipeline_id, version_id)
        changes = {key: value for key, value in snake(body).items() if key in ("display_name", "description")}
        return catalog.store.change("versions", version_id, lambda document: document.update(changes)) or {}


def _uploads(api: APIRouter, catalog: Catalog) -> None:
    @api.post("/pipelines/upload")
    def upload(
        uploadfile: UploadFile, name: str = "", display_name: str = "", description: str = "", namespace: str = ""
    ) -> Document:
        content = uploadfile.file.read()
        parse_spec(content)
        pipeline = catalog.create_pipeline(name or (uploadfile.filename or ""), display_name, description, namespace)
        # The first version is named like its pipeline, and nobody can choose (reference kfp.md, 5).
        catalog.create_version(pipeline["pipeline_id"], pipeline["name"][:NAME_LIMIT], content, description=description)
        return pipeline

    @api.post("/pipelines/upload_version")
    def upload_version(
        uploadfile: UploadFile, pipelineid: str, name: str = "", display_name: str = "", description: str = ""
    ) -> Document:
        return catalog.create_version(pipelineid, name or (uploadfile.filename or ""), uploadfile.file.read(),
                                      display_name, description)  # fmt: skip
