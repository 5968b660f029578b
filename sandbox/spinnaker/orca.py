"""Orca: runs executions stage by stage, with its rules about concurrency, cancellation and restarts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

from sandbox.spinnaker.artifacts import UnmatchedArtifact, resolved
from sandbox.spinnaker.model import COMPLETE, Execution, Stage, Store, final_status, new_execution, now_ms
from sandbox.spinnaker.stages import StageRunner
from sandbox.spinnaker.switches import Switches

log = logging.getLogger("orca")
SHUTDOWN = "shutdown"
SOMEBODY = "somebody"
SUPERSEDED = (
    "This execution was queued but then canceled because a newer queued execution superceded it. This pipeline is"
    " configured to automatically cancel waiting executions when a new execution is queued."
)


class Orca:
    """All executions; one asyncio task per running one."""

    def __init__(self, store: Store, stages: StageRunner, switches: Switches) -> None:
        self._store = store
        self._stages = stages
        self._switches = switches
        self._running: dict[str, asyncio.Task[None]] = {}
        self._unpaused: dict[str, asyncio.Event] = {}

    def start(self, pipeline: dict[str, Any], trigger: dict[str, Any], execution_id: str | None = None) -> Execution:
        """Creates an execution and starts or queues it.

        An execution with the same ``correlationId`` that has not ended is returned instead (reference spinnaker.md,
        1.5; SqlExecutionRepository treats one that has ended as not found). An expected artifact that is missing ends
        the execution before its first stage.
        """
        correlation = trigger.get("correlationId")
        for known in self._store.executions.values():
            same = correlation and known["trigger"].get("correlationId") == correlation
            if same and known["status"] not in COMPLETE:
                return known
        execution = new_execution(pipeline, trigger, execution_id)
        self._store.save(execution)
        try:
            execution["trigger"] = {**trigger, "resolvedExpectedArtifacts": resolved(pipeline, trigger)}
        except UnmatchedArtifact as error:
            execution.update(canceledBy="system", cancellationReason=f"Failed on startup: {error}")
            self._finish(execution, "TERMINAL")
            return execution
        if trigger.get("type") != "manual" and self._switches.spend("superseded"):
            self.cancel(execution, "spinnaker", SUPERSEDED)
        else:
            self._begin_or_queue(execution)
        return execution

    def resume_after_restart(self) -> None:
        """What was running goes on with the stages that had not ended, as with orca's queue; what was queued begins."""
        for execution in list(self._store.executions.values()):
            if execution["status"] in ("RUNNING", "PAUSED"):
                self._reset(stage for stage in execution["stages"] if stage["status"] == "RUNNING")
                self._begin(execution, execution["status"])
                if execution["canceled"]:
                    self.cancel(execution, execution["canceledBy"], execution["cancellationReason"])
        for execution in list(self._store.executions.values()):
            if execution["status"] == "NOT_STARTED":
                self._begin_or_queue(execution)

    def cancel(self, execution: Execution, user: str, reason: str) -> None:
        """Ends an execution: at once when it has not begun, else when its stage has noticed."""
        if execution["status"] in COMPLETE:
            return
        execution.update(canceled=True, canceledBy=user, cancellationReason=reason)
        task = self._running.get(execution["id"])
        if task is None:
            self._finish(execution, "CANCELED")
            return
        self._store.save(execution)
        task.cancel()

    def pause(self, execution: Execution, user: str) -> None:
        """Begins no further stage until it is resumed; raises ValueError for an execution that does not run."""
        self._require(execution, "RUNNING", "pause")
        paused = {"pausedBy": user, "pauseTime": now_ms(), "resumedBy": None, "resumeTime": None}
        execution.update(status="PAUSED", paused=paused)
        self._unpaused[execution["id"]].clear()
        self._store.save(execution)

    def resume(self, execution: Execution, user: str) -> None:
        """Goes on; raises ValueError for an execution that is not paused."""
        self._require(execution, "PAUSED", "resume")
        execution["paused"].update(resumedBy=user, resumeTime=now_ms())
        execution["status"] = "RUNNING"
        self._unpaused[execution["id"]].set()
        self._store.save(execution)

    @staticmethod
    def _require(execution: Execution, status: str, verb: str) -> None:
        if execution["status"] != status:
            raise ValueError(
                f"Unable to {verb} pipeline that is not {status} (executionId: {execution['id']},"
                f" currentStatus: {execution['status']})"
            )

    def restart(self, execution: Execution, stage_id: str, user: str) -> None:
        """Runs a stage and what comes after it again; silently nothing for a stage that has not ended."""
        stage = next((s for s in execution["stages"] if s["id"] == stage_id), None)
        if stage is None or stage["status"] not in {*COMPLETE, "NOT_STARTED"} or execution["id"] in self._running:
            return
        stage["context"]["restartDetails"] = {
            "restartedBy": user, "restartTime": now_ms(), "previousException": stage["context"].get("exception"),
        }  # fmt: skip
        again = _with_what_follows(execution, stage["refId"])
        self._reset(each for each in execution["stages"] if each["refId"] in again)
        for each in execution["stages"]:
            if each["refId"] in again and each["type"] == "manualJudgment":  # it is asked again
                each["context"].pop("judgmentStatus", None)
                each["context"].pop("lastModifiedBy", None)
        execution.update(status="NOT_STARTED", endTime=None, canceled=False, canceledBy=None, cancellationReason=None)
        self._begin_or_queue(execution)

    def delete(self, execution: Execution) -> bool:
        """Forgets an execution; False while it runs."""
        if execution["id"] in self._running:
            return False
        self._store.delete(execution["id"])
        return True

    async def aclose(self) -> None:
        """Ends the tasks; what ran is found again as running at the next start, and goes on."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel(SHUTDOWN)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _siblings(self, execution: Execution) -> Iterable[Execution]:
        return [
            other for other in self._store.executions.values()
            if other["pipelineConfigId"] == execution["pipelineConfigId"] and other["id"] != execution["id"]
        ]  # fmt: skip

    def _begin_or_queue(self, execution: Execution) -> None:
        busy = any(other["status"] == "RUNNING" for other in self._siblings(execution))
        if execution["limitConcurrent"] and busy:
            if not execution["keepWaitingPipelines"]:
                self._supersede_older(execution)
            return
        self._begin(execution)

    def _begin(self, execution: Execution, status: str = "RUNNING") -> None:
        execution.update(status=status, startTime=execution["startTime"] or now_ms())
        self._store.save(execution)
        unpaused = self._unpaused[execution["id"]] = asyncio.Event()
        if status != "PAUSED":
            unpaused.set()
        self._running[execution["id"]] = asyncio.create_task(self._run(execution))

    @staticmethod
    def _reset(stages: Iterable[Stage]) -> None:
        for stage in stages:
            stage["context"].pop("exception", None)
            stage.update(status="NOT_STARTED", startTime=None, endTime=None, outputs={}, tasks=[])

    def _supersede_older(self, execution: Execution) -> None:
        for other in self._siblings(execution):
            if other["status"] == "NOT_STARTED":
                self.cancel(other, "spinnaker", SUPERSEDED)

    async def _run(self, execution: Execution) -> None:
        try:
            await self._run_stages(execution)
            self._finish(execution, final_status(execution))
        except asyncio.CancelledError as stopped:
            if SHUTDOWN in stopped.args:
                raise
            self._finish(execution, "CANCELED")
        except Exception as error:  # a fault of the stand-in must not leave an execution running for ever
            log.exception("execution %s", execution["id"])
            execution.update(canceledBy="system", cancellationReason=f"Failed on startup: {error}")
            self._finish(execution, "TERMINAL")

    async def _run_stages(self, execution: Execution) -> None:
        """Runs every stage as soon as those before it have ended well; a terminal one ends the other branches."""
        running: set[asyncio.Task[None]] = set()
        try:
            while not any(stage["status"] == "TERMINAL" for stage in execution["stages"]):
                await self._unpaused[execution["id"]].wait()
                for stage in execution["stages"]:
                    if _is_ready(execution, stage):
                        stage["status"] = "RUNNING"
                        running.add(asyncio.create_task(self._run_stage(execution, stage)))
                if not running:
                    return
                ended, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    task.result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _run_stage(self, execution: Execution, stage: Stage) -> None:
        stage["startTime"] = now_ms()
        stage["tasks"] = [{
            "id": "1", "name": stage["type"], "implementingClass": "", "status": "RUNNING", "startTime": now_ms(),
            "endTime": None, "stageStart": True, "stageEnd": True, "loopStart": False, "loopEnd": False,
            "taskExceptionDetails": {},
        }]  # fmt: skip
        self._store.save(execution)
        status = await self._stages.run(execution, stage)
        stage["tasks"][0].update(status=status, endTime=now_ms())
        stage.update(status=status, endTime=now_ms())
        self._store.save(execution)

    def _finish(self, execution: Execution, status: str) -> None:
        self._running.pop(execution["id"], None)
        self._unpaused.pop(execution["id"], None)
        for stage in execution["stages"]:
            if stage["status"] == "RUNNING":
                stage.update(status="CANCELED", endTime=now_ms())
        execution.update(status=status, endTime=now_ms())
        self._store.save(execution)
        waiting = [other for other in self._siblings(execution) if other["status"] == "NOT_STARTED"]
        if waiting and execution["limitConcurrent"]:
            keep = execution["keepWaitingPipelines"]
            self._begin_or_queue((min if keep else max)(waiting, key=lambda other: str(other["id"])))
        if status == "TERMINAL" and self._switches.spend("restart_after_terminal"):
            failed = next((stage for stage in execution["stages"] if stage["status"] == "TERMINAL"), None)
            if failed is not None:
                asyncio.get_running_loop().call_later(1, self.restart, execution, failed["id"], SOMEBODY)


def _is_ready(execution: Execution, stage: Stage) -> bool:
    if stage["status"] != "NOT_STARTED":
        return False
    before = {other["refId"]: other["status"] for other in execution["stages"]}
    return all(before.get(ref) in ("SUCCEEDED", "SKIPPED", "FAILED_CONTINUE") for ref in stage["requisiteStageRefIds"])


def _with_what_follows(execution: Execution, ref_id: str) -> set[str]:
    """The stage and every stage that needs it, directly or not, in whatever order the pipeline lists them."""
    found, before = {ref_id}, 0
    while len(found) > before:
        before = len(found)
        found |= {stage["refId"] for stage in execution["stages"] if found & set(stage["requisiteStageRefIds"])}
    return found
