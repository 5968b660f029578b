"""Routes of experiments, pipelines and their versions, below ``/apis/v2beta1``."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, UploadFile

from sandbox.kfp.catalog import PIPELINE_NAME, VERSION_NAME, Catalog
from sandbox.kfp.errors import APIError
from sandbox.kfp.listing import Query, paged
from sandbox.kfp.messages import PIPELINE, VERSION, Message, parsed, shown
from sandbox.kfp.specs import parse_spec

Given = Annotated[dict[str, Any], Body()]
Listed = Annotated[Query, Depends()]
_HIDDEN = {"status"}  # columns that no message has


class ExperimentRoutes:
    """The experiment service over HTTP."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self.router = api = APIRouter()
        api.add_api_route("/experiments", self.create, methods=["POST"])
        api.add_api_route("/experiments", self.listed, methods=["GET"])
        api.add_api_route("/experiments/{key}", self.one, methods=["GET"])
        api.add_api_route("/experiments/{key}", self.delete, methods=["DELETE"])
        api.add_api_route("/experiments/{key}:{verb}", self.act, methods=["POST"])

    def create(self, body: Given) -> Message:
        """The new experiment."""
        return shown(self._catalog.create_experiment(body))

    def listed(self, query: Listed) -> Message:
        """A page of experiments."""
        experiments = self._catalog.store.all("experiments")
        page = paged("experiments", experiments, query, "Failed to create list options")
        return shown({**vars(page), "experiments": [shown(row) for row in page.rows], "rows": None})

    def one(self, key: str) -> Message:
        """An experiment."""
        return shown(self._catalog.find("experiments", key, "Failed to fetch experiment"))

    def delete(self, key: str) -> Message:
        """Nothing."""
        self._catalog.delete_experiment(key)
        return {}

    def act(self, key: str, verb: str) -> Message:
        """:archive and :unarchive."""
        state = {"archive": "ARCHIVED", "unarchive": "AVAILABLE"}.get(verb)
        if state is None:
            raise APIError(404, "Not Found")
        self._catalog.set_storage(key, state)
        return {}


class PipelineRoutes:
    """The pipeline service over HTTP, uploads apart."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self.router = api = APIRouter(prefix="/pipelines")
        api.add_api_route("", self.create, methods=["POST"])
        api.add_api_route("", self.listed, methods=["GET"])
        api.add_api_route("/names/{name}", self.by_name, methods=["GET"])
        api.add_api_route("/{key}", self.one, methods=["GET"])
        api.add_api_route("/{key}", self.update, methods=["PATCH"])
        api.add_api_route("/{key}", self.delete, methods=["DELETE"])

    def create(self, body: Given) -> Message:
        """The new pipeline."""
        return shown(self._catalog.create_pipeline(body))

    def listed(self, query: Listed) -> Message:
        """A page of pipelines."""
        page = paged("pipelines", self._catalog.store.all("pipelines"), query, "Failed to list pipelines")
        return shown({**vars(page), "pipelines": [shown(row) for row in page.rows], "rows": None})

    def by_name(self, name: str) -> Message:
        """A pipeline."""
        return shown(self._catalog.pipeline_named(name))

    def one(self, key: str) -> Message:
        """A pipeline."""
        return shown(self._catalog.find("pipelines", key, f"Failed to get a pipeline {key}. Check error stack"))

    def update(self, key: str, body: Given) -> Message:
        """The changed pipeline."""
        self._catalog.find("pipelines", key, f"Failed to update pipeline {key}. Check error stack")
        return shown(self._catalog.update("pipelines", key, parsed(body, PIPELINE, "Pipeline")))

    def delete(self, key: str, cascade: bool = False) -> Message:
        """Nothing."""
        self._catalog.delete_pipeline(key, cascade)
        return {}


class VersionRoutes:
    """Versions of a pipeline over HTTP."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self.router = api = APIRouter(prefix="/pipelines/{pipeline_id}/versions")
        api.add_api_route("", self.listed, methods=["GET"])
        api.add_api_route("/{key}", self.one, methods=["GET"])
        api.add_api_route("/{key}", self.update, methods=["PATCH"])
        api.add_api_route("/{key}", self.delete, methods=["DELETE"])

    def listed(self, pipeline_id: str, query: Listed) -> Message:
        """A page of the pipeline's versions."""
        self._catalog.find("pipelines", pipeline_id, "Failed to list pipeline versions")
        page = paged("versions", self._catalog.versions_of(pipeline_id), query, "Failed to list pipeline versions")
        return shown({**vars(page), "pipeline_versions": [_version(row) for row in page.rows], "rows": None})

    def one(self, pipeline_id: str, key: str) -> Message:
        """A version with its spec."""
        return _version(self._catalog.version(pipeline_id, key))

    def update(self, pipeline_id: str, key: str, body: Given) -> Message:
        """The changed version: the display name follows, the name stays."""
        self._catalog.version(pipeline_id, key, f"Failed to update pipeline version {key}")
        return _version(self._catalog.update("versions", key, parsed(body, VERSION, "PipelineVersion")))

    def delete(self, pipeline_id: str, key: str) -> Message:
        """Nothing."""
        self._catalog.version(pipeline_id, key, f"Failed to delete a pipeline version id {key}")
        self._catalog.store.delete("versions", key)
        return {}


