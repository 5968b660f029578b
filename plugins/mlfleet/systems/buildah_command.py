"""buildah as a child process: its command lines, its output, its end, and what its errors mean."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mlfleet.errors import AuthError, ConfigError, JobFailed, JobStopped, MlfleetError, SpecError, TransientError
from mlfleet.systems import guard

SYSTEM = "buildah"
_TAIL = 20
_LONGEST = 600
_KEPT = ("PATH", "HOME", "USER", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")
# logrus prefixes; the Error line at the end says the same again.
_NOISE = re.compile(r'^time="[^"]*" level=\w+ msg=')
_NOT_HERE = re.compile(r"connection refused|no such host|i/o timeout|TLS handshake timeout|connection reset|EOF$")
_REGISTRY_FAILS = re.compile(r"status:? ?(5\d\d|429)|toomanyrequests|unknown: unknown error")
_NO_BASE = re.compile(r"(manifest|name) unknown|repository name not known|(no such image|image not known)|pull access")
_WRONG_FILE = re.compile(
    r"[Uu]nknown instruction|Dockerfile parse error|syntax error|no such file or directory|requires? .*argument"
    r"|invalid reference format|base name .* should not be blank|no FROM statement|no stages|no contents in"
)


class Buildah:
    """One buildah store below ``root``, used by any number of processes at once.

    Each build holds a shared lock; whoever finds the store unused removes what killed builds left in it.
    ``tell`` is given every line of output.
    """

    def __init__(self, root: Path, tell: Callable[[str], None]) -> None:
        self.root = root.absolute()
        self._tell = tell
        self._process: subprocess.Popen[str] | None = None
        self._stopped = False

    @contextlib.contextmanager
    def store(self) -> Iterator[None]:
        """Hold the store: nobody removes working containers meanwhile. Raises ConfigError when it can't be used."""
        program = shutil.which("buildah")
        if program is None:
            raise ConfigError("buildah is not installed", "PATH", "Install it (Debian: apt-get install buildah)")
        try:
            for name in ("storage", "run", "tmp", "data", "images"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            lock = (self.root / "lock").open("a")
        except OSError as exc:
            raise ConfigError(f"buildah's store can't be used: {exc}", "MLFLEET_BUILDAH_ROOT",
                              "Name a folder that this user can write to") from None  # fmt: skip
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._clean()
            except BlockingIOError:
                pass
            fcntl.flock(lock, fcntl.LOCK_SH)
            yield

    def run(self, arguments: Sequence[str]) -> None:
        """One buildah command; raises the error of mlfleet.errors that its failure means, JobStopped after a stop."""
        if self._stopped:
            raise JobStopped(SYSTEM, arguments[0], reason="the task was stopped")
        code, lines = self._spawn(arguments)
        if self._stopped:
            raise JobStopped(SYSTEM, arguments[0], reason="the task was stopped")
        if code:
            raise explain(arguments[0], code, lines)

    def note(self, image: str) -> Path:
        """Note an image that is about to be built; hand the note to :meth:`discard`.

        An image is a copy of the whole tree in this kind of store, and a killed process removes nothing: what is still
        noted when the store is found unused goes then.
        """
        with tempfile.NamedTemporaryFile("w", dir=self.root / "images", delete=False) as note:
            note.write(image)
        return Path(note.name)

    def discard(self, image: str, note: Path) -> None:
        """Remove a noted image."""
        if self.try_run(["rmi", image]):
            note.unlink(missing_ok=True)

    def try_run(self, arguments: Sequence[str]) -> bool:
        """A command whose failure does not matter; whether it worked."""
        return not self._stopped and self._spawn(arguments)[0] == 0

    def stop(self) -> None:
        """End the running command and all its children; may be called from a signal handler."""
        self._stopped = True
        process = self._process
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError, ValueError):
                process.stdin.close()

    def _clean(self) -> None:
        shutil.rmtree(self.root / "tmp", ignore_errors=True)
        (self.root / "tmp").mkdir(exist_ok=True)
        tell, self._tell = self._tell, lambda line: None
        try:
            self.try_run(["rm", "--all"])
            for note in (self.root / "images").iterdir():
                if self._stopped:
                    break
                code, lines = self._spawn(["rmi", note.read_text()])
                if code == 0 or any("image not known" in line for line in lines):
                    note.unlink(missing_ok=True)
        finally:
            self._tell = tell

    def _spawn(self, arguments: Sequence[str]) -> tuple[int, list[str]]:
        command = ["buildah", "--storage-driver", "vfs", "--root", str(self.root / "storage")]
        command += ["--runroot", str(self.root / "run"), *arguments]
        tail: deque[str] = deque(maxlen=_TAIL)
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", guard.__file__, *command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            env=self._environment(), start_new_session=True,
        )  # fmt: skip
        self._process = process
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.strip() and not _NOISE.match(line):
                    # Some errors print the program's inner state, thousands of characters a line.
                    told = line.rstrip() if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."
                    tail.append(line.rstrip())
                    self._tell(told)
            return process.wait(), list(tail)
        finally:
            # Also when an exception came out of `tell` or a time-out's signal handler: closing the pipe ends the group.
            with contextlib.suppress(OSError):
                process.stdin.close() if process.stdin else None
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
            self._process = None

    def _environment(self) -> dict[str, str]:
        """Little: builds must not depend on what the worker's environment holds, nor see its secrets."""
        found = {name: os.environ[name] for name in _KEPT if name in os.environ}
        # Where a plain user's buildah remembers which blobs a registry holds: it must live as long as the store does,
        # or the base's layers would be compressed anew and the digest would change.
        return {**found, "TMPDIR": str(self.root / "tmp"), "XDG_DATA_HOME": str(self.root / "data"),
                "XDG_RUNTIME_DIR": str(self.root / "run")}  # fmt: skip


