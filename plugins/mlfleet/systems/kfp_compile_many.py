"""Compiles many KFP pipelines, each in a process of its own; run as a program, by path, like `kfp_compile`.

    python kfp_compile_many.py jobs.json

``jobs.json`` is ``{"parallel": 2, "timeout": 60, "jobs": [{"target": "pipeline.py:function", "output": "out.json"}]}``.
The SDK is imported once; each pipeline is compiled in a fork, so that modules of one are not found by another, and one
that never ends, or ends the process, takes no other with it. Each output is written at once, in the form that
`kfp_compile` has, with the kind "timeout" besides.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

_LOOK = 0.01
_LOG_LINES = 15


def _kfp_compile() -> Any:
    """The module beside this file, by path: its folder has a ``kfp.py``, which must not take the SDK's place."""
    path = Path(__file__).with_name("kfp_compile.py")
    spec = importlib.util.spec_from_file_location("kfp_compile", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Compilers:
    """The forks of one run."""

    def __init__(self, jobs: list[dict[str, str]], parallel: int, timeout: float) -> None:
        self._waiting, self._parallel, self._timeout = list(reversed(jobs)), parallel, timeout
        self._running: dict[int, tuple[dict[str, str], float]] = {}
        self._compile = _kfp_compile()

    def run(self) -> None:
        """Compiles all; ends early when whoever started this process is gone."""
        parent = os.getppid()
        try:
            import kfp.compiler  # noqa: F401 - once, before the forks

            # What an import may do on its first use is done before the forks too.
            import yaml  # noqa: F401
        except ImportError:
            # Each job will say so.
            pass
        while (self._waiting or self._running) and os.getppid() == parent:
            while self._waiting and len(self._running) < self._parallel:
                self._start(self._waiting.pop())
            if not self._look():
                time.sleep(_LOOK)

    def stop(self) -> None:
        """Ends what still runs."""
        for pid in self._running:
            _kill(pid)

    def _start(self, job: dict[str, str]) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            os._exit(self._child(job))
        self._running[pid] = (job, time.monotonic() + self._timeout)

    def _child(self, job: dict[str, str]) -> int:
        """The exit code; whatever the pipeline's own code does ends here."""
        try:
            # A group of its own, so that what the pipeline starts is ended with it.
            os.setsid()
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            log = os.open(f"{job['output']}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            folder = Path(job["target"].rpartition(":")[0]).parent
            if folder.is_dir():
                os.chdir(folder)
            try:
                answer: dict[str, Any] = self._compile.compile_target(job["target"])
            except self._compile.Refusal as refusal:
                answer = {"error": {"kind": refusal.kind, "message": str(refusal)}}
            _write(job["output"], answer)
        except BaseException as error:
            _write(job["output"], {"error": {"kind": "compile", "message": f"{type(error).__name__}: {error}"}})
            return 1
        return 0

    def _look(self) -> bool:
        """Takes note of one fork that ended or ran out of time; whether there was one."""
        for pid, (job, deadline) in list(self._running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self._running[pid]
                # What it has left running would go on in nobody's name.
                _kill(pid, wait=False)
                if not Path(job["output"]).exists():
                    _write(job["output"], _died(job, status))
                return True
            if time.monotonic() > deadline:
                del self._running[pid]
                _kill(pid)
                message = f"compiling took longer than {self._timeout:g} s"
                _write(job["output"], {"error": {"kind": "timeout", "message": message}})
                return True
        return False


def _died(job: dict[str, str], status: int) -> dict[str, Any]:
    code = os.waitstatus_to_exitcode(status)
    how = f"ended with exit code {code}" if code >= 0 else f"was ended by signal {-code}"
    try:
        said = Path(f"{job['output']}.log").read_text(errors="replace").splitlines()[-_LOG_LINES:]
    except OSError:
        said = []
    message = f"the process that compiled it {how}" + (f": {' '.join(said)}" if said else "")
    return {"error": {"kind": "compile", "message": message}}


def _kill(pid: int, wait: bool = True) -> None:
    """Ends a fork and what it has started; before it has a group of its own, only itself."""
    for end in (os.killpg, os.kill) if wait else (os.killpg,):
        try:
            end(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue
    if wait:
        os.waitpid(pid, 0)


def _write(output: str, answer: dict[str, Any]) -> None:
    temporary = Path(f"{output}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(answer))
    temporary.replace(output)


def main(argv: list[str]) -> int:
    """The program; 2 when it was ended before it was done."""
    given = json.loads(Path(argv[0]).read_text())
    compilers = Compilers(given["jobs"], given["parallel"], given["timeout"])

    def ended(*_: object) -> None:
        raise SystemExit(2)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ended)
    try:
        compilers.run()
    finally:
        compilers.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
