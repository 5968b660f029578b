"""Docker triggers of Spinnaker pipelines as pure functions: how to search by one, and whether a tag would fire one."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any


def java_quote(text: str) -> str:
    r"""``\Q...\E`` as Java's ``Pattern.quote``: Gate takes wanted texts as regular expressions (spinnaker.md 1.4)."""
    return "\\Q" + text.replace("\\E", "\\E\\\\E\\Q") + "\\E"


def encoded_trigger(wanted: Mapping[str, Any]) -> str:
    """The ``trigger`` parameter of a search: base64 (standard alphabet) of what must be in it (spinnaker.md 1.4)."""
    return base64.b64encode(json.dumps(wanted, separators=(",", ":")).encode()).decode()


def manual_trigger(config: Mapping[str, Any], repository: str, tag: str, digest: str | None) -> dict[str, Any]:
    """What Deck sends when a person starts a docker-triggered pipeline by hand for one tag (DockerTriggerTemplate.tsx).

    The fields of the configured docker trigger for ``repository`` (the one that ``tag`` matches, if several) make the
    pipeline's expected artifacts bind as after a push.
    """
    kept = ("account", "organization", "registry", "expectedArtifactIds")
    triggers = [t for t in _docker_triggers(config) if t.get("repository") == repository]
    matching = [t for t in triggers if _problem(t, repository, tag, None) is None]
    configured = next(iter(matching or triggers), {})
    found = {key: configured[key] for key in kept if configured.get(key)}
    return {**found, "repository": repository, "tag": tag, **({"digest": digest} if digest else {})}


def trigger_problems(config: Mapping[str, Any], repository: str, tag: str, account: str | None = None) -> list[str]:
    """Why a push of ``repository:tag`` would start nothing, in sentences; [] when a trigger matches (spinnaker.md 3.2).

    ``config`` is a pipeline configuration (spinnaker.md 1.2). ``account`` is compared when given. What the
    configuration cannot show (permissions, polling, a tag that was seen before) is not judged.
    """
    name = config.get("name") or "?"
    if config.get("disabled"):
        return [f"pipeline {name} is disabled"]
    triggers = _docker_triggers(config)
    if not triggers:
        return [f"pipeline {name} has no docker trigger"]
    problems = [_problem(trigger, repository, tag, account) for trigger in triggers]
    return [] if None in problems else [problem for problem in problems if problem]


def other_patterns(config: Mapping[str, Any], repository: str, pattern: str) -> list[str]:
    """The tag patterns of the enabled docker triggers for ``repository`` that are not ``pattern``; blank for none."""
    triggers = (t for t in _docker_triggers(config) if t.get("enabled") and t.get("repository") == repository)
    return [found for t in triggers if (found := str(t.get("tag") or "").strip()) != pattern]


def concurrency_warning(config: Mapping[str, Any]) -> str | None:
    """A sentence when a newer execution would silently cancel a waiting one (spinnaker.md 0.8), else None."""
    if config.get("limitConcurrent") and not config.get("keepWaitingPipelines"):
        return f"pipeline {config.get('name') or '?'} drops waiting executions when a newer one arrives"
    return None


def _docker_triggers(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [t for t in config.get("triggers") or () if isinstance(t, Mapping) and t.get("type") == "docker"]


def _problem(trigger: Mapping[str, Any], repository: str, tag: str, account: str | None) -> str | None:
    where = f"the docker trigger for {trigger.get('repository')}"
    if not trigger.get("enabled"):
        return f"{where} is not enabled"
    if trigger.get("repository") != repository:
        return f"{where} watches another repository than {repository}"
    if account is not None and trigger.get("account") != account:
        return f"{where} watches account {trigger.get('account')}, not {account}"
    return _tag_problem(where, str(trigger.get("tag") or "").strip(), tag)


def _tag_problem(where: str, pattern: str, tag: str) -> str | None:
    if not pattern:
        # A blank pattern means every tag but this one.
        return f"{where} has no tag pattern and so ignores 'latest'" if tag == "latest" else None
    try:
        matches = re.fullmatch(pattern, tag) is not None
    except re.error:
        return f"{where} has a tag pattern that is no regular expression: {pattern}"
    return None if matches else f"{where} has the tag pattern {pattern}, which {tag} does not match"