def explain(verb: str, code: int, lines: Sequence[str]) -> MlfleetError:
    """What a failed buildah command means, from the error that it ends with (which may have several lines)."""
    start = next((number for number, line in enumerate(lines) if line.startswith("Error: ")), -1)
    text = " ".join(line.strip() for line in lines[start:]).removeprefix("Error: ") or f"exit code {code}"
    reason = re.sub(r" &imagebuilder\.Step\{.*", "", text)[:600]
    if re.search(r'STEP "RUN .*(exit status \d+|signal: \w+)$', text):
        # Before all others: the text of the step may hold any of their words.
        return JobFailed(SYSTEM, verb, reason=reason, log_tail=[line[:_LONGEST] for line in lines])
    if _REGISTRY_FAILS.search(text):
        return TransientError(SYSTEM, f"the registry failed: {reason}; look at its disk and its log")
    full = re.search(r"\S+: no space left on device", text)
    if full:
        return TransientError(SYSTEM, f"buildah's disk (MLFLEET_BUILDAH_ROOT) is full: {full[0]}; make room")
    if re.search(r"unauthorized|authentication required|denied: ", text):
        return AuthError(SYSTEM, f"the registry wants other credentials: {reason}; correct the connection's login")
    if _NOT_HERE.search(text):
        return TransientError(SYSTEM, f"the registry does not answer: {reason}; look whether it is up")
    if re.search(r"cannot clone|user namespaces|newuidmap|newgidmap|operation not permitted", text, re.IGNORECASE):
        todo = "Allow user namespaces, and give the user a range in /etc/subuid and /etc/subgid (package uidmap)"
        return ConfigError(f"buildah may not build as this user: {reason}", "", todo)
    return _about_the_file(verb, reason, lines)


def _about_the_file(verb: str, reason: str, lines: Sequence[str]) -> MlfleetError:
    if verb == "build" and _NO_BASE.search(reason):
        error = SpecError(SYSTEM, verb, reason=f"the base image of the Dockerfile does not exist: {reason}")
        error.todo = "Push it there or correct the Dockerfile (or its build arguments), then clear the task"
        return error
    if verb == "build" and _WRONG_FILE.search(reason):
        error = SpecError(SYSTEM, verb, reason=f"the Dockerfile is wrong: {reason}")
        error.todo = "Correct the Dockerfile, then clear the task"
        return error
    return JobFailed(SYSTEM, verb, reason=reason, log_tail=[line[:_LONGEST] for line in lines])
