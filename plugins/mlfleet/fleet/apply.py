"""Doing what a plan says: a few changes at a time, each safe to do again.

A crash at any point leaves things as they should be or as they were, never half a thing that a later plan would take
for good: the next plan shows what is left. Nothing is remembered between two calls.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from mlfleet.errors import AuthError, MlfleetError, TransientError
from mlfleet.fleet.managed import ManagedSystem
from mlfleet.fleet.plan import Change, Plan
from mlfleet.fleet.resources import Kind

CONCURRENCY = 8
# So many changes in a row that a system could not take end the tries on it: it is down, and each costs half a minute.
_PATIENCE = 3
_VERBS = {"create": "created", "change": "changed", "drift": "set right"}


class Outcome(enum.StrEnum):
    """What became of a change."""

    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "not known"
    NOT_TRIED = "not tried"


@dataclass
class Step:
    """A change under way; ``verb`` is what was done, ``why`` is why it was not."""

    change: Change
    outcome: Outcome = Outcome.NOT_TRIED
    verb: str = ""
    why: str = ""


@dataclass
class Applied:
    """All steps with what became of them; may be read at any time, also after an interruption."""

    steps: list[Step] = field(default_factory=list)

    def of(self, outcome: Outcome) -> list[Step]:
        """Those with one outcome."""
        return [step for step in self.steps if step.outcome is outcome]


def steps_of(plan: Plan, *, prune: bool) -> Applied:
    """What there is to do; what nobody wants is in it only with ``prune``."""
    chosen = (change for change in plan.changes if not change.left_to_people and (prune or not change.retires))
    return Applied([Step(change) for change in chosen])


async def apply_steps(
    applied: Applied,
    systems: Sequence[ManagedSystem],
    *,
    concurrency: int = CONCURRENCY,
    progress: Callable[[Step], None] = lambda step: None,
) -> None:
    """Does the steps and writes into each what became of it; one that fails keeps no other from being done.

    Applications before their pipelines, and what nobody wants last. Never raises for what a system says.
    """
    by_kind = {kind: guarded for guarded in map(_Guarded, systems) for kind in guarded.system.kinds}
    gate = asyncio.Semaphore(concurrency)

    async def do(step: Step) -> None:
        async with gate:
            await by_kind[step.change.kind].do(step, applied)
        progress(step)

    try:
        for phase in _phases(applied.steps):
            async with asyncio.TaskGroup() as group:
                for step in phase:
                    group.create_task(do(step))
    finally:
        for system in systems:
            await system.aclose()


def _phases(steps: Sequence[Step]) -> Iterator[list[Step]]:
    making = [step for step in steps if not step.change.retires]
    yield [step for step in making if step.change.kind is not Kind.PIPELINE]
    yield [step for step in making if step.change.kind is Kind.PIPELINE]
    yield [step for step in steps if step.change.retires]


class _Guarded:
    """A system until it is given up: it refused our credentials, or could not take several changes in a row."""

    def __init__(self, system: ManagedSystem) -> None:
        self.system = system
        self._given_up = ""
        self._failures = 0

    async def do(self, step: Step, applied: Applied) -> None:
        missing = _failed_application(step, applied)
        if missing or self._given_up:
            step.why = missing or self._given_up
            return
        # What stays here when this very call is interrupted.
        step.outcome, step.why = Outcome.UNKNOWN, "its answer was not waited for"
        try:
            step.verb = await self._act(step.change)
        except MlfleetError as error:
            step.outcome, step.why = Outcome.FAILED, str(error)
            self._count(error)
        else:
            step.outcome, step.why, self._failures = Outcome.DONE, "", 0

    async def _act(self, change: Change) -> str:
        if change.wanted is None:
            assert change.found is not None
            return await self.system.retire(change.found)
        if change.found is None:
            await self.system.create(change.wanted)
        else:
            await self.system.change(change.wanted, change.found)
        return _VERBS[change.action.value]

    def _count(self, error: MlfleetError) -> None:
        if isinstance(error, AuthError):
            self._given_up = f"{self.system.name} refused the credentials before"
        elif isinstance(error, TransientError):
            self._failures += 1
            if self._failures >= _PATIENCE:
                self._given_up = f"{self.system.name} did not answer {self._failures} times in a row"


def _failed_application(step: Step, applied: Applied) -> str:
    """Why a pipeline cannot be saved: its application was to be made before, and was not."""
    if step.change.kind is not Kind.PIPELINE or step.change.retires:
        return ""
    application = step.change.name.partition("/")[0]
    for other in applied.steps:
        same = other.change.kind is Kind.APPLICATION and other.change.name == application
        if same and other.outcome is not Outcome.DONE:
            return f"its application {application} was not saved"
    return ""
