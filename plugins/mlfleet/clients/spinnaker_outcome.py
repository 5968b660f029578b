"""What came of a deployment, computed from an execution's top-level stages (spinnaker.md 1.3 and 2).

``SUCCEEDED`` does not mean deployed: a stopped judgment, a failed canary that is ignored or a skipped stage end in
``SUCCEEDED`` as well. So "deployed" needs proof: the last deploy stages succeeded and *our* image is in their manifest.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlfleet.clients.answers import mapping, number, optional_text
from mlfleet.clients.spinnaker_images import Image

DEPLOY_TYPES = frozenset({"deployManifest", "patchManifest", "deploy", "cloneServerGroup"})
CANARY_TYPES = frozenset({"kayentaCanary", "canary", "runCanary"})
ROLLBACK_TYPES = frozenset({"rollback", "undoRolloutManifest", "rollbackCluster", "rollbackServerGroup"})

_FAILED = frozenset({"TERMINAL", "STOPPED", "FAILED_CONTINUE"})
_SUCCESS = frozenset({"SUCCEEDED", "FAILED_CONTINUE", "SKIPPED"})
_FINAL = _SUCCESS | {"TERMINAL", "CANCELED", "STOPPED"}

Stage = Mapping[str, Any]


class OutcomeKind(enum.StrEnum):
    """What came of it. RUNNING and WAITING_FOR_JUDGMENT are the two that may still change by themselves."""

    DEPLOYED = "deployed"
    SUCCEEDED_WITHOUT_DEPLOY = "succeeded_without_deploy"
    FAILED = "failed"
    REJECTED = "rejected"
    CANARY_FAILED = "canary_failed"
    CANCELED = "canceled"
    SUPERSEDED = "superseded"
    STARTUP_FAILURE = "startup_failure"
    RUNNING = "running"
    WAITING_FOR_JUDGMENT = "waiting_for_judgment"


@dataclass(frozen=True)
class DeploymentOutcome:
    """``kind``, and ``reason`` in one sentence.

    ``stage_id`` and ``stage_name`` are the stage that decided, or that waits for a person. ``bound_reference`` is the
    image of ours that a deploy stage put in its manifest, whatever came after it.
    """

    kind: OutcomeKind
    reason: str
    stage_id: str | None = None
    stage_name: str | None = None
    bound_reference: str | None = None

    @property
    def is_final(self) -> bool:
        """Whether it stays so unless somebody restarts a stage (spinnaker.md 0.7)."""
        return self.kind not in {OutcomeKind.RUNNING, OutcomeKind.WAITING_FOR_JUDGMENT}


def deployment_outcome(
    execution: Mapping[str, Any], repository: str, tag: str, digest: str | None = None
) -> DeploymentOutcome:
    """What came of ``execution``, which was to deploy ``repository:tag`` with manifest ``digest``.

    ``execution`` must be a whole one (``GET /pipelines/{id}``): without stage outputs nothing proves a deployment.
    ``repository`` is without the registry's host. ``trigger.digest`` is not looked at: it may be absent, of the
    configuration or of a converted manifest (spinnaker.md 3.5). An unknown status counts as running.
    """
    stages = [s for s in execution.get("stages") or () if isinstance(s, Mapping) and not s.get("parentStageId")]
    status = _status(execution)
    if status not in _FINAL:
        return _unfinished(execution, status)
    ours = Image(repository, tag, digest)
    bound = next((ref for stage in stages if _status(stage) == "SUCCEEDED" for ref in _bound(stage, ours)), None)
    if status == "CANCELED":
        return _canceled(execution, bound)
    if status in _SUCCESS:
        return _succeeded(stages, ours, bound)
    return _failed(execution, stages, bound)


def stage_error(stage: Stage) -> str:
    """Why a stage failed, from its context, "" when it does not say (spinnaker.md 1.3)."""
    context = mapping(stage.get("context"))
    details = mapping(mapping(context.get("exception")).get("details"))
    errors = [str(item) for item in details.get("errors") or () if item]
    return "; ".join(errors) or str(details.get("error") or context.get("failureMessage") or "")


def is_complete(execution: Mapping[str, Any]) -> bool:
    """Whether it has ended, which a restarted stage can undo (spinnaker.md 0.7); an unknown status is live."""
    return _status(execution) in _FINAL


def needs_contexts(execution: Mapping[str, Any]) -> bool:
    """Whether its outcome takes the stages' contexts, which lists leave out: it has ended, or asks a person."""
    return is_complete(execution) or any(_asks(stage) for stage in execution.get("stages") or ())


