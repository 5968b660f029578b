"""The files of a git repository in one state: a commit, or the work tree with what is not committed yet.

Paths are relative to the top of the git repository. Contents are told by git's ids of them, so that two states are
compared without reading a file.
"""

from __future__ import annotations

import bisect
import os
import posixpath
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import TracebackType
from typing import Self

from mlfleet.fleet.git import Git, GitError

_LINK, _MODULE = "120000", "160000"
# As in the kernel: more links than this in one path are a circle.
_MAX_LINKS = 40
_HASH_AT_ONCE = 200
_ASK_AT_ONCE = 200


@dataclass(frozen=True)
class Entry:
    """``mode`` as git writes it and the id of the content."""

    mode: str
    id: str

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return self.mode == _LINK


@dataclass(frozen=True)
class Tree:
    """All files of one state. ``dirty`` are those of a work tree that differ from its commit, deleted ones included."""

    commit: str
    entries: Mapping[str, Entry]
    read_blob: Callable[[str], bytes] = field(repr=False)
    dirty: frozenset[str] = frozenset()
    on_disk: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    fetch: Callable[[Iterable[str]], None] = field(default=lambda ids: None, repr=False)

    def expect(self, paths: Iterable[str]) -> None:
        """Reads contents in one go that will be asked for; what is not there is left out."""
        self.fetch([self.entries[path].id for path in paths if path in self.entries and path not in self.on_disk])

    def read(self, path: str) -> bytes:
        """The content of a file; of a link, where it leads. b"" for a submodule."""
        if path in self.on_disk:
            return self.on_disk[path]
        entry = self.entries[path]
        return b"" if entry.mode == _MODULE else self.read_blob(entry.id)

    @cached_property
    def _sorted(self) -> list[str]:
        return sorted(self.entries)

    @cached_property
    def folders(self) -> frozenset[str]:
        """Every folder, "" for the top."""
        found = {""}
        for path in self.entries:
            while path := posixpath.dirname(path):
                if path in found:
                    break
                found.add(path)
        return frozenset(found)

    @cached_property
    def has_linked_folders(self) -> bool:
        """Whether any link leads to a folder, so that paths through it must be followed."""
        return any(self._target(path) in self.folders for path, entry in self.entries.items() if entry.is_link)

    def below(self, folder: str) -> Iterator[str]:
        """The files of a folder and of its folders."""
        prefix = f"{folder}/" if folder else ""
        names = self._sorted
        for index in range(bisect.bisect_left(names, prefix), len(names)):
            if not names[index].startswith(prefix):
                return
            yield names[index]

    def follow(self, path: str) -> list[str]:
        """`path` and everything that links on it lead to, the last one a file or a folder; [] for what is not there."""
        seen: list[str] = []
        while len(seen) < _MAX_LINKS:
            if path in self.entries or path in self.folders:
                seen.append(path)
                if path in self.folders or not self.entries[path].is_link:
                    return seen
                target = self._target(path)
            else:
                target = self._through_folder(path)
            if target is None:
                return seen
            path = target
        return seen

    def _through_folder(self, path: str) -> str | None:
        """The path with its first linked folder replaced by where that leads; None when there is none."""
        if not self.has_linked_folders:
            return None
        parts = path.split("/")
        for count in range(1, len(parts)):
            link = "/".join(parts[:count])
            entry = self.entries.get(link)
            if entry is not None:
                target = self._target(link) if entry.is_link else None
                return None if target is None else posixpath.join(target, *parts[count:])
        return None

    def _target(self, link: str) -> str | None:
        """Where a link leads; None when that is outside of the repository."""
        return inside(posixpath.join(posixpath.dirname(link), os.fsdecode(self.read(link))))


def inside(path: str) -> str | None:
    """The path without ``.`` and ``..``, "" for the top; None when it leaves the repository."""
    normal = posixpath.normpath(path)
    if normal == ".":
        return ""
    return None if normal.startswith(("../", "/")) or normal == ".." else normal


class Trees:
    """Reads states of one repository; contents are read when they are asked for, each once. Use as ``with``."""

    def __init__(self, git: Git) -> None:
        self.git = git
        self._blobs: dict[str, bytes] = {}
        self._reader: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reader is not None:
            self._reader.communicate()

    def of_commit(self, commit: str) -> Tree:
        """The files of a commit, named by its full id."""
        return Tree(commit, self._listed(commit), self._blob, fetch=self._fetch)

    def of_work_tree(self) -> Tree:
        """The files as they lie there, without those that git ignores."""
        head = self.git.commit("HEAD")
        entries = self._listed(head)
        found = self.git.fields("status", "--porcelain=v1", "-z", "--untracked-files=all", "--no-renames",
                                "--ignore-submodules=none")  # fmt: skip
        # A folder with a slash at its end is a repository of its own, which git does not look into.
        changed = [line[3:] for line in found if not line.endswith("/")]
        on_disk: dict[str, bytes] = {}
        for path in changed:
            entries.pop(path, None)
        for path, entry, content in self._lying_there(changed):
            entries[path] = entry
            on_disk[path] = content
        return Tree(head, entries, self._blob, frozenset(changed), on_disk, self._fetch)

    def _listed(self, commit: str) -> dict[str, Entry]:
        entries = {}
        for line in self.git.fields("ls-tree", "-r", "-z", "--full-tree", commit):
            told, _, path = line.partition("\t")
            mode, _, id = told.split(" ")
            entries[path] = Entry(mode, id)
        return entries

    def _lying_there(self, paths: list[str]) -> Iterator[tuple[str, Entry, bytes]]:
        files = []
        for path in paths:
            full = self.git.top / path
            if full.is_symlink():
                content = os.fsencode(os.readlink(full))
                id = self.git.raw("hash-object", "--stdin", "--no-filters", stdin=content).decode().strip()
                yield path, Entry(_LINK, id), content
            elif full.is_file():
                files.append(path)
            elif full.is_dir():
                yield path, Entry(_MODULE, f"changed {path}"), b""
        for start in range(0, len(files), _HASH_AT_ONCE):
            some = files[start : start + _HASH_AT_ONCE]
            ids = self.git.text("hash-object", "--", *some).split("\n")
            for path, id in zip(some, ids, strict=True):
                yield path, Entry("100644", id), (self.git.top / path).read_bytes()

    def _blob(self, id: str) -> bytes:
        if id not in self._blobs:
            self._fetch([id])
        return self._blobs[id]

    def _fetch(self, ids: Iterable[str]) -> None:
        missing = [id for id in dict.fromkeys(ids) if id not in self._blobs]
        # So few at a time that the questions fit into the pipe: git may wait for its answers to be read.
        for start in range(0, len(missing), _ASK_AT_ONCE):
            some = missing[start : start + _ASK_AT_ONCE]
            self._blobs.update(zip(some, self._read(some), strict=True))

    def _read(self, ids: list[str]) -> Iterator[bytes]:
        if self._reader is None:
            self._reader = subprocess.Popen(
                ["git", "cat-file", "--batch"], cwd=self.git.top, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
        assert self._reader.stdin is not None
        assert self._reader.stdout is not None
        try:
            self._reader.stdin.write("".join(f"{id}\n" for id in ids).encode())
            self._reader.stdin.flush()
            for id in ids:
                head = self._reader.stdout.readline().split()
                if len(head) != 3:
                    raise GitError(f"git has no content {id}", str(self.git.top), "Look at it with `git fsck`")
                yield self._reader.stdout.read(int(head[2]) + 1)[:-1]
        except OSError as error:
            raise GitError(f"git cat-file ended: {error}", str(self.git.top)) from error
