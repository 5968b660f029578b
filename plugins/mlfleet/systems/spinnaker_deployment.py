"""One deployment that is waited for: what to look for, and what is known about its execution so far."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mlfleet.clients.answers import number
from mlfleet.clients.spinnaker import Glance
from mlfleet.clients.spinnaker_images import Image
from mlfleet.clients.spinnaker_outcome import OutcomeKind, deployment_outcome
from mlfleet.remote.job import JobStatus, digest

# Clocks of Airflow and Spinnaker differ; the tag is unique, so looking a little earlier costs nothing.
_SKEW_MS = 60_000

Execution = Mapping[str, Any]


@dataclass(frozen=True)
class Deployment:
    """What to look for.

    ``repository``      without the registry's host; ``registry`` is that host, for a start by hand, "" when not known
    ``since_ms``        the release in epoch milliseconds
    ``start_timeout``   seconds after it by which an execution must have appeared
    ``on_not_started``  "fail", or "start": start the pipeline by hand, with the same image, when none has
    """

    application: str
    pipeline: str
    repository: str
    tag: str
    digest: str | None
    since_ms: int
    start_timeout: float = 600.0
    on_not_started: str = "fail"
    registry: str = ""

    @property
    def id(self) -> str:
        """The job's id: the tag, because the execution's id is not known before it was found."""
        return f"{self.repository}:{self.tag}"

    @property
    def image(self) -> Image:
        """What is deployed."""
        return Image(self.repository, self.tag, self.digest)

    @property
    def earliest_ms(self) -> int:
        """The earliest ``buildTime`` that an execution of it can have."""
        return max(0, self.since_ms - _SKEW_MS)

    @property
    def correlation_id(self) -> str:
        """Made from the tag and nothing that changes: whoever starts this deployment by hand says the same."""
        return f"mlfleet:{self.tag}:{digest([self.application, self.pipeline, self.repository, self.tag])[:12]}"

    def as_json(self) -> dict[str, Any]:
        """JSON for a trigger."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Deployment:
        """The opposite."""
        return cls(**data)


@dataclass
class Followed:
    """What one view knows about its deployment's execution.

    ``execution``   as last seen, whole or without contexts; None before one was found
    ``told``        the status that was made of it, good as long as the execution looks like ``looks``
    ``glance``      the last list's glance for which ``told`` was still good
    ``others``      how many more executions of the tag there are
    ``asked_at``    epoch seconds of the last start by hand, 0.0 for none; ``answered`` whether Gate said yes to it
    ``given_up``    ids of executions that never began, and that a start by hand replaces
    """

    wanted: Deployment
    execution: Execution | None = None
    told: JobStatus | None = None
    looks: object = None
    glance: Glance | None = None
    others: int = 0
    asked_at: float = 0.0
    answered: bool = False
    given_up: set[str] = field(default_factory=set)

    @property
    def execution_id(self) -> str | None:
        """None before one was found."""
        return None if self.execution is None else str(self.execution["id"])

    def own(self, rows: Sequence[Execution]) -> list[Execution]:
        """Those of a search's rows that are executions of this deployment."""
        wanted, image = self.wanted, self.wanted.image
        return [
            row
            for row in rows
            if row.get("name") == wanted.pipeline
            and number(row.get("buildTime")) >= wanted.earliest_ms
            and str(row.get("id")) not in self.given_up
            and image.was_wanted_by(row)
        ]

    def unchanged(self, glances: Mapping[str, Glance]) -> JobStatus | None:
        """What was told last, if a list's glance shows that nothing has happened since."""
        if self.glance is None or self.execution_id is None:
            return None
        return self.told if glances.get(self.execution_id) == self.glance else None

    def seen_in(self, glances: Mapping[str, Glance]) -> None:
        """``told`` is good for what these glances show."""
        self.glance = glances.get(self.execution_id or "")

    def choose(self, rows: Sequence[Execution]) -> None:
        """Take the one to follow from a search's rows, if it is there.

        The newest; but one that was superseded in the queue is not what became of the tag if there is another.
        """
        own = self.own(rows)
        if own:
            alive = [row for row in own if row.get("status") != "CANCELED"] or own
            self.others = len(own) - 1
            self.execution = max(alive, key=lambda row: number(row.get("buildTime")))

    def keep(self, execution: Execution, told: JobStatus) -> None:
        """An execution, and what was made of it."""
        self.execution, self.told, self.looks, self.glance = execution, told, looks_of(execution), None

    def forget(self, ids: Collection[str]) -> None:
        """Look for another execution than these."""
        self.given_up.update(ids)
        self.execution = self.told = self.looks = self.glance = None

    def waits_since(self) -> float:
        """The epoch second from which ``start_timeout`` counts."""
        return max(self.wanted.since_ms / 1000, self.asked_at)


def looks_of(execution: Execution) -> object:
    """What a list shows of an execution; equal as long as nothing happened that it could show."""
    stages = [stage for stage in execution.get("stages") or () if isinstance(stage, Mapping)]
    shown = tuple((stage.get("id"), stage.get("status")) for stage in stages)
    return execution.get("status"), bool(execution.get("canceled")), shown


def never_began(execution: Execution, image: Image) -> bool:
    """Whether it ended before its first stage; a row without contexts is enough to tell."""
    outcome = deployment_outcome(execution, image.repository, image.tag, image.digest)
    return outcome.kind is OutcomeKind.STARTUP_FAILURE
