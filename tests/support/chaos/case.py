"""What a case is: an event, on a system, and what must come of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.chaos.airflow import SYSTEMS, ChaosAirflow, Deployed
from tests.support.chaos.stage import Stage

ONE = ("succeeded",)
STOPPED = ("stopped",)
TWO = ("succeeded", "succeeded")
REPLACED = ("stopped", "succeeded")
# What a case deploys whose task waits in the worker instead of the triggerer.
IN_SLOT = {"deferrable": False}


@dataclass(frozen=True)
class Expected:
    """``jobs`` are the end states of all jobs, oldest first; ``tries`` the number of tries; ``told`` is the verdict."""

    jobs: tuple[str, ...] = ONE
    task: str = "success"
    tries: int = 2
    told: str = "as it must be"


def nothing(stage: Stage) -> None:
    """No more steps."""


def no_problem(stage: Stage) -> str:
    """Nothing else to look at."""
    return ""


@dataclass(frozen=True, eq=False)
class Case:
    """``play`` is what happens to one task.

    Cases without ``strike`` run at the same time, each with a connection of its own. A ``strike`` hits the programs
    that all tasks share, so such cases run one after the other: ``play`` for all, the strike once, ``after`` for all.
    ``instead`` is what comes of it when Airflow hides the event from us, known by its jobs.
    ``check`` says what else is wrong, or "". ``quick`` cases, some of each kind of event, are part of `make test`.
    """

    event: str
    slug: str
    play: Callable[[Stage], None]
    expected: Expected = field(default_factory=Expected)
    instead: Expected | None = None
    quick: bool = False
    systems: tuple[str, ...] = SYSTEMS
    strike: Callable[[ChaosAirflow, Sequence[Stage]], None] | None = None
    after: Callable[[Stage], None] = nothing
    check: Callable[[Stage], str] = no_problem
    deployed: dict[str, Any] = field(default_factory=dict)

    def deploy(self, system: str) -> Deployed:
        """The case's DAG for a system. What shares programs shares the connection too, and with it the poll."""
        dag_id = f"{self.slug}_{system}"
        return Deployed(dag_id, system, lane="shared" if self.strike else dag_id, **self.deployed)


def deferred(stage: Stage) -> None:
    """The task waits, its job runs, and a triggerer asks for it."""
    stage.start()
    stage.wait_task("deferred")
    stage.wait_running()
    stage.wait_polled()


def waiting_in_slot(stage: Stage) -> None:
    """The task's job runs, and the worker that submitted it waits for it."""
    stage.start()
    stage.wait_running()
    stage.wait_task("running")
