"""A process that has imported what is slow to import, and that forks a warm child for each piece of work.

The fork server of `multiprocessing` is not used: it shares the process group of its owner, so that the signal which
ends a supervised server would end the work before that server has settled it, it takes no environment of its own (by
which a later server finds what an earlier one left), and it can't be ended except through private names.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

from sandbox.kfp import forking
from sandbox.polyaxon.agent.proc import ProcessId


class ForkServerError(Exception):
    """A child ended before it had answered; the text says which process ended, and how."""


class Child:
    """One forked child, the leader of a session of its own, as the process sees it that asked for it."""

    def __init__(self, server: subprocess.Popen[bytes], pipe: Connection, work: Any) -> None:
        self._server = server
        self._pipe = pipe
        self._work = work
        self._process: ProcessId | None = None
        self._answers: list[Any] = []

    def answered(self, seconds: float) -> bool:
        """Whether it has answered, after about this many seconds. Raises ForkServerError when it never will."""
        if self._answers:
            return True
        try:
            if self._pipe.poll(seconds):
                self._take(self._pipe.recv())
        except (EOFError, OSError) as error:
            raise ForkServerError(self._ending()) from error
        # Whoever lost its parent is in nobody's care.
        if not self._answers and self._server.poll() is not None:
            raise ForkServerError(self._ending())
        return bool(self._answers)

    def answer(self) -> Any:
        """What it answered; an exception is raised. Only after `answered`."""
        if isinstance(self._answers[0], Exception):
            raise self._answers[0]
        return self._answers[0]

    def terminate(self) -> None:
        """SIGTERM to its process group."""
        if self._process and self._process.alive:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)

    def end(self) -> None:
        """SIGKILL, unless it has ended by itself; afterwards it is gone."""
        self._pipe.close()
        deadline = time.monotonic() + 5
        while self._process and self._process.alive and time.monotonic() < deadline:
            self._process.send(signal.SIGKILL)
            time.sleep(0.005)

    def _take(self, message: Any) -> None:
        if isinstance(message, ProcessId):
            self._process = message
            self._pipe.send(self._work)  # not before: nothing may run that can't be ended
        else:
            self._answers.append(message)

    def _ending(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._server.wait(0.5)  # its pipes close a moment before it is known to have ended
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            return f"the fork server that ran it, process {self._server.pid}, {how}; the next task starts another one"
        return f"process {self._process.pid if self._process else 0}, which ran it, was killed"


class ForkServer:
    """Starts the process at the first piece of work, and again when it has died.

    ``module`` is what it imports; its function ``work`` gets each piece and returns the answer. ``environment`` is
    added to this process's own one.
    """

    def __init__(self, module: str, environment: Mapping[str, str]) -> None:
        self._module = module
        self._environment = environment
        self._lock = threading.Lock()
        self._closed = False
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def start(self, work: Any) -> Child:
        """A child that does this (something that can be pickled) once its answer is asked for.

        Raises ForkServerError.
        """
        ours, theirs = multiprocessing.Pipe()
        with theirs:
            server = self._hand_over(theirs)
        return Child(server, ours, work)

    def close(self) -> None:
        """Ends the process, not its children; nothing is started any more."""
        with self._lock:
            self._closed = True
            self._end()

    def _hand_over(self, pipe: Connection) -> subprocess.Popen[bytes]:
        with self._lock:
            for _ in range(2):
                server, control = self._running()
                try:
                    socket.send_fds(control, [b"."], [pipe.fileno()])
                except OSError:  # it ended since
                    self._end()
                else:
                    return server
        raise ForkServerError("the fork server does not start")

    def _running(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        if self._closed:
            raise ForkServerError("the fork server has been ended")
        if self._process and self._control and self._process.poll() is None:
            return self._process, self._control
        self._end()
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", forking.__name__, str(theirs.fileno()), self._module],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[theirs.fileno()],
                env={**os.environ, **self._environment}, start_new_session=True,
            )  # fmt: skip
        return self._process, self._control

    def _end(self) -> None:
        if self._control:
            self._control.close()
        if self._process:
            self._process.kill()
            self._process.wait()
        self._process = self._control = None
