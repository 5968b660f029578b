"""Running an image's entry point in a user-namespace chroot that sees nothing of this machine's files.

No Docker engine is needed and no root: ``unshare`` gives the process namespaces of its own for users, mounts and
processes, and ``chroot`` the image as its root. The network is the machine's, so that the server is reached on loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import httpx

from sandbox.processes import MARK
from sandbox.spinnaker.images import Image

START_SECONDS = 45.0
STOP_SECONDS = 5.0

# As the namespace's root: a writable layer of its own over the image (which deployments share), the devices that
# Python opens, and then nothing but the image.
_ENTER = """
set -e
root=$1; shift
mkdir -p "$root/dev" "$root/tmp" "$root/proc"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs tmpfs "$root/dev"
for device in null zero random urandom; do : > "$root/dev/$device"; mount --bind "/dev/$device" "$root/dev/$device"; done
mount -t proc proc "$root/proc" 2>/dev/null || true
exec chroot "$root" /usr/bin/env -i "$@" 2>&1
"""


class ContainerError(Exception):
    """The image did not start to serve; the text holds the end of its log."""


def require_user_namespaces() -> None:
    """Raises ContainerError in one sentence where they are switched off."""
    probe = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "true"]
    try:
        ran = subprocess.run(probe, capture_output=True, text=True, timeout=20, check=False)
    except OSError as error:
        raise ContainerError(f"unshare can't be run ({error}); install the package util-linux") from error
    if ran.returncode:
        raise ContainerError(
            "user namespaces are off on this machine, so the sandbox can't run an image;"
            f" allow them (sysctl kernel.unprivileged_userns_clone=1) or run as root: {ran.stderr.strip()}"
        )


class Container:
    """One running image; ``port`` is where it listens on 127.0.0.1."""

    def __init__(self, image: Image, log: Path) -> None:
        self.image = image
        self.port = _free_port()
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Starts it and returns when ``GET /health`` answers 200; raises ContainerError and leaves nothing behind."""
        await asyncio.to_thread(require_user_namespaces)
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env={"PATH": os.environ.get("PATH", os.defpath), **_mark()}, start_new_session=True,
            )  # fmt: skip
        try:
            await self._wait_healthy()
        except BaseException:
            await self.stop()
            raise

    def alive(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.poll() is None

    async def stop(self) -> None:
        """Ends the whole process group; returns when it is gone."""
        process = self._process
        if process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            deadline = time.monotonic() + STOP_SECONDS
            while process.poll() is None and time.monotonic() < deadline:
                await asyncio.sleep(0.05)

    def log_tail(self, lines: int = 10) -> str:
        """The last lines that it printed."""
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def _command(self) -> list[str]:
        config = self.image.config
        words = [*(config.get("Entrypoint") or []), *(config.get("Cmd") or [])]
        if not words:
            raise ContainerError(f"image {self.image.digest} has neither Entrypoint nor Cmd; add CMD to its Dockerfile")
        directory = config.get("WorkingDir") or "/"
        variables = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp", "PORT": str(self.port), **_mark()}
        pairs = [f"{key}={value}" for key, value in variables.items() if key != "PATH"]
        pairs += [entry for entry in config.get("Env") or [] if not entry.startswith("PORT=")]
        if not any(entry.startswith("PATH=") for entry in pairs):
            pairs.append(f"PATH={variables['PATH']}")
        return [
            "unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child=TERM",
            "sh", "-c", _ENTER, "enter", str(self.image.root), *pairs, "-C", directory, *words,
        ]  # fmt: skip

    async def _wait_healthy(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=5, trust_env=False) as client:
            while time.monotonic() < deadline:
                if not self.alive():
                    raise ContainerError(f"the server ended before it was healthy:\n{self.log_tail()}")
                with contextlib.suppress(httpx.HTTPError):
                    if (await client.get("/health")).status_code == httpx.codes.OK:
                        return
                await asyncio.sleep(0.1)
        raise ContainerError(f"GET /health was not answered in {START_SECONDS:.0f} s:\n{self.log_tail()}")


def _mark() -> Mapping[str, str]:
    """The sandbox's mark, by which a stray process would be found again."""
    return {MARK: os.environ[MARK]} if MARK in os.environ else {}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
