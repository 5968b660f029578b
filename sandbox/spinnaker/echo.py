"""Echo: which pipelines does an event start (reference spinnaker.md, 3.2)."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Iterable
from typing import Any

from sandbox.spinnaker.artifacts import wanted_by
from sandbox.spinnaker.switches import Switches

log = logging.getLogger("echo")
Pipeline = dict[str, Any]


def matches(trigger: dict[str, Any], content: dict[str, Any]) -> bool:
    """Whether a docker trigger fires for an image.

    Repository and account must be equal to the letter; the host is not compared. The pattern has to match the whole
    tag; a blank one means every tag but ``latest``; one that is no regular expression never matches, silently.
    """
    if trigger.get("type") != "docker" or not trigger.get("enabled"):
        return False
    if trigger.get("repository") != content["repository"] or trigger.get("account") != content["account"]:
        return False
    pattern = (trigger.get("tag") or "").strip()
    if not pattern:
        return bool(content["tag"] != "latest")
    try:
        return re.fullmatch(pattern, content["tag"]) is not None
    except re.error:
        return False


def started_by(
    event: dict[str, Any], pipelines: Iterable[Pipeline], switches: Switches
) -> list[tuple[Pipeline, dict[str, Any]]]:
    """The pipelines that an image starts, each with its execution's trigger; one event may start several."""
    content, found = event["content"], []
    for pipeline in pipelines:
        if pipeline.get("disabled"):
            continue
        for configured in pipeline.get("triggers", []):
            if not matches(configured, content):
                continue
            if switches.access_denied:
                log.info("%s/%s: EXECUTE denied to %s", pipeline["application"], pipeline["name"],
                         configured.get("runAsUser", "anonymous"))  # fmt: skip
                continue
            trigger = trigger_of(configured, content)
            if not wanted_by(pipeline, configured, trigger["artifacts"]):
                log.info("%s/%s: the image is no artifact that is expected", pipeline["application"], pipeline["name"])
                continue
            found += [(pipeline, trigger)] * switches.duplicate_executions
    return found


def trigger_of(configured: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    """The trigger as the execution carries it: only tag, digest and event id come from the event."""
    registry = configured.get("registry") or content["registry"]
    name, tag = f"{registry}/{content['repository']}", content["tag"]
    user = configured.get("runAsUser", "anonymous")
    trigger = {
        **configured, "id": str(uuid.uuid3(uuid.NAMESPACE_URL, name)), "registry": registry, "tag": tag,
        "eventId": str(uuid.uuid4()), "user": user, "correlationId": None, "parameters": {}, "notifications": [],
        "rebake": False, "dryRun": False, "strategy": False, "preferred": False, "resolvedExpectedArtifacts": [],
        "artifacts": [{"type": "docker/image", "customKind": False, "name": name, "version": tag,
                       "reference": f"{name}:{tag}", "metadata": {}}],
    }  # fmt: skip
    if content.get("digest"):
        trigger["digest"] = content["digest"]
    return trigger


def announced(trigger: dict[str, Any], digest: str) -> dict[str, Any]:
    """The same trigger as Google's Pub/Sub brings it (reference spinnaker.md, 3.6): with the image's digest."""
    name, tag = trigger["artifacts"][0]["name"], trigger["tag"]
    kept = {key: value for key, value in trigger.items() if key not in ("account", "organization", "registry",
                                                                       "repository", "tag")}  # fmt: skip
    return {
        **kept, "type": "pubsub", "pubsubSystem": "google", "subscriptionName": "gcr",
        "payload": {"action": "INSERT", "digest": f"{name}@{digest}", "tag": f"{name}:{tag}"},
        "payloadConstraints": {"action": "INSERT"},
        "artifacts": [{"type": "docker/image", "customKind": False, "name": name, "version": digest,
                       "reference": f"{name}@{digest}", "metadata": {}}],
    }  # fmt: skip


def webhook_started_by(
    source: str, kind: str, body: dict[str, Any], pipelines: Iterable[Pipeline]
) -> list[tuple[Pipeline, dict[str, Any]]]:
    """The pipelines that a webhook starts: type and source are equal, and each payload constraint fits as a whole.

    The body's ``parameters`` and ``artifacts`` are taken over (reference spinnaker.md, 1.5).
    """
    event_id, found = str(uuid.uuid4()), []
    for pipeline in pipelines:
        for configured in [] if pipeline.get("disabled") else pipeline.get("triggers", []):
            constraints = configured.get("payloadConstraints") or {}
            if (
                configured.get("enabled")
                and (configured.get("type"), configured.get("source")) == (kind, source)
                and all(_constrained(pattern, body.get(key)) for key, pattern in constraints.items())
                and wanted_by(pipeline, configured, body.get("artifacts") or [])
            ):
                trigger = {
                    **configured, "eventId": event_id, "payload": body, "parameters": body.get("parameters") or {},
                    "artifacts": body.get("artifacts") or [], "correlationId": None,
                    "user": configured.get("runAsUser", "anonymous"), "resolvedExpectedArtifacts": [],
                }  # fmt: skip
                found.append((pipeline, trigger))
    return found


def _constrained(pattern: str, value: Any) -> bool:
    try:
        return value is not None and re.fullmatch(pattern, str(value)) is not None
    except re.error:
        return False
