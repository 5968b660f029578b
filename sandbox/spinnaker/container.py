"""Running an image's entry point in namespaces of its own, where it sees nothing of this machine's files.

No container engine is needed and no root: ``unshare`` makes the namespaces for users, mounts and processes, and `enter`
makes the image the root there. The network is the machine's, so that the server is reached on loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from sandbox.processes import MARK
from sandbox.spinnaker.images import Image

START_SECONDS = 45.0
STOP_SECONDS = 5.0
ENTER = Path(__file__).with_name("enter.py")
# The first word: when this program dies of whatever cause, so does the container (prctl(2), PR_SET_PDEATHSIG).
NAMESPACES = ["setpriv", "--pdeathsig", "KILL", "unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork",
              "--kill-child=KILL"]  # fmt: skip
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ContainerError(Exception):
    """The image did not start to serve; the text holds the end of its log."""


async def require_user_namespaces() -> None:
    """Raises ContainerError in one sentence where they are switched off."""
    try:
        probe = await asyncio.create_subprocess_exec(
            *NAMESPACES, "true", stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
    except OSError as error:
        raise ContainerError(f"{NAMESPACES[0]} can't be run ({error}); install the package util-linux") from error
    _, said = await probe.communicate()
    if probe.returncode:
        raise ContainerError(
            "user namespaces are off on this machine, so the sandbox can't run an image; allow them"
            f" (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone): {said.decode().strip()}"
        )


class Container:
    """One running image.

    ``port`` is where it listens on 127.0.0.1, which it is told by the variable PORT; ``idle`` is set
    while it has no request to answer, as told by whoever sends them (`asked`).
    """

    def __init__(self, image: Image, log: Path, start_seconds: float = START_SECONDS) -> None:
        self.image = image
        self.port = _free_port()
        self.idle = asyncio.Event()
        self.idle.set()
        self._asked = 0
        self._log = log
        self._start_seconds = start_seconds
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Starts it and returns when ``GET /health`` answers 200; raises ContainerError and leaves nothing behind."""
        spec = self._spec()
        await require_user_namespaces()
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *NAMESPACES, sys.executable, "-I", "-S", "-B", str(ENTER), json.dumps(spec),
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                env={"PATH": os.environ.get("PATH", os.defpath), **_mark()}, start_new_session=True,
            )  # fmt: skip
        try:
            await self._wait_healthy()
        except BaseException:
            await self.stop()
            raise

    @contextlib.contextmanager
    def asked(self) -> Iterator[None]:
        """Around a request: until it is answered, the server is not idle."""
        self._asked += 1
        self.idle.clear()
        try:
            yield
        finally:
            self._asked -= 1
            if not self._asked:
                self.idle.set()

    def alive(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.returncode is None

    async def stop(self) -> None:
        """Asks the server to end, kills it when it does not, and returns when nothing of it is left."""
        process = self._process
        if process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), STOP_SECONDS)
                return

    def log_tail(self, lines: int = 10) -> str:
        """The last lines that it printed."""
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def _spec(self) -> dict[str, Any]:
        """What `enter` is told; raises ContainerError for an image that names no program."""
        config = self.image.config
        words = [*(config.get("Entrypoint") or []), *(config.get("Cmd") or [])]
        if not words:
            raise ContainerError(f"image {self.image.digest} has neither Entrypoint nor Cmd; add CMD to its Dockerfile")
        given = dict(entry.partition("=")[::2] for entry in config.get("Env") or [])
        return {
            "root": str(self.image.root.resolve()),
            "directory": config.get("WorkingDir") or "/",
            "environment": {"PATH": PATH, "HOME": "/tmp", **given, "PORT": str(self.port), **_mark()},
            "words": words,
        }

    async def _wait_healthy(self) -> None:
        deadline = time.monotonic() + self._start_seconds
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=5, trust_env=False) as client:
            while time.monotonic() < deadline:
                if not self.alive():
                    raise ContainerError(f"the server ended before it was healthy:\n{self.log_tail()}")
                with contextlib.suppress(httpx.HTTPError):
                    if (await client.get("/health")).status_code == httpx.codes.OK:
                        return
                await asyncio.sleep(0.1)
        raise ContainerError(f"GET /health did not answer 200 in {self._start_seconds:.0f} s:\n{self.log_tail()}")


def _mark() -> Mapping[str, str]:
    """The sandbox's mark, by which a stray process would be found again."""
    return {MARK: os.environ[MARK]} if MARK in os.environ else {}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
