"""The process that looks after one run: starts its command, keeps log, retries and time, writes down how it ended.

It lives in a session of its own and needs neither the agent nor the server, so both may come and go while it works. It
imports the standard library only: there is one per run, and it should cost little.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO

from sandbox.polyaxon.agent.journal import Process, Run, RunFolder, Status
from sandbox.polyaxon.agent.logs import LogFile
from sandbox.polyaxon.agent.proc import kill_all_with_environment

RETRY_DELAY = 1.0
_LOOK = 0.2  # seconds between looks at child, deadline and signal
_DRAIN = 1 << 20


class StartError(Exception):
    """The command does not exist or may not be executed: no second attempt would change that."""


class Runner:
    """Runs the command of one run until it succeeds, its attempts or its time are used up, or SIGTERM comes."""

    def __init__(self, folder: RunFolder, run: Run, process: Process) -> None:
        self.folder = folder
        self.run = run
        self.process = process
        self.attempts = process.max_retries + 1
        self.terminated = False
        self.deadline = time.monotonic() + process.timeout if process.timeout > 0 else float("inf")
        self.log = LogFile(Path(process.log), run.uuid, process.container)

    def execute(self) -> None:
        """Do all of it; when this returns, the last status is terminal and no process of the run is left."""
        signal.signal(signal.SIGTERM, self._on_term)
        try:
            status = self._attempts()
        except StartError as error:
            status = Status("failed", "StartError", f"The command could not be started: {error}.")
        except OSError as error:  # a full disk below the log, above all
            status = Status("failed", "RunnerError", f"The run could not be looked after: {error}.")
        finally:
            kill_all_with_environment("POLYAXON_RUN_INSTANCE", self.run.instance)
        with contextlib.suppress(OSError):
            self.log.note(f"run {status.type}: {status.message}")
            self.log.close()
        self.folder.append(status)

    def _attempts(self) -> Status:
        for attempt in range(1, self.attempts + 1):
            label = f"attempt {attempt} of {self.attempts}"
            self.log.start_attempt(attempt, f"{label}: {' '.join(self.process.argv)}")
            self.folder.append(Status("running", "ProcessStarted", f"Running {label}.", {"attempt": attempt}))
            code = self._attempt()
            meta = {"attempt": attempt, "exit_code": shell_code(code)}
            if code == 0 and not self.terminated:
                return Status("succeeded", "ExitCode", f"The command ended with exit code 0 ({label}).", meta)
            if attempt < self.attempts and not self._interruption(meta):
                message = f"The command {describe(code)} ({label}); it is tried again."
                self.folder.append(Status("retrying", "ExitCode", message, meta))
                self._pause(RETRY_DELAY)
            interruption = self._interruption(meta)
            if interruption:
                return interruption
        said = f" Its last output: {self.log.last}" if self.log.last else ""
        return Status("failed", "ExitCode", f"The command {describe(code)} ({label}).{said}", meta)

    def _interruption(self, meta: dict[str, int]) -> Status | None:
        """The terminal status of a run that was told to end or ran out of time, None while it may go on."""
        if self.terminated:
            default = Status("failed", "Terminated", "The run's supervising process was told to end.", {})
            intent = self.folder.intent() or default
            return replace(intent, meta_info={**intent.meta_info, **meta})
        if time.monotonic() >= self.deadline:
            limit = f"{self.process.timeout:g} s"
            return Status("failed", "Timeout", f"The run was stopped after its termination.timeout of {limit}.", meta)
        return None

    def _attempt(self) -> int:
        """Start the command once and wait for its end; its exit code, negative for a signal."""
        child = self._start()
        assert child.stdout is not None
        os.set_blocking(child.stdout.fileno(), False)
        with child.stdout as output:
            self._watch(child, output, lambda: self.terminated or time.monotonic() >= self.deadline)
            if not has_ended(child.pid):
                self._terminate(child, output)
            # A pod ends with its main process; whatever that left in the background ends here too.
            self._signal_group(child, signal.SIGKILL)
            self._read(output, 0)
        self.log.flush()
        return child.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                self.process.argv,
                env=self.process.environment,
                cwd=self.process.directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise StartError(str(error)) from error

    def _terminate(self, child: subprocess.Popen[bytes], output: IO[bytes]) -> None:
        """SIGTERM to the whole group and, after the grace, SIGKILL; its last words still reach the log."""
        self._signal_group(child, signal.SIGTERM)
        limit = time.monotonic() + self.process.grace
        self._watch(child, output, lambda: time.monotonic() >= limit)
        self._signal_group(child, signal.SIGKILL)
        self._watch(child, output, lambda: False)

    def _watch(self, child: subprocess.Popen[bytes], output: IO[bytes], enough: Callable[[], bool]) -> None:
        """Copy output to the log until the child has ended or `enough` says so."""
        while not has_ended(child.pid) and not enough():
            if not self._read(output, _LOOK):
                self._pause(_LOOK / 4)  # output was closed, the command goes on

    def _read(self, output: IO[bytes], timeout: float) -> bool:
        """Move what there is from the pipe to the log; False once the pipe is at its end."""
        if not select.select([output], [], [], timeout)[0]:
            return True
        taken = 0
        while taken < _DRAIN:
            try:
                data = os.read(output.fileno(), 65536)
            except BlockingIOError:
                return True
            if not data:
                return False
            taken += len(data)
            self.log.write(data)
        return True

    def _pause(self, seconds: float) -> None:
        end = min(time.monotonic() + seconds, self.deadline)
        while not self.terminated and time.monotonic() < end:
            time.sleep(min(0.05, seconds))

    def _on_term(self, _number: int, _frame: object) -> None:
        self.terminated = True

    @staticmethod
    def _signal_group(child: subprocess.Popen[bytes], number: int) -> None:
        # The child leads its group and has not been waited for yet, so the group's number can't belong to anybody else.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)


def has_ended(pid: int) -> bool:
    """Whether a child has ended; it is left to be waited for, so that its pid stays its own."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def describe(code: int) -> str:
    """How a process ended, for people."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was killed by {name}"


def shell_code(code: int) -> int:
    """The exit code as shells and Kubernetes report it: 128 + n for signal n."""
    return code if code >= 0 else 128 - code


def main() -> int:
    """Look after the run whose folder is the only argument."""
    folder = RunFolder(Path(sys.argv[1]))
    run, process = folder.run(), folder.process()
    if run is None or process is None or not folder.claim_runner():
        return 1
    Runner(folder, run, process).execute()
    return 0


if __name__ == "__main__":
    sys.exit(main())
