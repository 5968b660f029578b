"""What may happen to a `deploy` task: what workers, people and Spinnaker do (tests.support.deploy_world)."""

from __future__ import annotations

from dataclasses import dataclass

from tests.support.adversity import Fault
from tests.support.gate_execution import Fate
from tests.support.gate_model import Plan

_USUAL = Plan()
# One of the classes below, Policy excepted.
Action = object


@dataclass(frozen=True)
class Policy:
    """The manifest's choices, and what becomes of executions that are started by hand, in turn."""

    on_not_started: str = "fail"
    on_kill: str = "leave"
    start_plans: tuple[Plan, ...] = (_USUAL,)


@dataclass(frozen=True)
class Release:
    """A new tag is pushed. ``delays`` from the push to its executions, one each; without any it starts nothing."""

    delays: tuple[float, ...] = (60.0,)
    plan: Plan = _USUAL


@dataclass(frozen=True)
class Deploy:
    """A worker runs the task, then a triggerer waits: with bad luck, and what happens before the n-th call."""

    faults: tuple[Fault, ...] = ()
    meanwhile: tuple[int, Action] | None = None


@dataclass(frozen=True)
class Rewatch:
    """Another triggerer goes on waiting, if the task still waits."""

    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True)
class EndedByPerson:
    """A person marks or clears the task while it waits, with bad luck on the way to the stop."""

    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True)
class Wish:
    """A person sets ``rerun_mode`` to ``resume`` for the next try that gets through."""


@dataclass(frozen=True)
class PersonStarts:
    """A person starts the pipeline for this tag in Deck."""

    plan: Plan


@dataclass(frozen=True)
class RunAgain:
    """A person restarts a stage of the tag's executions that have ended."""

    plan: Plan


@dataclass(frozen=True)
class EndNow:
    """Live executions of the tag come to their end."""

    fate: Fate


@dataclass(frozen=True)
class CleanUp:
    """Spinnaker forgets executions that ended days ago."""


@dataclass(frozen=True)
class Starts:
    """From now on a start by hand takes that long, or never comes to anything."""

    delay: float | None


@dataclass(frozen=True)
class Searches:
    """What comes from now on is listed so much later; for ``hidden`` seconds a search finds nothing."""

    lag: float
    hidden: float = 0.0


@dataclass(frozen=True)
class EmptyReads:
    """For some seconds Gate answers reads of one execution with an empty 200."""

    seconds: float


@dataclass(frozen=True)
class Configure:
    """Somebody changes the pipeline: "right", "disabled", "other tags", "gone"."""

    how: str


@dataclass(frozen=True)
class Restart:
    """Spinnaker restarts, and is away for some seconds."""

    seconds: float


@dataclass(frozen=True)
class Pass:
    """Time passes."""

    seconds: float
