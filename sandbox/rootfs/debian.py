"""Debian packages without root: what a set of packages needs, the files, and unpacking them."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from sandbox.settings import SandboxError

# One line of `apt-get --print-uris`: 'URI' FILE SIZE [HASH]. FILE holds name, version and architecture, % encoded.
_URI = re.compile(r"^'[^']+' (?P<file>(?P<name>[^_ ]+)_(?P<version>[^_ ]+)_[^_ ]+\.deb) (?P<size>\d+)")
_APT = ("-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root")
_DOWNLOAD_SECONDS = 900


@dataclass(frozen=True)
class Package:
    """One package file as apt would fetch it; ``size`` in bytes."""

    name: str
    version: str
    file: str
    size: int


def closure(seeds: Sequence[str]) -> list[Package]:
    """The packages that an empty system needs for ``seeds``, as apt itself decides, sorted by file name.

    apt is asked to install into a system without packages, and only to print what it would fetch: alternatives,
    versions and virtual packages are resolved as in a real installation. Raises SandboxError.
    """
    _require("apt-get", "dpkg-deb", "tar")
    with tempfile.TemporaryDirectory(prefix="no-packages-") as empty:
        status = Path(empty) / "status"
        status.touch()
        # What lies in apt's own archive would not be printed, so it gets an empty one.
        system = ["-o", f"Dir::State::status={status}", "-o", f"Dir::Cache::archives={empty}/archives/"]
        ran = _apt(["install", "-qq", "--yes", "--no-install-recommends", "--print-uris", *system, *seeds])
    if ran.returncode:
        raise SandboxError(_explained("apt does not know the packages of the base image", ran))
    found = [_URI.match(line) for line in ran.stdout.splitlines()]
    packages = [
        Package(unquote(hit["name"]), unquote(hit["version"]), hit["file"], int(hit["size"])) for hit in found if hit
    ]
    if not packages:
        raise SandboxError(_explained("apt named no packages for the base image", ran))
    return sorted(packages, key=lambda package: package.file)


def python_version(packages: Sequence[Package]) -> str:
    """The version of the interpreter among ``packages``, as in "3.11"."""
    for package in packages:
        hit = re.fullmatch(r"python(3\.\d+)-minimal", package.name)
        if hit:
            return hit[1]
    raise SandboxError("python3-minimal of this distribution does not bring a python3.X-minimal package")


def download(packages: Sequence[Package], folder: Path) -> list[Path]:
    """The package files, fetched into ``folder`` unless they are there; apt checks their hashes.

    Raises SandboxError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [package for package in packages if not _is_whole(folder / package.file, package.size)]
    if missing:
        # A folder beside it, and then renames: a broken download never looks like a whole one.
        with tempfile.TemporaryDirectory(dir=folder, prefix="part-") as part:
            ran = _apt(["download", "-q", *(f"{package.name}={package.version}" for package in missing)], cwd=part)
            if ran.returncode:
                raise SandboxError(_explained("the packages of the base image could not be fetched", ran))
            for fetched in Path(part).iterdir():
                fetched.replace(folder / fetched.name)
    for package in packages:
        if not (folder / package.file).exists():
            raise SandboxError(f"apt fetched {package.name} under another name than {package.file}")
    return [folder / package.file for package in packages]


def unpack(files: Sequence[Path], root: Path) -> None:
    """The files of all packages below ``root``; no script of a package is run. Raises SandboxError.

    ``dpkg -x`` would replace ``lib -> usr/lib`` by a folder, so its archive goes through a tar that keeps the link.
    """
    for file in files:
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", file], stdout=subprocess.PIPE) as archive:
            ran = subprocess.run(
                ["tar", "-x", "-p", "--no-same-owner", "--keep-directory-symlink", "--no-overwrite-dir", "-C", root],
                stdin=archive.stdout, capture_output=True, text=True, check=False,
            )  # fmt: skip
        if ran.returncode or archive.returncode:
            raise SandboxError(f"{file.name} could not be unpacked: {ran.stderr.strip()[-300:]}")


def _is_whole(file: Path, size: int) -> bool:
    return file.is_file() and file.stat().st_size == size


def _apt(arguments: Sequence[str], cwd: str | None = None) -> subprocess.CompletedProcess[str]:
    command = ["apt-get", *_APT, *arguments]
    try:
        return subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
            timeout=_DOWNLOAD_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise SandboxError(f"apt-get was not done after {_DOWNLOAD_SECONDS} s; look at the network") from None


def _require(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            raise SandboxError(f"{program} is missing: the base image is made of Debian or Ubuntu packages only")


def _explained(what: str, ran: subprocess.CompletedProcess[str]) -> str:
    errors = [line.removeprefix("E: ") for line in ran.stderr.splitlines() if line.startswith("E: ")]
    text = "; ".join(errors[:3]) or ran.stderr.strip()[-300:] or "apt-get said nothing"
    todo = "look at the network and the disk"
    if "Unable to locate" in text or "no installation candidate" in text or "404" in text:
        todo = "the package lists are missing or old: run apt-get update, then make setup again"
    return f"{what} ({text}); {todo}"
