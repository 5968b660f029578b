"""Container registries over the distribution API (spinnaker.md 7.1): manifests, blobs, tags.

Traps this client knows:

* Without the full ``Accept`` list a registry answers 404 or converts the manifest and gives a wrong digest.
* A digest in a header is a claim: whatever is read as a whole is hashed here.
* ``Location`` may be relative and may already have a query.
* Blobs come from elsewhere by redirect, and that house must not see the credentials.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

from mlfleet.clients.answers import Answer, mapping, optional_text
from mlfleet.clients.calls import MAX_BYTES, Expect
from mlfleet.clients.http import HttpClient, SystemClient
from mlfleet.clients.registry_auth import RegistryAuth
from mlfleet.errors import AuthError, ConfigError, NotFound, UnexpectedAnswer

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
MANIFEST_TYPES = (OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST)

# The distribution specification's own grammar.
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MANIFEST_BYTES = 4 * 2**20  # the size that registries must accept; more is no manifest
_TAG_PAGE = 1000


@dataclass(frozen=True)
class ManifestInfo:
    """A manifest: ``digest`` is "sha256:<hex>" of its bytes, ``size`` their number."""

    digest: str
    media_type: str
    size: int


def sha256_digest(content: bytes) -> str:
    """``sha256:<hex>`` of ``content``."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class ContainerRegistryClient(SystemClient):
    """One registry. Give the :class:`HttpClient` no credentials: which header goes where is decided here.

    ``login`` and ``password``, or ``bearer`` (a ready access token), are kept out of every message.
    """

    def __init__(self, http: HttpClient, *, login: str = "", password: str = "", bearer: str = "") -> None:
        super().__init__(http)
        if http.credentials.headers:
            raise ConfigError("the registry client takes login and password itself", "HttpClient(credentials=...)")
        for secret in (password, bearer):
            http.redact.add(secret)
        self._auth = RegistryAuth(http, login, password, bearer)

    async def ping(self) -> None:
        """Raises unless the address is a registry that accepts the credentials (``GET /v2/``)."""
        await self._call("GET", "/v2/", scope="", expect=Expect.JSON_OR_NOTHING)

    async def head_manifest(self, repository: str, reference: str) -> ManifestInfo | None:
        """What ``reference`` (tag or digest) points to, None when there is no such manifest; the body is not read."""
        path = _manifest_path(repository, reference)
        try:
            answer = await self._call("HEAD", path, scope=_pull(repository), headers=_accept())
            digest = answer.headers.get("docker-content-digest", "")
            if not _DIGEST.fullmatch(digest):
                # Allowed by the specification: then only the bytes tell. A proxy's page looks the same.
                return (await self.get_manifest(repository, reference))[1]
        except NotFound:
            return None
        _expect_digest(answer, reference, digest)
        size = answer.headers.get("content-length", "")
        return ManifestInfo(digest, _media_type(answer), int(size) if size.isdigit() else 0)

    async def get_manifest(self, repository: str, reference: str) -> tuple[bytes, ManifestInfo]:
        """The manifest's exact bytes and their digest. Raises NotFound; UnexpectedAnswer when a digest disagrees."""
        path = _manifest_path(repository, reference)
        answer = await self._call(
            "GET", path, scope=_pull(repository), headers=_accept(), expect=Expect.BYTES, max_bytes=_MANIFEST_BYTES
        )
        digest = sha256_digest(answer.content)
        claimed = answer.headers.get("docker-content-digest")
        if claimed and claimed != digest:
            raise answer.wrong(f"the bytes have digest {digest}, the registry says {claimed}")
        _expect_digest(answer, reference, digest)
        return answer.content, ManifestInfo(digest, _media_type(answer), len(answer.content))

    async def put_manifest(self, repository: str, tag: str, body: bytes, media_type: str) -> str:
        """Put ``body`` under ``tag`` and return its digest. The same bytes twice are the same, so this may be repeated.

        It replaces what the tag pointed to: whether the tag is free is for the caller to know.
        Raises TransientError that says so when the registry's disk is full.
        """
        answer = await self._call(
            "PUT",
            _manifest_path(repository, tag),
            scope=_push(repository),
            content=body,
            headers={"Content-Type": media_type},
            expect=Expect.NOTHING,
        )
        digest = sha256_digest(body)
        claimed = answer.headers.get("docker-content-digest")
        if claimed and claimed != digest:
            raise answer.wrong(f"the registry stored {claimed} where {digest} was sent")
        return digest

    async def get_blob(self, repository: str, digest: str, max_bytes: int = MAX_BYTES) -> bytes:
        """A blob's bytes, verified. Raises NotFound; UnexpectedAnswer for a wrong digest or more than ``max_bytes``."""
        path = _blob_path(repository, digest)
        scope = _pull(repository)
        try:
            answer = await self.http.download(path, headers=self._auth.headers(scope), max_bytes=max_bytes)
        except AuthError as exc:
            headers = await self._auth.answer(exc, exc.challenge, scope)
            answer = await self.http.download(path, headers=headers, max_bytes=max_bytes)
        found = sha256_digest(answer.content)
        if found != digest:
            raise answer.wrong(f"the bytes have digest {found}, asked for was {digest}")
        return answer.content

    async def put_blob(self, repository: str, content: bytes) -> str:
        """Upload ``content`` unless the registry has it, and return its digest."""
        digest = sha256_digest(content)
        scope = _push(repository)
        try:
            await self._call("HEAD", _blob_path(repository, digest), scope=scope)
            return digest
        except NotFound:
            pass
        # An upload that was begun and never finished leaves nothing visible, so beginning one may be repeated.
        begun = await self._call(
            "POST", f"/v2/{_repository(repository)}/blobs/uploads/", scope=scope, expect=Expect.NOTHING, repeatable=True
        )
        where = begun.headers.get("location")
        if not where:
            raise begun.wrong("an upload without a Location")
        target = urljoin(str(self.http.resolve(f"/v2/{repository}/blobs/uploads/")), where)
        target += ("&" if "?" in target else "?") + f"digest={digest}"
        headers = {"Content-Type": "application/octet-stream"}
        await self._call("PUT", target, scope=scope, content=content, headers=headers, expect=Expect.NOTHING)
        return digest

    async def image_config(self, repository: str, reference: str) -> dict[str, Any]:
        """The image's configuration: ``config.Labels``, ``config.Entrypoint``, ``architecture``, ``history`` ...

        Of an index the only image is taken, or the one for linux/amd64. Raises NotFound, UnexpectedAnswer.
        """
        manifest = await self._image_manifest(repository, reference)
        digest = optional_text(mapping(manifest.get("config")).get("digest"))
        if digest is None:
            raise self._not_an_image(repository, reference, "its manifest names no configuration")
        return self._parse(await self.get_blob(repository, digest, _MANIFEST_BYTES), repository, reference)

    async def labels(self, repository: str, reference: str) -> dict[str, str]:
        """The image's labels, {} when it has none."""
        config = mapping((await self.image_config(repository, reference)).get("config"))
        return {str(key): str(value) for key, value in mapping(config.get("Labels")).items()}

    async def tags(self, repository: str) -> list[str]:
        """All tags, [] for a repository that does not exist."""
        path = f"/v2/{_repository(repository)}/tags/list?n={_TAG_PAGE}"
        found: list[str] = []
        seen = {path}
        while True:
            try:
                answer = await self._call("GET", path, scope=_pull(repository))
            except NotFound:
                return found
            found += [tag for tag in answer.object().get("tags") or () if isinstance(tag, str)]
            path = _next_page(answer.headers.get("link", ""))
            if not path or path in seen:
                return list(dict.fromkeys(found))
            seen.add(path)

    async def _image_manifest(self, repository: str, reference: str) -> dict[str, Any]:
        body, info = await self.get_manifest(repository, reference)
        manifest = self._parse(body, repository, reference)
        if info.media_type not in {OCI_INDEX, DOCKER_LIST}:
            return manifest
        entries = [mapping(entry) for entry in manifest.get("manifests") or ()]
        platform = {"os": "linux", "architecture": "amd64"}
        fits = [e for e in entries if platform.items() <= mapping(e.get("platform")).items()]
        if not fits and len(entries) != 1:
            raise self._not_an_image(repository, reference, "its index has no image for linux/amd64")
        chosen = (fits or entries)[0]
        body, _ = await self.get_manifest(repository, str(chosen.get("digest")))
        return self._parse(body, repository, reference)

    def _parse(self, body: bytes, repository: str, reference: str) -> dict[str, Any]:
        try:
            data = json.loads(body)
        except ValueError:
            data = None
        if not isinstance(data, dict):
            raise self._not_an_image(repository, reference, "no JSON object where one is expected")
        return data

    def _not_an_image(self, repository: str, reference: str, why: str) -> UnexpectedAnswer:
        return UnexpectedAnswer(self.http.system, f"{repository}:{reference} is not an image: {why}")

    async def _call(
        self,
        method: str,
        path: str,
        *,
        scope: str,
        headers: Mapping[str, str] | None = None,
        expect: Expect = Expect.JSON,
        content: bytes | None = None,
        repeatable: bool | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> Answer:
        """One call, and a second one with the answer to the registry's challenge."""

        async def send(auth: Mapping[str, str]) -> Answer:
            sent = {**(headers or {}), **(auth if self.http.is_own(path) else {})}
            return await self.http.request(
                method, path, headers=sent, expect=expect, content=content, repeatable=repeatable, max_bytes=max_bytes
            )

        try:
            return await send(self._auth.headers(scope))
        except AuthError as exc:
            if exc.status != 401:
                raise
            error = exc
        return await send(await self._auth.answer(error, error.challenge, scope))


def _accept() -> dict[str, str]:
    return {"Accept": ", ".join(MANIFEST_TYPES)}


def _repository(name: str) -> str:
    if not _REPOSITORY.fullmatch(name):
        raise ConfigError(f"{name!r} is no repository name", "", "Use lower case letters, digits and ._-/ between them")
    return name


def _manifest_path(repository: str, reference: str) -> str:
    if not (_TAG.fullmatch(reference) or _DIGEST.fullmatch(reference)):
        raise ConfigError(f"{reference!r} is neither a tag nor a sha256 digest", f"repository {repository}")
    return f"/v2/{_repository(repository)}/manifests/{reference}"


def _blob_path(repository: str, digest: str) -> str:
    if not _DIGEST.fullmatch(digest):
        raise ConfigError(f"{digest!r} is no sha256 digest", f"repository {repository}")
    return f"/v2/{_repository(repository)}/blobs/{digest}"


def _pull(repository: str) -> str:
    return f"repository:{repository}:pull"


def _push(repository: str) -> str:
    return f"repository:{repository}:pull,push"


def _media_type(answer: Answer) -> str:
    """The manifest's type; raises when it is none, as a login page's or an old schema's."""
    kind = str(answer.headers.get("content-type", "")).split(";")[0].strip()
    if kind not in MANIFEST_TYPES:
        raise answer.wrong(f"{kind or 'no Content-Type'} where an image manifest is expected")
    return kind


def _expect_digest(answer: Answer, reference: str, digest: str) -> None:
    if reference.startswith("sha256:") and reference != digest:
        raise answer.wrong(f"the registry gave {digest} for {reference}")


def _next_page(link: str) -> str:
    """The target of ``Link: <...>; rel="next"`` as a path, "" when there is none."""
    found = re.search(r'<([^>]*)>\s*;\s*rel="?next"?', link)
    if not found:
        return ""
    # Only its path is followed: the next page of a list is nowhere else than the list.
    return urljoin("/v2/_/tags/", re.sub(r"^https?://[^/]*", "", found[1]))
