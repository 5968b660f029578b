"""The worker's process dies, is cleared or loses its answers, at every point of a submit."""

from __future__ import annotations

import os
import signal
import time

from tests.support.chaos.case import IN_SLOT, ONE, REPLACED, Case, Expected, deferred, waiting_in_slot
from tests.support.chaos.interposer import Act
from tests.support.chaos.stage import Stage
from tests.support.processes import alive, descendants, identify

_GRACE = 2.0  # seconds between SIGTERM and SIGKILL of a rolling deploy


def before_record(stage: Stage) -> None:
    rule = stage.on_list(Act.HOLD_REQUEST)
    stage.start()
    rule.wait()
    stage.signal_worker(signal.SIGKILL)
    rule.let_go(pass_on=False)
    stage.finish()


def before_submit(stage: Stage) -> None:
    rule = stage.on_submit(Act.HOLD_REQUEST)
    stage.start()
    rule.wait()
    stage.signal_worker(signal.SIGKILL)
    rule.let_go(pass_on=False)
    stage.finish()


def during_submit(stage: Stage) -> None:
    rule = stage.on_submit(Act.HOLD_REQUEST)
    stage.start()
    rule.wait()
    stage.signal_worker(signal.SIGKILL)
    looked = stage.looks()
    stage.until(lambda: stage.looks() > looked, "the next try has looked")
    rule.let_go()
    stage.finish()


def after_submit(stage: Stage) -> None:
    rule = stage.on_submit(Act.HOLD_ANSWER)
    stage.start()
    rule.wait()
    stage.signal_worker(signal.SIGKILL)
    rule.let_go(pass_on=False)
    stage.finish()


def before_approval(stage: Stage) -> None:
    rule = stage.on_approve(Act.HOLD_REQUEST)
    stage.start()
    rule.wait()
    stage.signal_worker(signal.SIGKILL)
    rule.let_go(pass_on=False)
    stage.finish()


def in_its_slot(stage: Stage) -> None:
    waiting_in_slot(stage)
    stage.signal_worker(signal.SIGKILL)
    stage.finish()


def in_last_leg(stage: Stage) -> None:
    deferred(stage)
    _kill_when_it_reads(stage)


def with_its_machine(stage: Stage) -> None:
    rule = stage.on_submit(Act.HOLD_ANSWER)
    stage.start()
    rule.wait()
    pid = stage.worker()
    supervisor = int(_parent(pid))
    assert identify(supervisor) in descendants(stage.airflow.services["airflow-scheduler"].pid)
    # The one that reports the end of the task first: nobody is left to tell Airflow.
    os.kill(supervisor, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    rule.let_go(pass_on=False)
    stage.finish()


def rolling_deploy(stage: Stage) -> None:
    rule = stage.on_submit(Act.HOLD_ANSWER)
    stage.start()
    rule.wait()
    worker = identify(stage.worker())
    stage.signal_worker(signal.SIGTERM)
    time.sleep(_GRACE)
    if worker is not None and alive(worker):
        stage.signal_worker(signal.SIGKILL)
    rule.let_go(pass_on=False)
    stage.finish()


def answer_lost(stage: Stage) -> None:
    rule = stage.on_submit(Act.DROP_ANSWER)
    stage.start()
    rule.wait()
    stage.finish()


def answered_500(stage: Stage) -> None:
    rule = stage.on_submit(Act.ANSWER_500)
    stage.start()
    rule.wait()
    stage.finish()


def cleared_while_running(stage: Stage) -> None:
    rule = stage.on_submit(Act.HOLD_ANSWER)
    stage.start()
    rule.wait()
    worker = identify(stage.worker())
    stage.clear()
    stage.until(lambda: worker is None or not alive(worker), "the worker is ended by Airflow")
    rule.let_go(pass_on=False)
    stage.wait_task("deferred", tries=2)
    stage.finish()


def state_store_cleaned(stage: Stage) -> None:
    deferred(stage)
    stage.airflow.command("state-store", "clean")
    _kill_when_it_reads(stage)


def _kill_when_it_reads(stage: Stage) -> None:
    """Lets the job end, and kills the process that reads its result, after the trigger has fired."""
    before = stage.task().get("pid")
    rule = stage.on_one(Act.HOLD_REQUEST)
    stage.finish()
    rule.wait()
    while (found := stage.task()).get("state") != "running" or found["pid"] == before:
        # The trigger asked for it, and has not fired yet.
        following = stage.on_one(Act.HOLD_REQUEST)
        rule.let_go()
        rule = following
        rule.wait()
    stage.signal_worker(signal.SIGKILL)
    rule.let_go(pass_on=False)


def _parent(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[1]


# Airflow tells a clear by max_tries, which it raises only when the executor says that the worker ended well.
TAKEN_FOR_RETRY = Expected(ONE, told="carried on with: Airflow counted a failed try instead of the clear")
CASES = (
    Case("kill -9 of the worker before its record is saved", "before_record", before_record),
    Case("kill -9 of the worker before its submit request leaves", "before_submit", before_submit),
    Case("kill -9 of the worker during the submit; the request arrives after the next try has looked", "during_submit",
         during_submit, quick=True),
    Case("kill -9 of the worker after the server has committed, before the record has the id", "after_submit",
         after_submit, quick=True),
    Case("kill -9 of the worker between submit and approval", "before_approval", before_approval,
         systems=("polyaxon",), quick=True),
    Case("kill -9 of the worker that waits in its slot (`deferrable=False`)", "in_its_slot", in_its_slot,
         deployed=IN_SLOT),
    Case("kill -9 of the worker while it reads the result", "in_last_leg", in_last_leg),
    Case("the worker's machine dies during the submit", "with_its_machine", with_its_machine),
    Case("SIGTERM, then SIGKILL of the worker during the submit (a rolling deploy)", "rolling_deploy", rolling_deploy,
         quick=True),
    Case("the answer to the submit is lost after the server has committed", "answer_lost", answer_lost,
         Expected(tries=1), quick=True),
    Case("the submit is answered with 500 after the server has committed", "answered_500", answered_500,
         Expected(tries=1)),
    Case("clear while the worker submits", "cleared_while_running", cleared_while_running,
         Expected(REPLACED), quick=True, instead=TAKEN_FOR_RETRY),
    Case("`airflow state-store clean`, then kill -9 of the worker", "state_store_cleaned", state_store_cleaned),
)  # fmt: skip
