"""One project as it is in force: its manifest and environment, resolved and checked, as text that a file can hold."""

from __future__ import annotations

import hashlib
import operator
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from mlfleet.factory.plan import Plan
from mlfleet.manifest import kept

if TYPE_CHECKING:
    from mlfleet.manifest.environments import Environment
    from mlfleet.manifest.models import Project

_CHUNK = 1 << 20
_name_of = operator.attrgetter("name")

# Path, time of change in nanoseconds, size and inode of each file; zeros for one that is not there.
Stats: TypeAlias = tuple[tuple[str, int, int, int], ...]


class Definition(NamedTuple):
    """What a DAG is built from; whoever reads one need not read or check a manifest again.

    ``name``         of the project, with which the ids of its DAGs begin
    ``manifest``     path of the manifest, relative to the repository
    ``environment``  name of the environment that it was resolved for
    ``text``         JSON with ``project`` and ``environment`` (`manifest.kept`), and with ``resolved``, the project as
                     YAML for people (making it is a quarter of building a DAG); equal manifests give equal text
    ``digest``       of all that and of the project's code, 32 hexadecimal digits
    ``commit``       of the code that belongs to it, where that is not what the source shows now
    """

    name: str
    manifest: str
    environment: str
    text: str
    digest: str
    commit: str | None = None

    @classmethod
    def of(cls, project: Project, environment: Environment, manifest: str, code: str = "") -> Definition:
        """The definition of a checked project; ``code`` is the digest of its folder."""
        from mlfleet.manifest.rendering import rendered

        text = kept.dump({"project": project, "environment": environment, "resolved": rendered(project)})
        told = "\0".join((project.name, manifest, environment.name, text, code))
        digest = hashlib.blake2b(told.encode(), digest_size=16).hexdigest()
        return cls(project.name, manifest, environment.name, text, digest)

    def plan(self, root: Path, commit: str) -> Plan:
        """What the factory builds the DAG from; ``root`` is the repository that holds the project's code."""
        data = kept.load(self.text)
        project, environment = data["project"], data["environment"]
        if not isinstance(project, kept.Kept):
            # Laid out by a mlfleet that kept sections as manifests have them.
            from mlfleet.manifest.environments import Environment
            from mlfleet.manifest.models import Project

            project, environment = Project.model_validate(project), Environment.model_validate(environment)
        return Plan(project, environment, self.manifest, self.commit or commit, root, data.get("resolved"))


def code_digest(folder: Path) -> str:
    """Digest of names and contents of all files below a folder; byte code and hidden files do not count."""
    digest = hashlib.blake2b(digest_size=16)
    for file in _files(folder):
        digest.update(f"\0{os.path.relpath(file.path, folder)}\0".encode())
        try:
            with open(file.path, "rb") as stream:
                while chunk := stream.read(_CHUNK):
                    digest.update(chunk)
        except OSError:
            digest.update(b"\0unreadable")
    return digest.hexdigest()


def fingerprint(*paths: Path) -> str:
    """Changes when a file at or below one of the paths does: from their stat alone, valid on this machine."""
    return hashlib.blake2b(repr(stats(*paths)).encode(), digest_size=16).hexdigest()


def stats(*paths: Path | str) -> Stats:
    """What `fingerprint` is made of, for a process that keeps it: the DAG processor asks for all files of a fleet."""
    found: list[tuple[str, int, int, int]] = []
    for path in map(str, paths):
        try:
            here = os.stat(path)
        except OSError:
            found.append((path, 0, 0, 0))
            continue
        if stat.S_ISDIR(here.st_mode):
            found.extend(map(_stat, _files(path)))
        else:
            found.append((path, here.st_mtime_ns, here.st_size, here.st_ino))
    return tuple(found)


def _stat(file: os.DirEntry[str]) -> tuple[str, int, int, int]:
    try:
        found = file.stat()
    except OSError:
        return file.path, 0, 0, 0
    return file.path, found.st_mtime_ns, found.st_size, found.st_ino


def _files(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    """All files below a folder in a fixed order; a link to a file counts as the file, a link to a folder as nothing."""
    try:
        with os.scandir(os.fspath(folder)) as found:
            entries = sorted(found, key=_name_of)
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.name == "__pycache__":
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files(entry.path)
        elif not entry.is_dir():
            yield entry
