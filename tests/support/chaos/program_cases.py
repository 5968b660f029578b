"""What all tasks share dies, stands still or is started anew: the triggerer, the scheduler, a server."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence

import httpx

from sandbox.settings import SandboxError
from tests.support.chaos.airflow import ChaosAirflow
from tests.support.chaos.case import ONE, REPLACED, Case, Expected, deferred
from tests.support.chaos.stage import PATIENCE, Stage
from tests.support.processes import wait_for

TRIGGERER, SECOND = "airflow-triggerer", "airflow-triggerer-2"


def triggerer_killed(airflow: ChaosAirflow, stages: Sequence[Stage]) -> None:
    airflow.end(TRIGGERER, signal.SIGKILL)
    airflow.start_program(TRIGGERER)


def triggerer_restarted(airflow: ChaosAirflow, stages: Sequence[Stage]) -> None:
    airflow.end(TRIGGERER, signal.SIGTERM)
    airflow.start_program(TRIGGERER)


def triggerer_stands_still(airflow: ChaosAirflow, stages: Sequence[Stage]) -> None:
    """Past its health threshold, so that a second one takes over; then it goes on as if nothing had been."""
    first = {found for stage in stages if (found := stage.triggerer()) is not None}
    airflow.start_program("airflow-triggerer", SECOND)
    wait_for(lambda: len(airflow.jobs("TriggererJob")) > 1, "the second triggerer")
    _stop_outside_of_a_write(airflow)
    try:
        for stage in stages:
            stage.until(lambda stage=stage: stage.triggerer() not in {*first, None}, "the second triggerer has it")
    finally:
        airflow.signal(TRIGGERER, signal.SIGCONT)
    for _ in range(3):  # the first one notices what it lost, and kills it, in one of its rounds
        airflow.next_beat("TriggererJob", first)
    # The second one stays: the first one's end is one more move of its triggers, if it had any left.
    airflow.end(TRIGGERER, signal.SIGTERM)
    airflow.services[TRIGGERER] = airflow.services.pop(SECOND)


def mark_without_triggerer(airflow: ChaosAirflow, stages: Sequence[Stage]) -> None:
    airflow.end(TRIGGERER, signal.SIGKILL)
    for stage in stages:
        stage.mark("failed")
    airflow.start_program(TRIGGERER)
    wait_for(lambda: airflow.api.healthy()["triggerer"] == "healthy", "a triggerer")


def scheduler_killed(airflow: ChaosAirflow, stages: Sequence[Stage]) -> None:
    airflow.end("airflow-scheduler", signal.SIGKILL)
    airflow.start_program("airflow-scheduler")


def recreated_while_live(airflow: ChaosAirflow, stages: Sequence[Stage]) -> None:
    for stage in stages:
        # Airflow deletes no running DAG run; these three come so quickly that the trigger may find the new run's task.
        stage.fail_run()
        stage.delete_run()
        stage.start()

    def again() -> bool:
        # The scheduler falls over a run that is deleted while it looks at it (3.3.2, _schedule_all_dag_runs).
        airflow.revive("airflow-scheduler")
        return all(len(stage.executions()) > 1 for stage in stages)

    wait_for(again, "the jobs of the new runs", PATIENCE, 1)


def polyaxon_restarted(airflow: ChaosAirflow, stages: Sequence[Stage]) -> None:
    airflow.end("polyaxon", signal.SIGTERM)
    airflow.start_server("polyaxon")


def kfp_restarted(airflow: ChaosAirflow, stages: Sequence[Stage]) -> None:
    airflow.end("kfp", signal.SIGTERM)
    airflow.start_server("kfp")


def carry_on(stage: Stage) -> None:
    """Lets the job end once it is asked for again."""
    stage.wait_polled()
    stage.finish()


def let_end(stage: Stage) -> None:
    stage.finish()


def run_again(stage: Stage) -> None:
    stage.wait_running(2)
    stage.finish()


def each_line_once(stage: Stage) -> str:
    """Every line of the remote log is in the task's log, once, in order."""
    found = _lines(stage)
    wanted = list(range(1, max(found, default=0) + 1))
    return "" if found == wanted else f"lines of the remote log in the task's log: {found}"


def lines_may_repeat(stage: Stage) -> str:
    """No line is missing; if one repeats, a line of the log says so once."""
    found, told = _lines(stage), stage.log().count("may repeat")
    if set(found) != set(range(1, max(found, default=0) + 1)):
        return f"lines of the remote log are missing: {sorted(set(found))}"
    if len(found) != len(set(found)) and told != 1:
        return f"lines repeat, and the log says so {told} times"
    return ""


def left_alone(stage: Stage) -> str:
    """The first triggerer was told to end what it had lost, as if by a person, and did not stop the job."""
    if "invoking on_kill" not in stage.log():
        return "the first triggerer was never told to end its trigger: the case shows nothing"
    return lines_may_repeat(stage)


def _lines(stage: Stage) -> list[int]:
    found = re.findall(r"^(?:\[job\] )?line (\d+)$", stage.log(), re.MULTILINE)
    return [int(number) for number in found]


def _stop_outside_of_a_write(airflow: ChaosAirflow) -> None:
    """SIGSTOP; a process that stands still in the middle of a write would hold up everybody on SQLite."""
    for attempt in range(10):
        airflow.signal(TRIGGERER, signal.SIGSTOP)
        try:
            with airflow.writing:
                airflow.api.call("POST", "/variables", json={"key": f"written_{attempt}", "value": "x"})
        except (SandboxError, httpx.TransportError):
            airflow.signal(TRIGGERER, signal.SIGCONT)
        else:
            return
    raise AssertionError("the triggerer was never stopped outside of a write")


AWAKE = Expected(ONE, tries=1)
CASES = (
    Case("kill -9 of the triggerer, and another one starts", "triggerer_killed", deferred, AWAKE, quick=True,
         strike=triggerer_killed, after=carry_on, check=lines_may_repeat),
    Case("SIGTERM to the triggerer, and another one starts (a rolling deploy)", "triggerer_restarted", deferred, AWAKE,
         strike=triggerer_restarted, after=carry_on, check=each_line_once),
    Case("the triggerer stands still past its health threshold, a second one takes over, the first one goes on",
         "triggerer_still", deferred, AWAKE, strike=triggerer_stands_still, after=carry_on, check=left_alone),
    Case("mark failed while no triggerer runs", "marked_unwatched", deferred, Expected(ONE, "failed", 1),
         strike=mark_without_triggerer, after=let_end),
    Case("kill -9 of the scheduler while deferred", "scheduler_killed", deferred, AWAKE, strike=scheduler_killed,
         after=carry_on),
    Case("the DAG run is failed, deleted and made again under the same id while the job runs", "recreated_while_live",
         deferred, Expected(REPLACED, tries=1), strike=recreated_while_live, after=let_end),
    Case("Polyaxon's server is restarted", "polyaxon_restarted", deferred, AWAKE, systems=("polyaxon",),
         strike=polyaxon_restarted, after=carry_on, quick=True),
    Case("the KFP stand-in is restarted, which ends its runs", "kfp_restarted", deferred,
         Expected(("failed", "succeeded")), systems=("kfp",), strike=kfp_restarted, after=run_again, quick=True),
)  # fmt: skip