class UploadRoutes:
    """Uploads, multipart with the field ``uploadfile``; their errors have a shape of their own."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self.router = api = APIRouter(prefix="/pipelines")
        api.add_api_route("/upload", self.pipeline, methods=["POST"])
        api.add_api_route("/upload_version", self.version, methods=["POST"])

    def pipeline(
        self, uploadfile: UploadFile, name: str = "", display_name: str = "", description: str = "", tags: str = "",
        code_source_url: str = "",
    ) -> Message:  # fmt: skip
        """A new pipeline with its first version, which is named like the pipeline: nobody can choose."""
        content = uploadfile.file.read()
        name = _name(name or display_name or uploadfile.filename or "", "Pipeline", PIPELINE_NAME)
        parse_spec(content)
        fields = {"name": name, "display_name": display_name, "description": description, "tags": _tags(tags)}
        try:
            pipeline = self._catalog.create_pipeline(fields)
            self._catalog.create_version(
                pipeline["pipeline_id"], content, {**fields, "code_source_url": code_source_url, "tags": {}}
            )
        except APIError as error:
            raise _told(error, "Failed to create a pipeline and a pipeline version") from error
        return shown(pipeline)

    def version(
        self, uploadfile: UploadFile, pipelineid: str = "", name: str = "", display_name: str = "",
        description: str = "", tags: str = "", code_source_url: str = "",
    ) -> Message:  # fmt: skip
        """A new version of a pipeline that exists."""
        fields = {
            "name": _name(name or display_name or uploadfile.filename or "", "PipelineVersion", VERSION_NAME),
            "display_name": display_name, "description": description, "tags": _tags(tags),
            "code_source_url": code_source_url,
        }  # fmt: skip
        try:
            return _version(self._catalog.create_version(pipelineid, uploadfile.file.read(), fields))
        except APIError as error:
            raise _told(error, "Failed to create a pipeline version") from error


def _version(document: Message) -> Message:
    return shown({key: value for key, value in document.items() if key not in _HIDDEN})


def _name(name: str, message: str, limit: int) -> str:
    if len(name) > limit:
        raise APIError(400, f"{message}.Name length cannot exceed {limit}")
    return name


def _tags(text: str) -> dict[str, str]:
    try:
        tags = json.loads(text or "{}")
    except ValueError:
        tags = None
    if not isinstance(tags, dict) or not all(isinstance(value, str) for value in tags.values()):
        raise APIError(400, "Failed to parse tags query parameter. Expected JSON object with string keys and values")
    return tags


def _told(error: APIError, message: str) -> APIError:
    """Uploads tell outsiders only what was wrong with the input; an unknown pipeline is a 400 there."""
    if error.status == 400:
        return error
    return APIError(409 if error.status == 409 else 400, str(error), message)


def router(catalog: Catalog) -> APIRouter:
    """All of them; uploads first, because ``upload`` would else be taken for a pipeline's id."""
    api = APIRouter(prefix="/apis/v2beta1")
    for part in (UploadRoutes, ExperimentRoutes, PipelineRoutes, VersionRoutes):
        api.include_router(part(catalog).router)
    return api
