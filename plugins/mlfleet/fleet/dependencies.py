"""Which files a pipeline's compiled form may depend on, in one state of the repository; nothing is run or imported.

These are all files of the project's folder; modules that the pipeline imports and the packages around them; files that
it or they read; and where links among these lead. Modules are looked for where compiling looks for them
(`SEARCHED`), in all places at once. When the text of a module does not tell what it reads, everything below ``include``
counts. What is not in git is not seen: installed packages, variables of the environment, the network.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from mlfleet.fleet.path_values import Value
from mlfleet.fleet.python_facts import Facts, Import, facts_of
from mlfleet.fleet.trees import Tree, inside
from mlfleet.systems.kfp_compile import SEARCHED

# Packages of the repository that are installed from it, so that its files are what is imported.
_INSTALLED = ("plugins",)
# Read once per content, however many states and pipelines have it.
FactsCache = dict[tuple[str, str], Facts]


@dataclass(frozen=True)
class Closure:
    """``files`` that count; ``unbounded`` is why everything does, "" when it does not."""

    files: frozenset[str]
    unbounded: str = ""


def closure_of(tree: Tree, top: str, folder: str, file: str, cache: FactsCache) -> Closure:
    """What a pipeline may depend on.

    ``top``     the deployment repository's folder in the git repository, "" or with a slash at its end
    ``folder``  the project's folder, from the git repository's top
    ``file``    the pipeline's file, relative to `folder`
    """
    return _Search(tree, top, folder, cache).run(file)


@dataclass
class _Search:
    tree: Tree
    top: str
    folder: str
    cache: FactsCache
    files: set[str] = field(default_factory=set)
    todo: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    places: set[str] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)
    unbounded: str = ""
    runs: bool = False

    def run(self, file: str) -> Closure:
        searched = [
            self.folder,
            *(inside(posixpath.join(self.top or ".", place)) for place in (*SEARCHED, *_INSTALLED)),
        ]
        self.roots = [place for place in dict.fromkeys(searched) if place is not None]
        # Compiling runs in the folder of the pipeline's file.
        self.cwd = posixpath.dirname(posixpath.join(self.folder, file))
        self.places |= {*self.roots, self.folder, self.cwd}
        self._take(self.folder)
        self._follow(posixpath.join(self.folder, file))
        while self.todo:
            self._module(self.todo.pop())
            if not self.todo:
                self._take_named_files()
        if self.unbounded:
            self._take(posixpath.join(self.top, "include"))
        return Closure(frozenset(self.files), self.unbounded)

    def _module(self, path: str) -> None:
        real = self.tree.follow(path)[-1]
        key = (path, self.tree.entries[real].id)
        if key not in self.cache:
            self.cache[key] = facts_of(self.tree.read(real), path)
        facts = self.cache[key]
        self.places.add(posixpath.dirname(path))
        self.texts |= facts.texts
        self.unbounded = self.unbounded or facts.unknown
        self.runs = self.runs or facts.runs
        for value in facts.folders:
            self._search_also(value)
        for wanted in facts.imports:
            self._import(wanted, path)
        for value in facts.reads:
            self._read(value)
        for value in facts.mentions:
            if not (value.exact and self._holds_code(value)):
                self._read(value)

    # Imports

    def _import(self, wanted: Import, path: str) -> None:
        if wanted.level:
            base: str | None = path
            for _ in range(wanted.level):
                base = posixpath.dirname(base) if base else None
            bases = [] if base is None else [base]
        else:
            bases = list(self.roots)
        for base in bases:
            for module in self._walk(base, wanted.module.split(".") if wanted.module else []):
                for name in wanted.names:
                    self._name(module, name)

    def _walk(self, base: str, parts: list[str]) -> Iterator[str]:
        """Takes each package on the way; gives the path of the last one, without a suffix."""
        for part in parts:
            base = posixpath.join(base, part)
            found = self._one(base)
            if not found and not self._is_folder(base):
                return
        yield base

    def _name(self, package: str, name: str) -> None:
        """What ``from package import name`` may mean: a module of it, all of them, or something inside."""
        if name != "*":
            self._one(posixpath.join(package, name))
            return
        if self._is_folder(package):
            for path in self.tree.below(self.tree.follow(package)[-1]):
                self._follow(path)

    def _one(self, base: str) -> bool:
        """Takes the module or package at a path without suffix; whether there is one."""
        found = [self._follow(f"{base}.py"), self._follow(f"{base}/__init__.py")]
        return any(found)

    def _search_also(self, value: Value) -> None:
        for place in self._meant(value):
            if place not in self.roots:
                self.roots.append(place)
                # What was looked for in vain may be there.
                self.todo += [path for path in self.seen if path not in self.todo]
            if not value.exact:
                self._take(place)

    # Files

    def _read(self, value: Value) -> None:
        for path in self._meant(value):
            if value.exact:
                self._take_and_run(path)
            elif path in ("", self.top.rstrip("/")):
                self.unbounded = self.unbounded or "a file somewhere in the repository is read"
            else:
                self.places.add(path)
                self._take(path)

    def _holds_code(self, value: Value) -> bool:
        """Whether it is one of the folders that everything is found from, and not something in there."""
        found = list(self._meant(value))
        return any(path == "" or f"{root}/".startswith(f"{path}/") for path in found for root in self.roots)

    def _meant(self, value: Value) -> Iterator[str]:
        """The paths that a value can mean, from the top of the repository."""
        if value.text.startswith("/"):
            path = inside(value.text.lstrip("/") or ".")
        else:
            path = inside(posixpath.join(self.cwd or ".", value.text or "."))
        if path is not None:
            yield path

    def _take_named_files(self) -> None:
        """Texts that name a file beside any module, wherever in the code they reach what opens it."""
        for place in sorted(self.places):
            for text in self.texts:
                path = inside(posixpath.join(place or ".", text))
                if path and path not in self.roots and path != self.top.rstrip("/"):
                    self._take_and_run(path)

    def _take_and_run(self, path: str) -> None:
        """Where code that was read is run, a file that is read may be code."""
        self._take(path)
        if self.runs and path.endswith(".py"):
            self._follow(path)

    def _take(self, path: str) -> None:
        """Counts a file, or all files of a folder, and where links lead."""
        way = self.tree.follow(path)
        if not way:
            return
        self.files |= {step for step in way if step in self.tree.entries}
        if way[-1] in self.tree.folders:
            self._take_all(self.tree.below(way[-1]))

    def _take_all(self, paths: Iterable[str]) -> None:
        for path in paths:
            if path not in self.files:
                self.files.add(path)
                if self.tree.entries[path].is_link:
                    self._take(path)

    def _follow(self, path: str) -> bool:
        """Counts a Python file and reads it later; whether it is there."""
        way = self.tree.follow(path)
        if not way or way[-1] not in self.tree.entries:
            return False
        self.files.update(step for step in way if step in self.tree.entries)
        # By each of its names, because `__file__` is that of the link and `resolve()` gives what it leads to.
        for name in dict.fromkeys((path, way[-1])):
            if name.endswith(".py") and name not in self.seen:
                self.seen.add(name)
                self.todo.append(name)
        return True

    def _is_folder(self, path: str) -> bool:
        way = self.tree.follow(path)
        return bool(way) and way[-1] in self.tree.folders
