"""Expected artifacts: what a trigger must bring (echo), and what the pipeline binds from it (orca).

Rules of kork's ExpectedArtifact and ArtifactMatcher (reference spinnaker.md, 1.2 and 3.2): every field that is given is
a pattern for the whole text; a field that is blank matches anything; the account is not compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

Artifact = dict[str, Any]
_COMPARED = ("type", "name", "version", "location", "reference")


class UnmatchedArtifact(Exception):
    """An expected artifact is not there and has no default: the execution fails before its first stage."""


def fits(expected: dict[str, Any], artifact: Artifact) -> bool:
    """Whether an artifact is one that is expected; a pattern that is no regular expression fits nothing."""
    wanted = expected.get("matchArtifact") or {}
    return all(_fits(wanted.get(field), artifact.get(field)) for field in _COMPARED)


def _fits(pattern: str | None, text: str | None) -> bool:
    if not pattern:
        return True
    try:
        return text is not None and re.fullmatch(pattern, text) is not None
    except re.error:
        return False


def expected_by(pipeline: dict[str, Any], trigger: dict[str, Any]) -> list[dict[str, Any]]:
    """The pipeline's expected artifacts that a trigger names by id."""
    ids = trigger.get("expectedArtifactIds") or []
    return [each for each in pipeline.get("expectedArtifacts") or [] if each.get("id") in ids]


def wanted_by(pipeline: dict[str, Any], trigger: dict[str, Any], artifacts: Iterable[Artifact]) -> bool:
    """Echo's question: whether the event brings an artifact that the trigger expects, if it expects any."""
    if not trigger.get("expectedArtifactIds"):
        return True
    expected = expected_by(pipeline, trigger)
    return any(fits(each, artifact) for artifact in artifacts for each in expected)


def resolved(pipeline: dict[str, Any], trigger: dict[str, Any]) -> list[dict[str, Any]]:
    """Orca's answer: every expected artifact with the one that is bound to it, the default one where it is allowed.

    Raises UnmatchedArtifact.
    """
    return [_bound(expected, trigger.get("artifacts") or []) for expected in expected_by(pipeline, trigger)]


def _bound(expected: dict[str, Any], artifacts: Sequence[Artifact]) -> dict[str, Any]:
    bound = next((artifact for artifact in artifacts if fits(expected, artifact)), None)
    if bound is None and expected.get("useDefaultArtifact"):
        bound = expected.get("defaultArtifact")
    if bound is None:
        raise UnmatchedArtifact(
            f"Unmatched expected artifact {expected.get('displayName') or expected.get('id')} could not be resolved."
        )
    return {**expected, "boundArtifact": bound}
