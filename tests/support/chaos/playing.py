"""Plays cases on one Airflow, and makes a row of the table of each."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.support.chaos import person_cases, program_cases, worker_cases
from tests.support.chaos.airflow import ChaosAirflow
from tests.support.chaos.case import Case, Expected
from tests.support.chaos.ledger import Servers, overlapping
from tests.support.chaos.stage import Stage
from tests.support.processes import wait_for

CASES: tuple[Case, ...] = (*worker_cases.CASES, *program_cases.CASES, *person_cases.CASES)
# Workers of the chaos Airflow; more cases at a time would only wait for each other.
AT_A_TIME = 8
Play = tuple[Case, str]


@dataclass(frozen=True)
class Row:
    """A line of the table. ``duplicates``, ``lost`` and ``wrong`` count what went wrong, ``problems`` says it,
    or else ``told``.

    A duplicate is an execution beyond the expected ones, or one that began while an earlier one ran. Lost is an
    execution that should have been, or a job that runs on after its task has ended. ``spent`` are tries that Airflow
    ended itself, which are not counted as wrong.
    """

    event: str
    system: str
    executions: int
    jobs: tuple[str, ...]
    task: str
    tries: int
    spent: int
    duplicates: int
    lost: int
    wrong: int
    problems: tuple[str, ...]
    told: str
    seconds: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def play_all(plays: Sequence[Play], root: Path) -> dict[Play, Row]:
    """The rows of all plays; the logs of the tasks are kept below ``root``."""
    with _on_stage(plays, root) as (airflow, stages), ThreadPoolExecutor(AT_A_TIME) as pool:
        apart = {play: pool.submit(_alone, play[0], stages[play]) for play in plays if play[0].strike is None}
        rows = {play: future.result() for play, future in apart.items()}
        for case in dict.fromkeys(case for case, _ in plays if case.strike is not None):
            mine = {play: stages[play] for play in plays if play[0] is case}
            rows |= _together(case, mine, airflow, pool)
    return rows


@contextlib.contextmanager
def _on_stage(plays: Sequence[Play], root: Path) -> Iterator[tuple[ChaosAirflow, dict[Play, Stage]]]:
    deployed = {play: play[0].deploy(play[1]) for play in plays}
    with ChaosAirflow(root, tuple(deployed.values())) as airflow:
        servers = Servers(airflow.settings.url("polyaxon"), airflow.settings.url("kfp"))
        with contextlib.closing(servers):
            for each in deployed.values():
                wait_for(lambda each=each: airflow.api.dag(each.dag_id), f"{each.dag_id} parsed", 180, 1)  # type: ignore[misc]
            yield airflow, {play: Stage(airflow, servers, each) for play, each in deployed.items()}


def _alone(case: Case, stage: Stage) -> Row:
    began = time.monotonic()
    return _row(case, stage, _trouble(case.play, stage), began)


def _together(
    case: Case, stages: dict[Play, Stage], airflow: ChaosAirflow, pool: ThreadPoolExecutor
) -> dict[Play, Row]:
    began = time.monotonic()
    assert case.strike is not None
    ready = {play: pool.submit(_trouble, case.play, stage) for play, stage in stages.items()}
    trouble = {play: future.result() for play, future in ready.items()}
    if not any(trouble.values()):
        struck = _trouble(lambda _: case.strike(airflow, list(stages.values())), None)  # type: ignore[misc]
        after = {play: pool.submit(_trouble, case.after, stage) for play, stage in stages.items()}
        trouble = {play: struck or future.result() for play, future in after.items()}
    rows: dict[Play, Future[Row]] = {
        play: pool.submit(_row, case, stage, trouble[play], began) for play, stage in stages.items()
    }
    return {play: future.result() for play, future in rows.items()}


def _trouble(step: Callable[[Any], None], stage: Any) -> str:
    """Takes the step; what went wrong with it, in words, or ""."""
    try:
        step(stage)
    except Exception as error:  # one case's trouble must not end the others
        return f"{type(error).__name__}: {error}"
    return ""


def _row(case: Case, stage: Stage, trouble: str, began: float) -> Row:
    if trouble:
        stage.finish()  # nobody else lets the job go any more
    trouble = trouble or _trouble(lambda on: on.settle(), stage)
    task, jobs, executions = stage.task(), stage.jobs(), stage.executions()
    spent = stage.airflow.spent_tries(stage.dag_id)
    folder = stage.airflow.root / "task-logs"
    folder.mkdir(exist_ok=True)
    (folder / f"{stage.dag_id}.txt").write_text(stage.log())
    states = tuple(job.state for job in jobs)
    expected = case.instead if case.instead is not None and case.instead.jobs == states else case.expected
    wanted = expected.jobs
    # A job that was stopped may have been stopped before it ran.
    least = sum(state != "stopped" for state in wanted)
    duplicates = max(len(executions) - len(wanted), 0) + overlapping(executions)
    lost = max(least - len(executions), 0) + sum(job.live for job in jobs)
    problems = [
        trouble or case.check(stage),
        "" if states == wanted else f"jobs {list(states)} instead of {list(wanted)}",
        _unlike(task, expected, spent),
        f"{duplicates} executions too many" if duplicates else "",
        f"{lost} executions or ends are missing" if lost else "",
    ]
    return Row(
        event=case.event, system=stage.deployed.system, executions=len(executions), jobs=states,
        task=str(task.get("state")), tries=int(task.get("try_number") or 0), spent=spent, duplicates=duplicates,
        lost=lost, wrong=int(any(problems)), problems=tuple(filter(None, problems)), told=expected.told,
        seconds=round(time.monotonic() - began, 1),
    )  # fmt: skip


def _unlike(task: dict[str, Any], expected: Expected, spent: int) -> str:
    """How the task differs from what is expected of it, or ""."""
    state, tries = task.get("state"), task.get("try_number")
    if (state, tries) == (expected.task, expected.tries + spent):
        return ""
    told = f" ({spent} of them spent by Airflow itself)" if spent else ""
    return f"the task is {state} in try {tries}{told} instead of {expected.task} in try {expected.tries}"
