"""The first process of a container: makes the image its whole world, starts the server in it and waits for it.

Run by the sandbox's own Python inside fresh user, mount and process namespaces (see `container`), with one argument of
JSON: ``root`` (the image's folder), ``directory``, ``environment`` and ``words`` of the server. It needs nothing of the
image. The image is mounted read-only, because its files are hard links that other deployments share, and the machine's
own files are unmounted, not only left behind by a chroot: even /proc/1/root shows the image.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

READ_ONLY, REMOUNT, BIND, RECURSIVE = 0x1, 0x20, 0x1000, 0x4000
# Flags that a mount of the machine may have; a user namespace must keep them when it mounts anew (mount_namespaces(7)).
NO_SETUID, NO_DEVICES, NO_PROGRAMS = 0x2, 0x4, 0x8
LOCKED = NO_SETUID | NO_DEVICES | NO_PROGRAMS | 0x400 | 0x800  # noatime, nodiratime: statvfs gives the same bits
DETACH = 0x2
DROP_FROM_BOUNDING_SET, NO_NEW_PRIVILEGES = 24, 38
MOUNT_POINTS = ("dev", "proc", "tmp")
DEVICES = ("null", "zero", "full", "random", "urandom")
DEVICE_LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1",
                "stderr": "/proc/self/fd/2"}  # fmt: skip

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: Any) -> None:
    """A function of the C library that answers 0; raises OSError."""
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _mount(source: str, target: str, kind: str | None, flags: int) -> None:
    _call("mount", source.encode(), target.encode(), kind.encode() if kind else None, ctypes.c_ulong(flags), None)


def prepare(root: str) -> None:
    """Mounts the image read-only with what a server needs besides: /dev, /proc and an empty, writable /tmp."""
    for name in MOUNT_POINTS:
        point = os.path.join(root, name)
        if os.path.islink(point):  # it could lead out of the image
            raise OSError(f"the image has a link in the place of /{name}")
        os.makedirs(point, exist_ok=True)
    _mount(root, root, None, BIND | RECURSIVE)
    _mount(root, root, None, REMOUNT | BIND | READ_ONLY | os.statvfs(root).f_flag & LOCKED)
    _mount("tmpfs", f"{root}/tmp", "tmpfs", 0)
    _mount("tmpfs", f"{root}/dev", "tmpfs", 0)
    for name in DEVICES:
        Path(f"{root}/dev/{name}").touch()
        _mount(f"/dev/{name}", f"{root}/dev/{name}", None, BIND)
    for name, target in DEVICE_LINKS.items():
        os.symlink(target, f"{root}/dev/{name}")
    os.makedirs(f"{root}/dev/shm", mode=0o1777)
    # Refused where the machine's own /proc is partly hidden (in Docker, say); servers get along without. Read-only,
    # because a sandbox that root started could change the kernel's settings in /proc/sys.
    with contextlib.suppress(OSError):
        _mount("proc", f"{root}/proc", "proc", READ_ONLY | NO_SETUID | NO_DEVICES | NO_PROGRAMS)


def leave_the_machine(root: str) -> None:
    """Makes ``root`` the only file system there is (pivot_root(2), "pivot_root(".", ".")")."""
    os.chdir(root)
    _call("pivot_root", b".", b".")
    _call("umount2", b".", DETACH)
    os.chdir("/")


def become_the_server(spec: dict[str, Any]) -> None:
    """Gives up every right that the namespace brought and becomes the server; ends with 127 when that fails.

    Without rights it can't mount anything anew, and not look into the first process, whose program is the machine's.
    """
    try:
        os.setsid()  # a signal to the group of the container comes once, through `wait_for`
        os.chdir(spec["directory"])
        for capability in range(64):
            if _libc.prctl(DROP_FROM_BOUNDING_SET, capability, 0, 0, 0) != 0:
                break
        _call("prctl", NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        # Python ignores SIGPIPE, which a child would inherit.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.execvpe(spec["words"][0], spec["words"], spec["environment"])
    except OSError as error:
        print(f"{spec['words'][0]} can't be run in {spec['directory']}: {error}", file=sys.stderr, flush=True)
    os._exit(127)


def wait_for(server: int) -> int:
    """Hands SIGTERM and SIGINT on to the server, collects orphans, and returns the server's exit code when it ends.

    The kernel ignores a signal to the first process of a namespace that has no handler for it; so the server is the
    second one, and SIGTERM works as it does anywhere else.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: os.kill(server, received))
    while True:
        pid, status = os.wait()
        if pid == server:
            return os.waitstatus_to_exitcode(status)


def main() -> int:
    """The server's exit code, 128 + n after signal n; 126 when its world can't be made."""
    spec = json.loads(sys.argv[1])
    try:
        prepare(spec["root"])
        leave_the_machine(spec["root"])
    except OSError as error:
        print(f"the container can't be set up: {error}", file=sys.stderr)
        return 126
    server = os.fork()
    if server == 0:
        become_the_server(spec)
    code = wait_for(server)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
