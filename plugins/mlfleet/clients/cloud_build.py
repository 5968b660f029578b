"""Google Cloud Build v1 over REST: create, get, list and cancel builds of one project and location.

Written from Google's discovery document (cloudbuild v1, revision 20261029); not run against Google Cloud. Known traps:

* ``create`` has no request id and the server chooses the build's id, so two POSTs are two builds: it is sent once, and
  after OutcomeUnknown the build is looked for by its tags. A tag must match ``[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}``, or
  the create is a 400 (kubernetes/cloud-provider-gcp 810).
* ``create`` answers with an Operation; the build is in its ``metadata``.
* ``list`` gives the newest first. Its ``filter`` is documented nowhere as a whole. What gcloud sends to the server
  (api_lib/cloudbuild/filter_rewrite.py) is what is used here: ``tags``, ``build_id``, ``status`` and times with
  ``= != < <= > >=``, values in double quotes, ``OR`` between terms. The field is ``build_id`` and not ``id``, which is
  refused (googleapis/nodejs-cloudbuild 299). A page may be short or empty although another one follows (AIP-158).
* A hundred ids make an address of 6 KB. Google's own client sends whatever is longer than 2,048 characters as a POST
  with ``X-HTTP-Method-Override: GET`` and the query as form (googleapiclient/http.py), and so does this one. Should a
  proxy drop that header, the form is no build and is refused: nothing can be created by it.
* Cancelling a finished build is a 400 (knative/build 54). A cancelled one is CANCELLED at once.
* Builds of a location are seen in that location only; ``global`` is one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from mlfleet.clients.answers import Answer, mapping, moment, optional_text, texts
from mlfleet.clients.calls import param, segment
from mlfleet.clients.http import SystemClient
from mlfleet.errors import AuthError, NotFound, RequestRefused

__all__ = ["BASE", "TERMINAL", "UNKNOWN_STATUS", "Build", "BuildPage", "BuiltImage", "CloudBuildClient"]

BASE = "https://cloudbuild.googleapis.com"
CONSOLE = "https://console.cloud.google.com/cloud-build/builds"
UNKNOWN_STATUS = "STATUS_UNKNOWN"
TERMINAL = frozenset({"SUCCESS", "FAILURE", "INTERNAL_ERROR", "TIMEOUT", "CANCELLED", "EXPIRED"})

_CHUNK = 100  # build ids in one filter, and builds on one page
_LONGEST_ADDRESS = 2048  # MAX_URI_LENGTH of googleapiclient/http.py
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class BuiltImage:
    """An image that the build pushed; ``name`` is with its tag, ``digest`` is ``sha256:...``."""

    name: str
    digest: str


@dataclass(frozen=True)
class Build:
    """A build. ``status`` is upper case, STATUS_UNKNOWN when absent (treat it as running).

    ``status_detail`` and ``failure_detail`` are the server's words, ``failure_type`` one of its FailureInfo types, ""
    without one. ``failed_steps`` are the ids (or else images) of the steps that did not succeed. ``images`` is filled
    when the build has succeeded.
    """

    build_id: str
    status: str
    status_detail: str = ""
    failure_type: str = ""
    failure_detail: str = ""
    failed_steps: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    images: tuple[BuiltImage, ...] = ()
    log_url: str | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def is_final(self) -> bool:
        """Whether nothing will change any more."""
        return self.status in TERMINAL

    @property
    def age(self) -> tuple[datetime, str]:
        """Sorts the oldest first; the id decides between builds of one moment."""
        return (self.created_at or _NEVER, self.build_id)


@dataclass(frozen=True)
class BuildPage:
    """``builds`` of one page, newest first, and the token of the next one, "" at the end."""

    builds: tuple[Build, ...]
    next_page_token: str


class CloudBuildClient(SystemClient):
    """Cloud Build at one address, normally :data:`BASE`; ``location`` is a region or "global"."""

    async def create_build(self, project_id: str, location: str, build: Mapping[str, Any]) -> Build:
        """Start a build from a Build resource as JSON; sent once. Raises OutcomeUnknown when the answer is lost."""
        answer = await self.http.request("POST", _path(project_id, location), json=dict(build))
        return _read(answer, mapping(mapping(answer.object().get("metadata")).get("build")))

    async def get_build(self, project_id: str, location: str, build_id: str) -> Build:
        """One build. Raises NotFound."""
        answer = await self.http.request("GET", _path(project_id, location, build_id))
        return _read(answer, answer.object())

    async def list_builds(
        self, project_id: str, location: str, query: str = "", *, page_size: int = _CHUNK, page_token: str = ""
    ) -> BuildPage:
        """One page of the builds that satisfy the filter ``query``. Raises RequestRefused for a wrong filter."""
        path = _path(project_id, location)
        params = {"filter": query or None, "pageSize": page_size, "pageToken": page_token or None}
        if len(str(self.http.resolve(path, params))) <= _LONGEST_ADDRESS:
            answer = await self.http.request("GET", path, params=params)
        else:
            answer = await self.http.request(
                "POST",
                path,
                content=urlencode({key: param(value) for key, value in params.items() if value is not None}).encode(),
                headers={"X-HTTP-Method-Override": "GET", "Content-Type": "application/x-www-form-urlencoded"},
                repeatable=True,
            )
        token = optional_text(answer.object().get("nextPageToken")) or ""
        return BuildPage(tuple(_read(answer, row) for row in answer.objects("builds")), token)

    async def find_builds(self, project_id: str, location: str, tag: str) -> list[Build]:
        """All builds with the tag ``tag``, oldest first, as far as the list shows them already."""
        found: dict[str, Build] = {}
        token = ""
        while True:
            page = await self.list_builds(project_id, location, _term("tags", tag), page_token=token)
            # A build that begins between two pages moves the others on by one: by id, none counts twice.
            found.update({build.build_id: build for build in page.builds if tag in build.tags})
            token = page.next_page_token
            if not token:
                return sorted(found.values(), key=lambda build: build.age)

    async def builds_by_id(self, project_id: str, location: str, build_ids: Iterable[str]) -> dict[str, Build]:
        """Many builds in few requests; the ones that the list does not show are left out."""
        wanted = list(dict.fromkeys(build_ids))
        found: dict[str, Build] = {}
        for start in range(0, len(wanted), _CHUNK):
            found.update(await self._by_id(project_id, location, wanted[start : start + _CHUNK]))
        return found

    async def _by_id(self, project_id: str, location: str, chunk: list[str]) -> dict[str, Build]:
        query = " OR ".join(_term("build_id", build_id) for build_id in chunk)
        found: dict[str, Build] = {}
        token = ""
        while True:
            page = await self.list_builds(project_id, location, query, page_token=token)
            found.update({build.build_id: build for build in page.builds if build.build_id in chunk})
            token = page.next_page_token
            if not token or len(found) == len(chunk):
                return found

    async def cancel(self, project_id: str, location: str, build_id: str) -> bool:
        """End a build; True when this did it, False when it was finished already. Raises NotFound."""
        path = f"{_path(project_id, location, build_id)}:cancel"
        try:
            await self.http.request("POST", path, json={}, repeatable=True)
        except (AuthError, NotFound):
            raise
        except RequestRefused:
            # The first of two tries may have done it, too.
            if not (await self.get_build(project_id, location, build_id)).is_final:
                raise
            return False
        return True

    def build_url(self, project_id: str, location: str, build_id: str) -> str:
        """The build's page in the Google Cloud console (googleapis/google-cloud-python 11079)."""
        return f"{CONSOLE};region={segment(location)}/{segment(build_id)}?{urlencode({'project': project_id})}"


