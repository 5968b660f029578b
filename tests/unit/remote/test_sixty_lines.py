"""The protocol is enough: a system that the core has never heard of, from the submit call to the result."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mlfleet.errors import JobFailed, SpecError
from mlfleet.remote.budget import LogBudget
from mlfleet.remote.conclusion import conclude
from mlfleet.remote.job import JobState, JobStatus
from mlfleet.remote.policies import OnFailed
from mlfleet.remote.polling import SharedPoll
from mlfleet.remote.protocol import RemoteSystem
from mlfleet.remote.submission import Submission
from mlfleet.remote.watching import End, Outcome, Watch
from tests.support import sixty_lines
from tests.support.adversity import Clock, Kill, Records
from tests.support.sixty_lines import Spool
from tests.support.task_world import TASK

SPEC: dict[str, Any] = {"words": "train me"}


class Bench:
    """A spool, a clock and somebody who works in the spool."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "spool"
        self.root.mkdir()
        self.system, self.records, self.clock = Spool(self.root), Records(), Clock()
        self.kinds: list[str] = []

    def enter(self, spec: dict[str, Any] = SPEC, generation: int = 0, **more: Any) -> JobStatus:
        submission = Submission(
            self.system, self.records, TASK, generation, tell=lambda one: self.kinds.append(one.kind),
            now=self.clock, sleep=self.clock.sleep, **more,
        )  # fmt: skip
        return asyncio.run(submission.enter(spec))

    def work(self, seconds: float, job_id: str, state: JobState, log: str = "", result: str = "") -> None:
        """In so many seconds the worker has got that far with the job."""

        def done() -> None:
            folder = self.root / job_id
            (folder / "log").write_text((folder / "log").read_text() + log)
            (folder / "result").write_text(result)
            (folder / "state").write_text(state)

        self.clock.after(seconds, done)

    def wait(self, job_id: str) -> tuple[Outcome, str]:
        said: list[str] = []

        async def connect() -> Spool:
            return self.system

        def itself(client: Any) -> RemoteSystem:
            return self.system

        async def watch() -> Outcome:
            poll = SharedPoll(connect, now=self.clock, sleep=self.clock.sleep, draw=lambda: 0.5)
            budget = LogBudget(now=self.clock, sleep=self.clock.sleep, draw=lambda: 0.5)
            try:
                return await Watch(poll=poll, make=itself, job_id=job_id, emit=said.append, budget=budget).run()
            finally:
                await poll.aclose()

        return asyncio.run(watch()), "\n".join(said)

    def conclude(self, outcome: Outcome) -> dict[str, Any]:
        return asyncio.run(conclude(lambda: self.system, outcome))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_it_is_sixty_lines_at_most() -> None:
    assert len(Path(sixty_lines.__file__).read_text().splitlines()) <= 60


def test_from_the_submit_call_to_the_result(bench: Bench) -> None:
    status = bench.enter()
    bench.work(5, status.id, JobState.RUNNING, "epoch 1\nepo")
    bench.work(30, status.id, JobState.SUCCEEDED, "ch 2\n", "loss 0.1")
    outcome, said = bench.wait(status.id)
    assert outcome.end is End.FINISHED
    assert [line for line in said.splitlines() if line.startswith("epoch")] == ["epoch 1", "epoch 2"]
    assert bench.conclude(outcome) == {"said": "loss 0.1"}


def test_a_process_that_dies_leaves_a_job_that_is_found_again(bench: Bench) -> None:
    bench.records.begin(kill_at=1)
    with pytest.raises(Kill):
        bench.enter()
    bench.records.begin()
    status = bench.enter()
    assert bench.kinds[-1] == "adopted"
    assert [folder.name for folder in bench.root.iterdir()] == [status.id]


def test_a_clear_stops_what_works_and_begins_again(bench: Bench) -> None:
    first = bench.enter()
    second = bench.enter(generation=1)
    assert first.id != second.id
    assert (bench.root / first.id / "state").read_text() == "stopped"


def test_a_failure_is_told_with_its_log_and_goes_on_where_it_is_asked_to(bench: Bench) -> None:
    status = bench.enter()
    bench.work(5, status.id, JobState.FAILED, "no more disk\n")
    outcome, _ = bench.wait(status.id)
    with pytest.raises(JobFailed) as caught:
        bench.conclude(outcome)
    assert caught.value.log_tail == ("no more disk",)
    again = bench.enter(on_failed=OnFailed.RESUME)
    assert (again.id, again.state, bench.kinds[-1]) == (status.id, JobState.PENDING, "resumed")


def test_what_it_refuses_is_an_error_of_the_specification(bench: Bench) -> None:
    with pytest.raises(SpecError):
        bench.enter({})
    assert list(bench.root.iterdir()) == []
