"""Orca: runs executions stage by stage, with its rules about concurrency, cancellation and restarts."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sandbox.spinnaker.model import COMPLETE, Execution, Stage, Store, final_status, new_execution, now_ms
from sandbox.spinnaker.stages import StageRunner

log = logging.getLogger("orca")
SHUTDOWN = "shutdown"
SUPERSEDED = (
    "This execution was queued but then canceled because a newer queued execution superceded it. This pipeline is"
    " configured to automatically cancel waiting executions when a new execution is queued."
)


class Pipelines:
    """Pipeline configurations: JSON files of one folder, read anew at every look, as front50's cache is short."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def all(self) -> list[dict[str, Any]]:
        """Every pipeline; a file that is no JSON is logged and left out."""
        found = []
        for file in sorted(self._folder.glob("*.json")):
            try:
                found.append(json.loads(file.read_text()))
            except ValueError as error:
                log.error("%s is not JSON: %s", file.name, error)
        return found

    def of(self, application: str) -> list[dict[str, Any]]:
        """The pipelines of an application."""
        return [pipeline for pipeline in self.all() if pipeline["application"] == application]

    def find(self, application: str, name_or_id: str) -> dict[str, Any] | None:
        """A pipeline by its name or id."""
        return next((p for p in self.of(application) if name_or_id in (p["name"], p["id"])), None)


class Orca:
    """All executions; one asyncio task per running one."""

    def __init__(self, store: Store, pipelines: Pipelines, stages: StageRunner) -> None:
        self._store = store
        self._pipelines = pipelines
        self._stages = stages
        self._running: dict[str, asyncio.Task[None]] = {}

    def start(self, pipeline: dict[str, Any], trigger: dict[str, Any], execution_id: str | None = None) -> Execution:
        """Creates an execution and starts or queues it.

        An execution with the same ``correlationId`` is returned instead (reference spinnaker.md, 1.5).
        """
        correlation = trigger.get("correlationId")
        for known in self._store.executions.values():
            if correlation and known["trigger"].get("correlationId") == correlation:
                return known
        execution = new_execution(pipeline, trigger, execution_id)
        self._store.save(execution)
        self._begin_or_queue(execution)
        return execution

    def resume_after_restart(self) -> None:
        """What was running goes on with the stages that had not ended, as with orca's queue; what was queued begins."""
        for execution in list(self._store.executions.values()):
            if execution["status"] == "RUNNING":
                self._reset(stage for stage in execution["stages"] if stage["status"] == "RUNNING")
                self._begin(execution)
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

    def restart(self, execution: Execution, stage_id: str) -> None:
        """Runs a stage and what comes after it again; silently nothing for a stage that has not ended."""
        stage = next((s for s in execution["stages"] if s["id"] == stage_id), None)
        if stage is None or stage["status"] not in {*COMPLETE, "NOT_STARTED"} or execution["id"] in self._running:
            return
        again = {stage["refId"]}
        for later in execution["stages"]:
            if again & set(later["requisiteStageRefIds"]):
                again.add(later["refId"])
        self._reset(each for each in execution["stages"] if each["refId"] in again)
        execution.update(status="NOT_STARTED", endTime=None, canceled=False, canceledBy=None, cancellationReason=None)
        self._begin_or_queue(execution)

    def delete(self, execution: Execution) -> bool:
        """Forgets an execution; False while it runs."""
        if execution["status"] == "RUNNING":
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

    def _begin(self, execution: Execution) -> None:
        execution.update(status="RUNNING", startTime=execution["startTime"] or now_ms())
        self._store.save(execution)
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
        for stage in execution["stages"]:
            if stage["status"] == "RUNNING":
                stage.update(status="CANCELED", endTime=now_ms())
        execution.update(status=status, endTime=now_ms())
        self._store.save(execution)
        waiting = [other for other in self._siblings(execution) if other["status"] == "NOT_STARTED"]
        if waiting and execution["limitConcurrent"]:
            keep = execution["keepWaitingPipelines"]
            self._begin_or_queue((min if keep else max)(waiting, key=lambda other: str(other["id"])))


def _is_ready(execution: Execution, stage: Stage) -> bool:
    if stage["status"] != "NOT_STARTED":
        return False
    before = {other["refId"]: other["status"] for other in execution["stages"]}
    return all(before.get(ref) in ("SUCCEEDED", "SKIPPED", "FAILED_CONTINUE") for ref in stage["requisiteStageRefIds"])