def bound_references(stage: Stage) -> list[str]:
    """References of the artifacts that a deploy stage really put in its manifest.

    They are under the literal key ``outputs.boundArtifacts``, of the stage's outputs or of its context
    (PromoteManifestKatoOutputsTask, spinnaker.md 1.3).
    """
    found = []
    for holder in (mapping(stage.get("outputs")), mapping(stage.get("context"))):
        for artifact in holder.get("outputs.boundArtifacts") or holder.get("boundArtifacts") or ():
            reference = optional_text(mapping(artifact).get("reference"))
            if reference:
                found.append(reference)
    return list(dict.fromkeys(found))


def _bound(stage: Stage, image: Image) -> Iterator[str]:
    """References to our image among those the stage put in its manifest."""
    return (reference for reference in bound_references(stage) if image.is_named_by(reference))


def _asks(stage: object) -> bool:
    return isinstance(stage, Mapping) and stage.get("type") == "manualJudgment" and _status(stage) == "RUNNING"


def _unfinished(execution: Mapping[str, Any], status: str) -> DeploymentOutcome:
    waiting = _first(s for s in execution.get("stages") or () if _asks(s))
    if execution.get("canceled"):
        return DeploymentOutcome(OutcomeKind.RUNNING, "cancellation was asked for")
    if waiting is not None and not _judgment(waiting):
        text = f"{_name(waiting)} waits for a person"
        instructions = optional_text(mapping(waiting.get("context")).get("instructions"))
        return _about(OutcomeKind.WAITING_FOR_JUDGMENT, text + (f": {instructions}" if instructions else ""), waiting)
    words = {
        "NOT_STARTED": "not started, or queued behind another execution",
        "BUFFERED": "held back by Spinnaker",
        "PAUSED": "paused by a user",
        "SUSPENDED": "waiting for an outside trigger",
    }
    return DeploymentOutcome(OutcomeKind.RUNNING, words.get(status, "running"))


def _canceled(execution: Mapping[str, Any], bound: str | None) -> DeploymentOutcome:
    why = optional_text(execution.get("cancellationReason")) or "no reason given"
    # Orca writes "superceded" (StartWaitingExecutionsHandler.kt); the right spelling may come one day.
    by_itself = execution.get("canceledBy") in {None, "spinnaker"}
    if by_itself and ("superceded" in why or "superseded" in why):
        return DeploymentOutcome(OutcomeKind.SUPERSEDED, "a newer execution took its place in the queue")
    who = optional_text(execution.get("canceledBy"))
    text = f"canceled by {who}: {why}" if who else f"canceled: {why}"
    return DeploymentOutcome(OutcomeKind.CANCELED, text, bound_reference=bound)


def _failed(execution: Mapping[str, Any], stages: Sequence[Stage], bound: str | None) -> DeploymentOutcome:
    why = optional_text(execution.get("cancellationReason")) or ""
    if why.startswith("Failed on startup") and all(_status(s) == "NOT_STARTED" for s in stages):
        return DeploymentOutcome(OutcomeKind.STARTUP_FAILURE, why)
    # The stage that ended it, not one whose failure the pipeline was told to ignore.
    culprit = _first(s for wanted in ("TERMINAL", "STOPPED") for s in stages if _status(s) == wanted)
    if culprit is None:
        return DeploymentOutcome(OutcomeKind.FAILED, why or "Spinnaker names no stage that failed", None, None, bound)
    if _is_rejection(culprit):
        return _about(OutcomeKind.REJECTED, _rejection(culprit), culprit, bound)
    if culprit.get("type") in CANARY_TYPES:
        return _about(OutcomeKind.CANARY_FAILED, _canary(culprit), culprit, bound)
    text = f"{_name(culprit)} failed: {stage_error(culprit) or _status(culprit)}"
    if culprit.get("type") == "manualJudgment":
        text = f"{_name(culprit)} was not answered in time"
    if bound:
        text += f" (after {bound} was deployed)"
    return _about(OutcomeKind.FAILED, text, culprit, bound)


