"""Which executions were started for an image, and which references name it, as pure functions of the image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mlfleet.clients.spinnaker_trigger import java_quote


@dataclass(frozen=True)
class Image:
    """One image: ``repository`` without the registry's host, its tag, and the manifest's digest when that is known."""

    repository: str
    tag: str
    digest: str | None = None

    def is_named_by(self, reference: str) -> bool:
        """Whether ``[host/]repository[:tag][@digest]`` is this image; a digest, where both have one, decides."""
        path, tag, digest = _parts(reference)
        if not self._is_at(path):
            return False
        if digest and self.digest:
            return digest == self.digest
        return tag == self.tag

    def was_wanted_by(self, execution: Mapping[str, Any]) -> bool:
        """Whether the execution's trigger brought exactly this image (spinnaker.md 1.4 and 3.6).

        A docker trigger names repository and tag, Google's Pub/Sub message the tag's whole name; both decide alone.
        What else starts a pipeline (a webhook, a person) brings the image as an artifact. A digest without a tag counts
        only then: the same digest has other tags, those of the build and of other releases.
        """
        trigger = _object(execution.get("trigger"))
        if trigger.get("repository") and trigger.get("tag"):
            return (trigger["repository"], trigger["tag"]) == (self.repository, self.tag)
        told = _object(trigger.get("payload")).get("tag")
        if isinstance(told, str) and "/" in told:
            return self._is_tagged(told)
        return any(self._is_brought(reference) for reference in _references(trigger.get("artifacts")))

    def pattern(self) -> str:
        """A Java pattern for what this image's references may look like behind the registry's host."""
        named = java_quote(f"{self.repository}:{self.tag}") + "(@.*)?"
        by_digest = java_quote(f"{self.repository}@{self.digest or ''}")
        return f"{named}|{by_digest}" + ("" if self.digest else ".*")

    def _is_brought(self, reference: str) -> bool:
        return self._is_tagged(reference) if _parts(reference)[1] else self.is_named_by(reference)

    def _is_tagged(self, reference: str) -> bool:
        path, tag, _ = _parts(reference)
        return self._is_at(path) and tag == self.tag

    def _is_at(self, path: str) -> bool:
        """A registry may keep a repository below a project of its own."""
        return path == self.repository or path.endswith(f"/{self.repository}")


def wanted_tag(execution: Mapping[str, Any], repository: str) -> str | None:
    """The tag of ``repository`` that an execution was started for (`Image.was_wanted_by`); None for another image."""
    trigger = _object(execution.get("trigger"))
    told = _object(trigger.get("payload")).get("tag")
    references = [told] if isinstance(told, str) else _references(trigger.get("artifacts"))
    tags = [_parts(reference)[1] for reference in references]
    named = trigger.get("tag") if trigger.get("repository") == repository else None
    candidates = [tag for tag in (named, *tags) if isinstance(tag, str) and tag]
    return next((tag for tag in candidates if Image(repository, tag).was_wanted_by(execution)), None)


def artifact_filter(images: Iterable[Image]) -> dict[str, Any]:
    """What a search can ask of a trigger so that it is for one of ``images``.

    By artifact, not by repository and tag: those only docker triggers have, while every execution that Spinnaker or
    Deck starts for an image carries it as an artifact.
    """
    patterns = "|".join(dict.fromkeys(image.pattern() for image in images))
    return {"artifacts": [{"reference": f"(.*/)?({patterns})"}]}


def _parts(reference: str) -> tuple[str, str, str]:
    """Path (host included), tag and digest of a reference; "" for what it lacks."""
    name, _, digest = reference.partition("@")
    head, _, last = name.rpartition("/")
    last, _, tag = last.partition(":")
    return (f"{head}/{last}" if head else last), tag, digest


def _references(artifacts: object) -> list[str]:
    found = artifacts if isinstance(artifacts, list) else []
    references = [_object(artifact).get("reference") for artifact in found]
    return [reference for reference in references if isinstance(reference, str)]


def _object(value: object) -> Mapping[str, Any]:
    """A JSON object, {} for anything else; not copied, because every row is compared with every image."""
    return value if isinstance(value, Mapping) else {}