def _path(project_id: str, location: str, build_id: str | None = None) -> str:
    path = f"/v1/projects/{segment(project_id)}/locations/{segment(location)}/builds"
    return path if build_id is None else f"{path}/{segment(build_id)}"


def _term(field: str, value: str) -> str:
    return f"{field}={json.dumps(value)}"


def _read(answer: Answer, row: Mapping[str, Any]) -> Build:
    """One build; raises ``answer.wrong`` without an id."""
    build_id = optional_text(row.get("id"))
    if build_id is None:
        raise answer.wrong("a build without an id")
    failure = mapping(row.get("failureInfo"))
    return Build(
        build_id=build_id,
        status=str(row.get("status") or UNKNOWN_STATUS).upper(),
        status_detail=str(row.get("statusDetail") or ""),
        failure_type=str(failure.get("type") or ""),
        failure_detail=str(failure.get("detail") or ""),
        failed_steps=_failed_steps(row),
        tags=texts(row.get("tags")),
        images=_images(row),
        log_url=optional_text(row.get("logUrl")),
        created_at=moment(row.get("createTime")),
        started_at=moment(row.get("startTime")),
        finished_at=moment(row.get("finishTime")),
    )


def _rows(value: object) -> list[Mapping[str, Any]]:
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []


def _failed_steps(row: Mapping[str, Any]) -> tuple[str, ...]:
    bad = [step for step in _rows(row.get("steps")) if step.get("status") in TERMINAL - {"SUCCESS", "CANCELLED"}]
    return tuple(str(step.get("id") or step.get("name") or "") for step in bad)


def _images(row: Mapping[str, Any]) -> tuple[BuiltImage, ...]:
    images = _rows(mapping(row.get("results")).get("images"))
    return tuple(BuiltImage(str(image.get("name") or ""), str(image.get("digest") or "")) for image in images)
