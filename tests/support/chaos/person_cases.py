"""A person clears, marks, deletes, backfills; the job fails; its deadline passes."""

from __future__ import annotations

from sandbox.settings import SandboxError
from tests.support.chaos.case import (
    IN_SLOT,
    ONE,
    REPLACED,
    STOPPED,
    TWO,
    Case,
    Expected,
    deferred,
    waiting_in_slot,
)
from tests.support.chaos.interposer import Act
from tests.support.chaos.stage import Stage

_AWAY = 4  # calls that find no server


def cleared_while_deferred(stage: Stage) -> None:
    deferred(stage)
    stage.clear()
    stage.wait_running(2)
    stage.finish()


def cleared_in_slot(stage: Stage) -> None:
    waiting_in_slot(stage)
    stage.clear()
    stage.wait_running(2)
    stage.finish()


def cleared_after_success(stage: Stage) -> None:
    _succeeded(stage)
    stage.clear()
    stage.wait_running(2)


def cleared_after_failure(stage: Stage) -> None:
    deferred(stage)
    stage.fail()
    _wait_run(stage, "failed")
    stage.clear()
    stage.wait_running(2)
    stage.wait_task("deferred", tries=2)
    # There is no try to spare for a scheduler that hears late of the end of the process that deferred.
    for _ in range(2):
        stage.airflow.next_beat("SchedulerJob")
    stage.finish()


def marked_failed(stage: Stage) -> None:
    deferred(stage)
    stage.mark("failed")


def marked_success(stage: Stage) -> None:
    deferred(stage)
    stage.mark("success")


def marked_in_slot(stage: Stage) -> None:
    waiting_in_slot(stage)
    stage.mark("failed")


def job_fails(stage: Stage) -> None:
    deferred(stage)
    stage.fail()
    stage.wait_running(2)
    stage.finish()


def too_late(stage: Stage) -> None:
    deferred(stage)


def record_deleted(stage: Stage) -> None:
    deferred(stage)
    stage.forget()
    stage.clear()
    stage.wait_running(2)
    stage.finish()


def recreated_after_success(stage: Stage) -> None:
    _succeeded(stage)
    # The scheduler falls over a run that is deleted while it looks at it (3.3.2, _schedule_all_dag_runs).
    stage.airflow.next_beat("SchedulerJob")
    stage.delete_run()
    stage.start()
    stage.wait_running(2)


def reprocessed(stage: Stage) -> None:
    stage.finish()
    _backfill(stage, "none")
    stage.until(lambda: stage.airflow.api.runs(stage.dag_id), "the backfill's run")
    stage.run_id = stage.airflow.api.runs(stage.dag_id)[0]["dag_run_id"]
    stage.wait_task("success")
    _backfill(stage, "completed")
    stage.wait_running(2)


def server_away(stage: Stage) -> None:
    deferred(stage)
    rules = [stage.on_anything(Act.REFUSE, method) for method in ("GET", "POST")]
    refused = stage.calls()
    stage.until(lambda: stage.calls() >= refused + _AWAY, f"{_AWAY} calls without an answer")
    for rule in rules:
        stage.drop(rule)
    stage.finish()


def _succeeded(stage: Stage) -> None:
    stage.start()
    stage.finish()
    _wait_run(stage, "success")


def _wait_run(stage: Stage, state: str) -> None:
    """Until the task and its DAG run have ended in ``state``.

    Airflow loses a clear that comes between the two: it sees a running DAG run and does not queue it, and the scheduler
    ends the run all the same.
    """
    stage.wait_task(state)
    stage.until(lambda: stage.airflow.api.run(stage.dag_id, stage.run_id)["state"] == state, f"the run is {state}")


def _backfill(stage: Stage, reprocess: str) -> None:
    body = {"dag_id": stage.dag_id, "from_date": "2026-11-10T00:00:00Z", "to_date": "2026-11-10T23:00:00Z",
            "max_active_runs": 1, "reprocess_behavior": reprocess}  # fmt: skip

    def begun() -> bool:
        try:
            stage.insist("POST", "/backfills", body)
        except SandboxError as error:
            # The one before is closed by the scheduler a while after its last run.
            if "409" not in str(error):
                raise
            return False
        return True

    stage.until(begun, f"a backfill with reprocess {reprocess}")


CASES = (
    Case("clear while deferred", "cleared_while_deferred", cleared_while_deferred, Expected(REPLACED), quick=True),
    Case("clear while the worker waits in its slot (`deferrable=False`)", "cleared_in_slot", cleared_in_slot,
         Expected(REPLACED), deployed=IN_SLOT),
    Case("clear after success", "cleared_after_success", cleared_after_success, Expected(TWO), quick=True),
    Case("clear after failure", "cleared_after_failure", cleared_after_failure, Expected(("failed", "succeeded")),
         deployed={"retries": 0}),
    Case("mark failed while deferred", "marked_failed", marked_failed, Expected(STOPPED, "failed", 1), quick=True),
    Case("mark success while deferred", "marked_success", marked_success, Expected(STOPPED, "success", 1),
         quick=True),
    Case("mark failed while the worker waits in its slot (`deferrable=False`)", "marked_in_slot", marked_in_slot,
         Expected(STOPPED, "failed", 1), deployed=IN_SLOT),
    Case("the job fails and the task has a retry", "job_fails", job_fails, Expected(("failed", "succeeded"))),
    Case("the deadline passes while deferred", "too_late", too_late, Expected(STOPPED, "failed", 1),
         deployed={"retries": 0, "timeout": 30}, quick=True),
    Case("the record is deleted while deferred, then clear", "record_deleted", record_deleted, Expected(REPLACED)),
    Case("the DAG run is deleted and made again under the same id after success", "recreated_after_success",
         recreated_after_success, Expected(TWO, tries=1), quick=True),
    Case("a backfill is reprocessed (`reprocess_behavior` completed)", "reprocessed", reprocessed, Expected(TWO),
         deployed={"scheduled": True}, quick=True),
    Case("the server can't be reached for a while", "server_away", server_away, Expected(ONE, tries=1)),
)  # fmt: skip
