"""Calls that are made at once."""

from __future__ import annotations

import asyncio

import pytest

from mlfleet.fleet.reading import read_all
from mlfleet.fleet.resources import Found, Kind
from mlfleet.fleet.together import together
from mlfleet.fleet.wanted import Wanted


class System:
    """Answers after some turns of the loop, or fails then; 0 turns is never."""

    name = "kfp"
    kinds = (Kind.EXPERIMENT,)

    def __init__(self, turns: int, failure: Exception | None = None) -> None:
        self.turns, self.failure, self.closed = turns, failure, False

    async def read(self, wanted: Wanted) -> list[Found]:
        for _ in range(self.turns):
            await asyncio.sleep(0)
        if not self.turns:
            await asyncio.Event().wait()
        if self.failure:
            raise self.failure
        return []

    async def aclose(self) -> None:
        self.closed = True


def test_a_fault_in_one_leaves_no_connection_of_another_behind() -> None:
    """Left to itself the other call went on until the event loop was closed over it."""
    waiting, failing = System(0), System(2, ZeroDivisionError())

    async def read() -> bool:
        with pytest.raises(ExceptionGroup) as caught:
            await read_all([waiting, failing], Wanted(()))  # type: ignore[list-item]
        assert caught.group_contains(ZeroDivisionError)
        return waiting.closed

    assert asyncio.run(read())


def test_results_come_in_the_order_of_the_calls() -> None:
    async def told(turns: int) -> int:
        for _ in range(turns):
            await asyncio.sleep(0)
        return turns

    assert asyncio.run(together(told(turns) for turns in (3, 0, 2))) == [3, 0, 2]
