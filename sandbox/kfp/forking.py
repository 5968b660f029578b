"""``python -m sandbox.kfp.forking FD MODULE``: the process behind `forkserver`, which imports once and then forks.

FD is a socket; a pipe comes over it for each child. The child tells its ProcessId on the pipe, gets a piece of work
there, and answers it with what the module's function ``work`` returned (an exception for one that it raised).
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from sandbox.polyaxon.agent.proc import identify

Work = Callable[[Any], Any]


def serve(control: socket.socket, work: Work) -> None:
    """Forks a child for each pipe that comes, until the socket's other end is closed."""
    gc.freeze()  # the collector would copy the pages that all children share
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that no child stays behind as a zombie
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not message:
            return
        with Connection(descriptors[0]) as pipe:
            try:
                forked = os.fork()
            except OSError as error:
                pipe.send(RuntimeError(f"no process could be forked: {error}"))
                continue
            if forked == 0:
                control.close()
                _child(pipe, work)


def _child(pipe: Connection, work: Work) -> None:
    """Does what comes over the pipe, answers and ends."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # It outlives what it starts, to tell how that ended. Unlike SIG_IGN, a handler is not inherited there.
        signal.signal(signal.SIGTERM, lambda *_: None)
        os.setsid()
        pipe.send(identify(os.getpid()))
        pipe.send(_answer(work, pipe.recv()))
    except (OSError, EOFError):
        pass  # nobody waits for it any more
    finally:
        os._exit(0)


def _answer(work: Work, given: Any) -> Any:
    try:
        return work(given)
    except Exception as error:
        traceback.print_exc()
        # Whoever reads it need not have the module of this class.
        return RuntimeError(f"{type(error).__name__}: {error}")


def main() -> None:
    """Serves until the socket is closed."""
    with socket.socket(fileno=int(sys.argv[1])) as control:
        serve(control, importlib.import_module(sys.argv[2]).work)


if __name__ == "__main__":
    main()
