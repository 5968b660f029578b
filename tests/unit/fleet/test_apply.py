from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from mlfleet.errors import AuthError, RemoteError, RequestRefused, TransientError
from mlfleet.fleet.apply import Applied, Outcome, apply_steps, steps_of
from mlfleet.fleet.plan import Action, Change, Plan
from mlfleet.fleet.resources import Found, Kind, Resource


class System:
    """Takes everything, or raises what a test gives for a name; keeps what it was asked and how much at a time."""

    def __init__(
        self, name: str, *kinds: Kind, trouble: Callable[[str], RemoteError | None] = lambda name: None
    ) -> None:
        self.name, self.kinds = name, kinds
        self.trouble = trouble
        self.asked: list[str] = []
        self.now = self.most = 0
        self.closed = False

    async def _do(self, what: str, name: str) -> None:
        self.asked.append(f"{what} {name}")
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.001)
        self.now -= 1
        if error := self.trouble(name):
            raise error

    async def read(self, wanted: Sequence[Resource]) -> list[Found]:
        raise AssertionError("apply reads nothing: the plan has")

    async def create(self, resource: Resource) -> None:
        await self._do("create", resource.name)

    async def change(self, resource: Resource, found: Found) -> None:
        await self._do("change", resource.name)

    async def retire(self, found: Found) -> str:
        await self._do("retire", found.name)
        return "archived"

    async def aclose(self) -> None:
        self.closed = True


def create(kind: Kind, *names: str) -> list[Change]:
    return [Change(Action.CREATE, kind, name, wanted=Resource(kind, name)) for name in names]


def orphan(kind: Kind, name: str, hands_off: bool = False) -> Change:
    return Change(Action.ORPHAN, kind, name, found=Found(kind, name, ours=True, hands_off=hands_off))


def done(changes: list[Change], *systems: System, prune: bool = False, concurrency: int = 8) -> Applied:
    applied = steps_of(Plan(tuple(changes), 0), prune=prune)
    asyncio.run(apply_steps(applied, systems, concurrency=concurrency))
    assert all(system.closed for system in systems)
    return applied


def outcomes(applied: Applied) -> dict[str, str]:
    return {step.change.name: step.outcome.value for step in applied.steps}


def test_no_more_at_a_time_than_asked_for() -> None:
    system = System("polyaxon", Kind.PROJECT)
    done(create(Kind.PROJECT, *map(str, range(20))), system, concurrency=3)
    assert system.most == 3
    assert len(system.asked) == 20


def test_nothing_is_retired_without_being_asked_for_and_what_is_left_to_people_never() -> None:
    changes = [orphan(Kind.PROJECT, "gone"), orphan(Kind.PROJECT, "theirs", hands_off=True)]
    system = System("polyaxon", Kind.PROJECT)
    assert done(changes, system).steps == []
    assert outcomes(done(changes, system, prune=True)) == {"gone": "done"}
    assert system.asked == ["retire gone"]


def test_applications_first_and_what_is_retired_last() -> None:
    spinnaker = System("spinnaker", Kind.APPLICATION, Kind.PIPELINE)
    changes = [
        orphan(Kind.PIPELINE, "old/deploy"), *create(Kind.PIPELINE, "shop/deploy"), *create(Kind.APPLICATION, "shop")
    ]  # fmt: skip
    done(changes, spinnaker, prune=True)
    assert spinnaker.asked == ["create shop", "create shop/deploy", "retire old/deploy"]


def test_one_refusal_keeps_no_other_from_being_done() -> None:
    refused = RequestRefused("polyaxon", "a reserved word")
    system = System("polyaxon", Kind.PROJECT, trouble=lambda name: refused if name == "b" else None)
    applied = done(create(Kind.PROJECT, *"abcdefgh"), system, concurrency=1)
    assert [name for name, outcome in outcomes(applied).items() if outcome != "done"] == ["b"]
    assert applied.of(Outcome.FAILED)[0].why == "polyaxon: a reserved word"


def test_a_system_that_is_away_is_given_up_and_another_one_is_not() -> None:
    away = System("kfp", Kind.EXPERIMENT, trouble=lambda name: TransientError("kfp", "is away"))
    other = System("polyaxon", Kind.PROJECT)
    applied = done([*create(Kind.EXPERIMENT, *"abcdefgh"), *create(Kind.PROJECT, "p")], away, other, concurrency=1)
    assert len(away.asked) == 3
    assert len(applied.of(Outcome.NOT_TRIED)) == 5
    assert {step.why for step in applied.of(Outcome.NOT_TRIED)} == {"kfp did not answer 3 times in a row"}
    assert outcomes(applied)["p"] == "done"


def test_failures_that_are_not_in_a_row_give_nobody_up() -> None:
    sometimes = System("kfp", Kind.EXPERIMENT,
                       trouble=lambda name: TransientError("kfp", "no") if int(name) % 2 else None)  # fmt: skip
    applied = done(create(Kind.EXPERIMENT, *map(str, range(12))), sometimes, concurrency=1)
    assert len(applied.of(Outcome.DONE)) == len(applied.of(Outcome.FAILED)) == 6


def test_refused_credentials_are_asked_once() -> None:
    system = System("kfp", Kind.EXPERIMENT, Kind.RECURRING, trouble=lambda name: AuthError("kfp", "refused with 403"))
    changes = [*create(Kind.EXPERIMENT, *"abc"), orphan(Kind.RECURRING, "r")]
    applied = done(changes, system, prune=True, concurrency=1)
    assert len(system.asked) == 1
    assert {step.why for step in applied.of(Outcome.NOT_TRIED)} == {"kfp refused the credentials before"}


def test_an_interruption_leaves_what_is_known_to_be_read() -> None:
    class Slow(System):
        async def create(self, resource: Resource) -> None:
            if resource.name == "b":
                raise KeyboardInterrupt
            await super().create(resource)

    applied = steps_of(Plan(tuple(create(Kind.PROJECT, *"abc")), 0), prune=False)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(apply_steps(applied, [Slow("polyaxon", Kind.PROJECT)], concurrency=1))
    assert outcomes(applied) == {"a": "done", "b": "not known", "c": "not tried"}
