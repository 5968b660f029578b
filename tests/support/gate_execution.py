"""What may become of an execution, and how Gate shows it (spinnaker.md 1.3 and 2)."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from tests.support.spinnaker_wire import APPLICATION, REGISTRY, REPOSITORY

if TYPE_CHECKING:
    from tests.support.gate_model import Execution

LIVE = frozenset({"NOT_STARTED", "RUNNING"})
_SUPERSEDED = (
    "This execution was queued but then canceled because a newer queued execution superceded it. "
    "This pipeline is configured to automatically cancel waiting executions."
)


class Fate(Enum):
    """An end: what a person who looks at Deck would say of it, and the execution's status.

    The first is the word that mlfleet must use (OutcomeKind).
    """

    DEPLOYED = ("deployed", "SUCCEEDED", 1)
    CANARY_IGNORED = ("deployed", "SUCCEEDED", 2)
    OTHER_IMAGE = ("succeeded_without_deploy", "SUCCEEDED", 3)
    REJECTED = ("rejected", "TERMINAL", 4)
    REJECTED_SOFTLY = ("rejected", "SUCCEEDED", 5)
    CANARY_FAILED = ("canary_failed", "TERMINAL", 6)
    FAILED = ("failed", "TERMINAL", 7)
    CANCELED = ("canceled", "CANCELED", 8)
    SUPERSEDED = ("superseded", "CANCELED", 9)
    STARTUP_FAILURE = ("startup_failure", "TERMINAL", 10)

    @property
    def word(self) -> str:
        return str(self.value[0])

    @property
    def execution_status(self) -> str:
        return str(self.value[1])


# Status of canary, judgment and deploy stage, and the judgment.
_STAGES: dict[Fate | None, tuple[str, str, str, str]] = {
    None: ("SUCCEEDED", "RUNNING", "NOT_STARTED", ""),
    Fate.DEPLOYED: ("SUCCEEDED", "SUCCEEDED", "SUCCEEDED", "continue"),
    Fate.CANARY_IGNORED: ("FAILED_CONTINUE", "SUCCEEDED", "SUCCEEDED", "continue"),
    Fate.OTHER_IMAGE: ("SUCCEEDED", "SUCCEEDED", "SUCCEEDED", "continue"),
    Fate.REJECTED: ("SUCCEEDED", "TERMINAL", "NOT_STARTED", "stop"),
    Fate.REJECTED_SOFTLY: ("SUCCEEDED", "STOPPED", "NOT_STARTED", "stop"),
    Fate.CANARY_FAILED: ("TERMINAL", "NOT_STARTED", "NOT_STARTED", ""),
    Fate.FAILED: ("SUCCEEDED", "SUCCEEDED", "TERMINAL", "continue"),
    Fate.CANCELED: ("SUCCEEDED", "CANCELED", "NOT_STARTED", ""),
    Fate.SUPERSEDED: ("NOT_STARTED", "NOT_STARTED", "NOT_STARTED", ""),
    Fate.STARTUP_FAILURE: ("NOT_STARTED", "NOT_STARTED", "NOT_STARTED", ""),
}


def as_json(execution: Execution) -> dict[str, Any]:
    """The whole execution."""
    fate = execution.fate
    row = {
        "type": "PIPELINE",
        "id": execution.id,
        "application": APPLICATION,
        "name": execution.name,
        "status": execution.status,
        "buildTime": int(execution.created * 1000),
        "startTime": None if execution.status == "NOT_STARTED" else int(execution.created * 1000),
        "endTime": int(execution.fates[-1][0] * 1000) if fate else None,
        "canceled": execution.status == "CANCELED",
        "canceledBy": None,
        "cancellationReason": None,
        "trigger": {"type": "manual", **execution.trigger},
        "stages": _stages(execution),
    }
    if fate is Fate.CANCELED:
        row.update(canceledBy="alice", cancellationReason="not today")
    if fate is Fate.SUPERSEDED:
        row.update(canceledBy="spinnaker", cancellationReason=_SUPERSEDED)
    if fate is Fate.STARTUP_FAILURE:
        row.update(canceledBy="system", cancellationReason="Failed on startup: no such expected artifact")
    return row


def _stages(execution: Execution) -> list[dict[str, Any]]:
    canary, judgment, deploy, answer = _STAGES[execution.fate]
    if execution.status == "NOT_STARTED":
        canary = judgment = deploy = "NOT_STARTED"
    tag = "another" if execution.fate is Fate.OTHER_IMAGE else execution.tag
    bound = {"outputs.boundArtifacts": [{"reference": f"{REGISTRY}/{REPOSITORY}:{tag}"}]}
    return [
        _stage(execution, "1", "kayentaCanary", canary),
        _stage(execution, "2", "manualJudgment", judgment, context={"judgmentStatus": answer}),
        _stage(execution, "3", "deployManifest", deploy, outputs=bound if deploy == "SUCCEEDED" else {}),
    ]


def _stage(execution: Execution, ref: str, kind: str, status: str, **more: Any) -> dict[str, Any]:
    before = [str(int(ref) - 1)] if ref != "1" else []
    return {
        "id": f"{execution.id}-{ref}", "refId": ref, "type": kind, "name": kind, "status": status, "context": {},
        "outputs": {}, "tasks": [], "requisiteStageRefIds": before, "parentStageId": None, **more,
    }  # fmt: skip
