"""The agent's loop: take runs over, start and stop their runners, deliver what they wrote, leave nothing hanging."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

from sandbox.polyaxon.agent.api import DONE, AgentApi, RequestRefused, ServerUnavailable
from sandbox.polyaxon.agent.content import RUNTIMES, UnsupportedContent, read_content
from sandbox.polyaxon.agent.journal import Journal, Run, RunFolder, Status
from sandbox.polyaxon.agent.proc import kill_all_with_environment
from sandbox.polyaxon.agent.workspace import Workspace
from sandbox.polyaxon.layout import REPOSITORY

log = logging.getLogger("polyaxon.agent")

STOPPED = Status("stopped", "AgentStop", "The run was stopped on request.")
GONE = Status("stopped", "AgentStop", "The run was ended or deleted on the server while it ran.")
SHUT_DOWN = Status("failed", "AgentShutdown", "The sandbox's agent was shut down while the run was going on.")
LOST_RUNNER = Status(
    "failed",
    "RunnerLost",
    "The process that looked after the run died without a result; the run was ended.",
)
LOST_RECORD = Status(
    "failed", "AgentLostRun", "The agent has no record of this run, although it had been started; run it again."
)


@dataclass(frozen=True)
class Rhythm:
    """Seconds between two of the same; `busy` is the pause of the loop while runs are on, `idle` while none is."""

    busy: float = 0.4
    idle: float = 0.8
    cron: float = 5.0
    reconcile: float = 15.0


class Agent:
    """One agent of one server. Single-threaded: what the journal holds is always what the last answers said."""

    def __init__(self, api: AgentApi, journal: Journal, workspace: Workspace, rhythm: Rhythm | None = None) -> None:
        self.api = api
        self.journal = journal
        self.workspace = workspace
        self.rhythm = rhythm or Rhythm()
        self.ended = threading.Event()
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._next_cron = 0.0
        self._next_reconcile = 0.0
        self._reachable = True

    def loop(self) -> None:
        """Work until `ended` is set."""
        self.adopt()
        while not self.ended.is_set():
            try:
                self.turn()
            except Exception:
                # Whatever it was, an agent that is gone would leave every run hanging.
                log.exception("unexpected error, the agent goes on")
            self.ended.wait(self.rhythm.busy if any(self.journal) else self.rhythm.idle)

    def turn(self) -> None:
        """Ask the server once and do what there is to do."""
        try:
            self._poll()
            if time.monotonic() >= self._next_reconcile:
                self.reconcile()
                self._next_reconcile = time.monotonic() + self.rhythm.reconcile
            if time.monotonic() >= self._next_cron:
                self.api.cron()
                self._next_cron = time.monotonic() + self.rhythm.cron
            self._note_reachable(None)
        except (ServerUnavailable, RequestRefused) as error:
            # The answer to a poll may have been lost together with the runs in it.
            self._next_reconcile = 0.0
            self._note_reachable(error)
        for folder in self.journal:
            self._look_after(folder)

    def adopt(self) -> None:
        """Take up what an earlier agent left: runs go on, or start now if they never did."""
        for folder in self.journal:
            run = folder.run()
            if run is None:
                folder.remove()  # never acknowledged; the server still knows it as scheduled
            elif not folder.ended() and folder.runner() is None:
                log.info("%s was accepted by an earlier agent, starting it", run.uuid)
                self._start(folder, run)
            else:
                log.info("%s is adopted from an earlier agent", run.uuid)

    def reconcile(self) -> None:
        """Compare what the server believes with what is here.

        A run that the server handed to nobody (a lost answer, an agent that died) is started from its content; one that
        had been started but left no record is failed; one that ended on the server is ended here.
        """
        held = self.api.held()
        for uuid, status in held.items():
            if uuid in self.journal:
                continue
            found = self.api.run(uuid)
            if found is None or found[1] != status:
                continue
            if status == "scheduled":
                log.info("%s is scheduled on the server but was never started here, starting it", uuid)
                self.accept(found[0])
            else:
                log.warning("%s is %s on the server but unknown here, failing it", uuid, status)
                self._post(found[0], LOST_RECORD)
        for folder in self.journal:
            if folder.uuid not in held and not folder.ended():
                found = self.api.run(folder.uuid)
                if found is None or found[1] in DONE:
                    self.stop(folder, GONE)

    def accept(self, run: Run) -> None:
        """Write the run down, then start it."""
        folder = self.journal.folder(run.uuid)
        if run.uuid in self.journal:
            if not folder.ended():
                log.warning("%s was handed over a second time while it runs, ignored", run.uuid)
                return
            folder.remove()  # a resumed run keeps its uuid
        folder.create(run)
        self._start(folder, run)

    def stop(self, folder: RunFolder, how: Status) -> None:
        """Tell a run to end; its runner ends its processes and writes down the status."""
        if folder.ended():
            return
        if folder.intent() is None:
            log.info("%s: %s", folder.uuid, how.message)
            folder.write_intent(how)
        runner = folder.runner()
        if runner:
            runner.send(signal.SIGTERM)
        if folder.intent_age() > 3 * self.workspace.grace + 5:
            self._end_by_force(folder)

    def shut_down(self, keep_runs: bool) -> None:
        """End all runs, or leave them to the next agent; deliver what can still be delivered."""
        self.api.hurry()
        folders = list(self.journal)
        if not keep_runs:
            end = time.monotonic() + self.workspace.grace + 5
            while time.monotonic() < end and not all(folder.ended() for folder in folders):
                for folder in folders:
                    self.stop(folder, SHUT_DOWN)
                    self._notice_dead_runner(folder)
                time.sleep(0.1)
            for folder in folders:
                if not folder.ended():
                    self._end_by_force(folder)
        for folder in folders:
            self._deliver(folder)
        if not keep_runs:
            for child in self._children.values():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(5)

    def _poll(self) -> None:
        queued, stopping = self.api.state()
        for run in queued:
            log.info("%s (%s) is handed over", run.uuid, run.name)
            self.accept(run)
        for uuid in stopping:
            if uuid in self.journal:
                self.stop(self.journal.folder(uuid), STOPPED)
            else:
                found = self.api.run(uuid)
                if found:
                    self._post(found[0], STOPPED)

    def _start(self, folder: RunFolder, run: Run) -> None:
        folder.append(Status("starting", "AgentAccepted", "The agent prepares the run."))
        try:
            if run.runtime not in RUNTIMES:
                raise UnsupportedContent(f"The sandbox agent can't run a `{run.runtime}`: only jobs and services.")
            process = self.workspace.prepare(folder, run, read_content(run.content), os.environ)
        except UnsupportedContent as error:
            folder.append(Status("failed", "Unsupported", str(error)))
            return
        except (OSError, ValueError, AttributeError, TypeError, KeyError, subprocess.SubprocessError) as error:
            log.exception("%s could not be prepared", run.uuid)
            folder.append(Status("failed", "StartError", f"The run could not be prepared: {error!r}."))
            return
        folder.write_process(process)
        # A session of its own: the runner outlives this agent and its process group.
        self._children[run.uuid] = subprocess.Popen(
            [sys.executable, "-m", "sandbox.polyaxon.agent.runner", str(folder.path)],
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _look_after(self, folder: RunFolder) -> None:
        self._notice_dead_runner(folder)
        intent = folder.intent()
        if intent:
            self.stop(folder, intent)
        # Read before the delivery: what comes between is delivered in the next turn.
        ended = folder.ended()
        if self._deliver(folder) and ended:
            child = self._children.get(folder.uuid)
            if child is None or child.poll() is not None:
                self._children.pop(folder.uuid, None)
                folder.remove()

    def _notice_dead_runner(self, folder: RunFolder) -> None:
        """A runner that is gone without a terminal status will never write one."""
        child, runner = self._children.get(folder.uuid), folder.runner()
        dead = not runner.alive if runner else child is None or child.poll() is not None
        if dead and not folder.ended():
            self._end_by_force(folder)

    def _end_by_force(self, folder: RunFolder) -> None:
        child, runner, run = self._children.get(folder.uuid), folder.runner(), folder.run()
        if child:
            child.kill()
        if runner:
            runner.send(signal.SIGKILL)
        if run:
            kill_all_with_environment("POLYAXON_RUN_INSTANCE", run.instance)
        folder.append(folder.intent() or LOST_RUNNER)

    def _deliver(self, folder: RunFolder) -> bool:
        """Post statuses in order; whether the server has them all."""
        run = folder.run()
        for status in folder.undelivered():
            if run is None or not self._post(run, status):
                return False
            folder.mark_delivered()
        return True

    def _post(self, run: Run, status: Status) -> bool:
        """Post one status; a refusal (the run was deleted) counts as delivered."""
        try:
            self.api.post_status(run, status)
        except ServerUnavailable as error:
            self._note_reachable(error)
            return False
        except RequestRefused as error:
            log.warning("%s: the server does not want status %s: %s", run.uuid, status.type, error)
        else:
            log.info("%s is %s: %s", run.uuid, status.type, status.message)
        return True

    def _note_reachable(self, error: Exception | None) -> None:
        if self._reachable and error:
            log.warning("the server can't be reached, trying on: %s", error)
        elif not self._reachable and not error:
            log.info("the server answers again")
        self._reachable = error is None