def _succeeded(stages: Sequence[Stage], ours: Image, bound: str | None) -> DeploymentOutcome:
    last = _last_deploys(stages)
    undone = _undone_by(stages)
    shown = {id(s): next(_bound(s, ours), None) for s in last if _status(s) == "SUCCEEDED"}
    proved = [s for s in last if shown.get(id(s))]
    if undone is None and proved and all(s in proved or _status(s) == "SKIPPED" for s in last):
        return _about(OutcomeKind.DEPLOYED, f"{_name(proved[-1])} deployed {shown[id(proved[-1])]}", proved[-1], bound)
    rejection = _first(s for s in stages if _is_rejection(s))
    if rejection is not None:
        return _about(OutcomeKind.REJECTED, _rejection(rejection), rejection, bound)
    canary = _first(s for s in stages if s.get("type") in CANARY_TYPES and _status(s) in _FAILED)
    if canary is not None:
        return _about(OutcomeKind.CANARY_FAILED, _canary(canary), canary, bound)
    if undone is not None:
        text = f"{_name(undone)} rolled the deployment back"
        return _about(OutcomeKind.SUCCEEDED_WITHOUT_DEPLOY, text, undone, bound)
    broken = _first(s for s in last if _status(s) in _FAILED)
    if broken is not None:
        text = f"{_name(broken)} failed, which the pipeline ignores: {stage_error(broken) or _status(broken)}"
        return _about(OutcomeKind.FAILED, text, broken, bound)
    return DeploymentOutcome(OutcomeKind.SUCCEEDED_WITHOUT_DEPLOY, _no_proof(last, shown), bound_reference=bound)


def _no_proof(last: Sequence[Stage], shown: Mapping[int, str | None]) -> str:
    if not last:
        return "the pipeline has no deploy stage"
    idle = [_name(s) for s in last if _status(s) != "SUCCEEDED"]
    if idle:
        return "did not run: " + ", ".join(idle)
    for stage in last:
        if shown[id(stage)] is None:
            references = bound_references(stage)
            what = f"bound {', '.join(references)} instead" if references else "does not show that it bound our image"
            return f"{_name(stage)} succeeded, but {what}"
    return "nothing proves a deployment"


def _last_deploys(stages: Sequence[Stage]) -> list[Stage]:
    """Deploy stages behind which no other deploy stage comes: production, where staging comes first."""
    deploys = [s for s in stages if s.get("type") in DEPLOY_TYPES]
    before: set[str] = set()
    for stage in deploys:
        before |= _ancestors(stage, stages)
    return [s for s in deploys if str(s.get("refId")) not in before]


def _undone_by(stages: Sequence[Stage]) -> Stage | None:
    """A rollback stage that succeeded after a deploy stage, by its start or, where that is missing, by its place."""
    for place, stage in enumerate(stages):
        if stage.get("type") not in ROLLBACK_TYPES or _status(stage) != "SUCCEEDED":
            continue
        for other_place, other in enumerate(stages):
            if other.get("type") in DEPLOY_TYPES and _status(other) == "SUCCEEDED":
                starts = (number(other.get("startTime")), number(stage.get("startTime")))
                if starts[0] < starts[1] or (starts[0] == starts[1] and other_place < place):
                    return stage
    return None


def _ancestors(stage: Stage, stages: Sequence[Stage]) -> set[str]:
    """The refIds of all stages that must come before ``stage``."""
    parents = {str(s.get("refId")): [str(r) for r in s.get("requisiteStageRefIds") or ()] for s in stages}
    found: set[str] = set()
    open_ends = list(parents.get(str(stage.get("refId")), ()))
    while open_ends:
        ref = open_ends.pop()
        if ref not in found:
            found.add(ref)
            open_ends += parents.get(ref, ())
    return found


def _judgment(stage: Stage) -> str:
    return str(mapping(stage.get("context")).get("judgmentStatus") or "").lower()


def _is_rejection(stage: Stage) -> bool:
    return stage.get("type") == "manualJudgment" and _judgment(stage) == "stop"


def _rejection(stage: Stage) -> str:
    who = optional_text(mapping(stage.get("lastModified")).get("user"))
    return f"{_name(stage)} was answered with stop" + (f" by {who}" if who else "")


def _canary(stage: Stage) -> str:
    message = optional_text(mapping(stage.get("context")).get("canaryScoreMessage")) or stage_error(stage)
    return f"{_name(stage)} failed" + (f": {message}" if message else "")


def _about(kind: OutcomeKind, reason: str, stage: Stage, bound: str | None = None) -> DeploymentOutcome:
    return DeploymentOutcome(kind, reason, optional_text(stage.get("id")), _name(stage), bound)


def _name(stage: Stage) -> str:
    return str(stage.get("name") or stage.get("type") or "a stage")


def _status(holder: Mapping[str, Any]) -> str:
    return str(holder.get("status") or "").upper()


def _first(stages: Iterator[Stage]) -> Stage | None:
    return next(stages, None)
