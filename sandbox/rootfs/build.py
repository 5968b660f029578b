"""Makes the base root file system once per content and keeps it below the cache."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox.rootfs import debian
from sandbox.settings import SandboxError

# What CPython, numpy's and scikit-learn's wheels link to, and a shell for RUN lines; dependencies follow.
SEEDS = ("python3-minimal", "libpython3-stdlib", "libgomp1", "libstdc++6", "dash")
# Needed by installation scripts only, which never run here.
LEFT_OUT = {"dpkg", "tar", "debianutils"}
# Counted up when what this module does to the same packages changes.
RECIPE = 2

_MERGED = ("bin", "sbin", "lib", "lib64")
_PRUNED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian", "usr/share/bug", "usr/share/info")
_PRUNED_NAMES = {"tests", "test", "__pycache__", "pip", "ensurepip", "lib2to3", "pydoc_data"}
_PRUNED_SUFFIXES = {".pyi", ".pxd", ".pyx", ".h", ".c", ".a"}
_ACCOUNTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/hosts": "127.0.0.1 localhost\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
_FOLDERS = ("app", "dev", "proc", "root", "run", "sys", "tmp", "var/tmp")


@dataclass(frozen=True)
class RootFS:
    """A finished base: ``path`` is the folder to be the root, ``key`` 16 hex digits of what it was made from."""

    folder: Path
    key: str
    python: str

    @property
    def path(self) -> Path:
        """The root folder."""
        return self.folder / "root"


@dataclass(frozen=True)
class Maker:
    """Everything the base depends on.

    ``cache`` is a folder of ours, ``requirements`` a complete pinned list of wheels, ``uv`` the installer.
    """

    cache: Path
    requirements: Path
    uv: Path

    def ensure(self, refresh: bool = False) -> RootFS:
        """The base, made when its like is not in the cache; ``refresh`` asks apt for newer packages.

        Without ``refresh`` a base that was made from the same requirements on this distribution is taken as it is: at
        once, and without lists, network or apt. Raises SandboxError.
        """
        pointer = self.cache / f"inputs-{self._inputs()}.json"
        if not refresh and (found := self._pointed(pointer)):
            return found
        packages = [package for package in debian.closure(SEEDS) if package.name not in LEFT_OUT]
        python = debian.python_version(packages)
        base = RootFS(self.cache / (key := self._content(packages)), key, python)
        if not base.folder.exists():
            self._make(base, packages)
        text = json.dumps({"key": base.key, "python": base.python})
        temporary = pointer.with_suffix(".part")
        temporary.write_text(text)
        temporary.replace(pointer)
        return base

    def _inputs(self) -> str:
        release = platform.freedesktop_os_release()
        return _hash([RECIPE, SEEDS, self._wanted(), release.get("ID"), release.get("VERSION_ID"), platform.machine()])

    def _content(self, packages: Sequence[debian.Package]) -> str:
        return _hash([RECIPE, self._wanted(), [[package.file, package.size] for package in packages]])

    def _wanted(self) -> str:
        try:
            return self.requirements.read_text()
        except OSError as exc:
            raise SandboxError(f"the list of serving packages can't be read: {exc}") from None

    def _pointed(self, pointer: Path) -> RootFS | None:
        try:
            data = json.loads(pointer.read_text())
            found = RootFS(self.cache / data["key"], data["key"], data["python"])
        except (OSError, ValueError, KeyError):
            return None
        return found if found.path.is_dir() else None

    def _make(self, base: RootFS, packages: Sequence[debian.Package]) -> None:
        self.cache.mkdir(parents=True, exist_ok=True)
        files = debian.download(packages, self.cache / "debs")
        with tempfile.TemporaryDirectory(dir=self.cache, prefix="part-", ignore_cleanup_errors=True) as part:
            root = Path(part) / "root"
            _skeleton(root)
            debian.unpack(files, root)
            self._install_wheels(root, base.python)
            _prune(root)
            _compile(root, base.python)
            (Path(part) / "packages.json").write_text(json.dumps([vars(package) for package in packages], indent=1))
            Path(part).chmod(0o755)
            try:
                Path(part).rename(base.folder)
            except OSError:
                # Another process was quicker; what it made is the same.
                if not base.path.is_dir():
                    raise

    def _install_wheels(self, root: Path, python: str) -> None:
        # Debian's interpreter looks here for what does not come from Debian.
        target = root / "usr/local/lib" / f"python{python}" / "dist-packages"
        target.mkdir(parents=True)
        command: list[str | Path] = [
            self.uv, "pip", "install", "--quiet", "--no-config", "--python", sys.executable,
            "--target", target, "--python-version", python,
            "--only-binary", ":all:", "--no-deps", "--link-mode", "copy", "--requirement", self.requirements,
        ]  # fmt: skip
        try:
            ran = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        except FileNotFoundError:
            raise SandboxError(f"uv is not at {self.uv}; make setup puts it there") from None
        if ran.returncode:
            raise SandboxError(
                f"the serving packages could not be installed; look at the network and at {self.requirements.name}: "
                f"{ran.stderr.strip()[-600:]}"
            )
        # Scripts that name the host's interpreter, and the lists of files with their digests.
        shutil.rmtree(target / "bin", ignore_errors=True)
        for record in target.glob("*.dist-info/RECORD"):
            record.unlink()


def _skeleton(root: Path) -> None:
    """What base-files and base-passwd would set up: merged /usr, mount points, accounts."""
    for name in _MERGED:
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for name in _FOLDERS:
        (root / name).mkdir(parents=True)
    for name in ("tmp", "var/tmp"):
        (root / name).chmod(0o1777)
    for name, text in _ACCOUNTS.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)


def _prune(root: Path) -> None:
    """Leaves out what a server never reads: documents, tests, headers and sources of extensions, installers."""
    for name in _PRUNED:
        shutil.rmtree(root / name, ignore_errors=True)
    for folder, folders, files in os.walk(root / "usr"):
        for name in [name for name in folders if name in _PRUNED_NAMES]:
            shutil.rmtree(Path(folder) / name)
            folders.remove(name)
        for name in files:
            if Path(name).suffix in _PRUNED_SUFFIXES:
                (Path(folder) / name).unlink()


def _compile(root: Path, python: str) -> None:
    """Bytecode by the base's own interpreter, so that a server starts in one second instead of five.

    Checked by nothing ("unchecked-hash"): an image's files have no meaningful times, and bytecode that is bound to a
    time would be thrown away. The interpreter is run through its own loader, which needs no namespace and no root.
    """
    # Not by the link in /lib64: it is absolute and would lead to the host's.
    loaders = sorted(root.glob("usr/lib/*-linux-gnu*/ld-linux*.so.*")) or sorted(root.glob("usr/lib/ld-linux*.so.*"))
    libraries = f"{root}/usr/lib:" + ":".join(str(path) for path in root.glob("usr/lib/*-linux-gnu*"))
    if not loaders:
        raise SandboxError("the unpacked libc6 holds no dynamic loader; this architecture is not known here")
    script = "import compileall, sys; from py_compile import PycInvalidationMode as M; " \
        "compileall.compile_dir(sys.argv[1], quiet=2, stripdir=sys.argv[2], prependdir='/', " \
        "invalidation_mode=M.UNCHECKED_HASH)"  # fmt: skip
    for tree in (f"usr/lib/python{python}", f"usr/local/lib/python{python}"):
        command = [str(loaders[0]), "--library-path", libraries, str(root / "usr/bin" / f"python{python}")]
        ran = subprocess.run(
            [*command, "-S", "-B", "-c", script, str(root / tree), str(root)],
            env={"PYTHONHOME": str(root / "usr"), "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if ran.returncode:
            raise SandboxError(f"the base's interpreter does not run here: {ran.stderr.strip()[-400:]}")


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
