"""The pipelines that a repository declares in one state, and which of them may have changed between two.

A pipeline is ``training.kfp`` of a manifest, as the environments have it. It is told by a fingerprint of everything
that its compiled form may depend on; two states with the same fingerprint compile to the same.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mlfleet.errors import ManifestError
from mlfleet.fleet.dependencies import Closure, FactsCache, closure_of
from mlfleet.fleet.git import Git
from mlfleet.fleet.trees import Tree, Trees
from mlfleet.manifest.diagnostics import Diagnostic
from mlfleet.manifest.document import Document, at, parse
from mlfleet.manifest.environments import SUFFIXES
from mlfleet.manifest.layers import resolve
from mlfleet.manifest.naming import DEFAULT, is_project_name

_PROJECTS, _ENVIRONMENTS, _DEFAULTS = "include/projects", "include/environments", "include/defaults.yaml"
# The compiler and what it stands on.
PINS = ("requirements.txt", "requirements.in", "pyproject.toml")
_PIN = re.compile(r"kfp[\w-]*\s*(\[[^\]]*\])?\s*[=<>!~].*")
_REFERENCE = re.compile(r"([^:]+\.py):([A-Za-z_]\w*)")


@dataclass(frozen=True, order=True)
class Declared:
    """``training.kfp`` of a project; ``environments`` are those that have it like this."""

    project: str
    file: str
    function: str
    caching: bool = False
    environments: tuple[str, ...] = ()

    @property
    def reference(self) -> str:
        """As the manifest writes it."""
        return f"{self.file}:{self.function}"


@dataclass(frozen=True)
class State:
    """Pipelines of one state of the repository, by project, and findings of manifests that do not tell theirs."""

    tree: Tree
    top: str
    declared: Mapping[str, tuple[Declared, ...]]
    unreadable: Mapping[str, Diagnostic] = field(default_factory=dict)
    pins: tuple[str, ...] = ()
    cache: FactsCache = field(default_factory=dict, repr=False)

    def folder_of(self, project: str) -> str:
        """The project's folder, from the top of the git repository."""
        return posixpath.join(self.top, "include/pipelines", project)

    def closure(self, declared: Declared) -> Closure:
        """The files that the pipeline may depend on."""
        return closure_of(self.tree, self.top, self.folder_of(declared.project), declared.file, self.cache)

    def contents(self, declared: Declared) -> dict[str, str]:
        """Everything that the compiled form may depend on: files with their contents' ids, pins, the declaration."""
        files = {path: self.tree.entries[path].id for path in self.closure(declared).files}
        return {
            **files,
            **{f"pin {pin}": "" for pin in self.pins},
            f"{declared.reference} caching={declared.caching}": "",
        }

    def fingerprint(self, declared: Declared) -> str:
        """Of `contents`."""
        told = "\0".join(f"{name}\0{id}" for name, id in sorted(self.contents(declared).items()))
        return hashlib.sha256(told.encode("utf-8", "surrogateescape")).hexdigest()


@dataclass(frozen=True)
class Change:
    """A project whose compiled pipeline may differ, and the files, pins or declarations that are the reason."""

    project: str
    pipelines: tuple[Declared, ...]
    because: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """What may differ between two states. ``removed`` are projects that had a pipeline and have none any more."""

    changed: tuple[Change, ...]
    removed: tuple[str, ...]
    unreadable: tuple[Diagnostic, ...]
    total: int


def read_state(tree: Tree, top: str, cache: FactsCache | None = None) -> State:
    """The pipelines of a state; manifests are only parsed, so that one with other errors counts."""
    environments = [_stem(path) for path in _yaml_files(tree, top, _ENVIRONMENTS)] or [DEFAULT]
    defaults = _document(tree, top, posixpath.join(top, _DEFAULTS))
    declared: dict[str, tuple[Declared, ...]] = {}
    unreadable: dict[str, Diagnostic] = {}
    # The file that is called like its project first: it keeps the name (`mlfleet.manifest.loading`).
    manifests = _yaml_files(tree, top, _PROJECTS)
    tree.expect(manifests)
    documents = [(path, _document(tree, top, path)) for path in manifests]
    for path, document in sorted(documents, key=lambda item: (_stem(item[0]) != _name(item[1]), item[0])):
        assert document is not None
        name = _name(document)
        if name is None:
            unreadable[path] = _first_error(document)
        elif name not in declared:
            try:
                declared[name] = _pipelines(document, defaults, name, environments)
            except ManifestError as error:
                unreadable[path] = error.diagnostics[0]  # type: ignore[assignment]
    found = {name: pipelines for name, pipelines in sorted(declared.items()) if pipelines}
    state = State(tree, top, found, unreadable, _pins(tree, top), {} if cache is None else cache)
    tree.expect(posixpath.join(state.folder_of(name), each.file) for name in found for each in found[name])
    return state


def compare(before: Iterable[State], now: State) -> Comparison:
    """What may differ from any of the states before."""
    because: dict[str, set[str]] = {}
    removed: set[str] = set()
    for state in before:
        removed |= state.declared.keys() - now.declared.keys()
        for project, pipelines in now.declared.items():
            because.setdefault(project, set()).update(_differences(state, now, project, pipelines))
    changed = tuple(
        Change(project, now.declared[project], tuple(sorted(why))) for project, why in sorted(because.items()) if why
    )
    return Comparison(changed, tuple(sorted(removed)), tuple(found for _, found in sorted(now.unreadable.items())),
                      len(now.declared))  # fmt: skip


def compare_with(git: Git, base: str) -> Comparison:
    """What may differ between the work tree and where its history parted from `base`. Raises ConfigError."""
    top = git.prefix
    head = git.commit("HEAD")
    bases = git.merge_bases(git.commit(base), head)
    cache: FactsCache = {}
    with Trees(git) as trees:
        before = [read_state(trees.of_commit(commit), top, cache) for commit in bases]
        return compare(before, read_state(trees.of_work_tree(), top, cache))


def _differences(before: State, now: State, project: str, pipelines: tuple[Declared, ...]) -> set[str]:
    if project not in before.declared:
        return {"new"}
    old: dict[str, str] = {}
    new: dict[str, str] = {}
    for contents, state, declared in ((old, before, before.declared[project]), (new, now, pipelines)):
        for pipeline in declared:
            contents.update(state.contents(pipeline))
    return {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}


def _pipelines(
    document: Document, defaults: Document | None, name: str, environments: list[str]
) -> tuple[Declared, ...]:
    """Each different one that some environment has; raises ManifestError for one that is not written as one is."""
    found: dict[Declared, list[str]] = {}
    for environment in environments:
        resolved = resolve(document, defaults, environment)
        section = at(resolved.data, "training", "kfp")
        if section is None:
            continue
        reference = _REFERENCE.fullmatch(str(at(section, "pipeline")))
        if reference is None:
            resolved.report("MF012", ("training", "kfp", "pipeline"), "this does not name a pipeline",
                            "write it like pipeline.py:train, file and function")  # fmt: skip
            raise ManifestError(resolved.diagnostics[-1:])
        pipeline = Declared(name, reference[1], reference[2], at(section, "caching") is True)
        found.setdefault(pipeline, []).append(environment)
    return tuple(
        Declared(name, each.file, each.function, each.caching, tuple(where)) for each, where in sorted(found.items())
    )


def _pins(tree: Tree, top: str) -> tuple[str, ...]:
    """The lines of the first file that pins the compiler."""
    for name in PINS:
        way = tree.follow(posixpath.join(top, name))
        if way and way[-1] in tree.entries:
            text = tree.read(way[-1]).decode("utf-8", "replace")
            found = tuple(line.strip().strip('",') for line in text.splitlines() if _PIN.search(line))
            if found:
                return found
    return ()


def _yaml_files(tree: Tree, top: str, folder: str) -> list[str]:
    whole = posixpath.join(top, folder)
    return [path for path in tree.below(whole) if posixpath.dirname(path) == whole and path.endswith(SUFFIXES)]


def _document(tree: Tree, top: str, path: str) -> Document | None:
    """The parsed file, or an empty document with the finding; None when it is not there."""
    way = tree.follow(path)
    if not way:
        return None
    shown = path.removeprefix(top)
    if way[-1] not in tree.entries or tree.entries[way[-1]].is_link:
        document = Document(shown, "")
        document.report("MF001", (), "the link leads to no file of the repository", "put the file itself there")
        return document
    try:
        return parse(tree.read(way[-1]).decode("utf-8"), shown)
    except UnicodeDecodeError:
        document = Document(shown, "")
        document.report("MF001", (), "the file is not UTF-8 text", "save it as UTF-8")
        return document


def _name(document: Document | None) -> str | None:
    name = at(document.data, "name") if document else None
    return name if isinstance(name, str) and is_project_name(name) else None


def _first_error(document: Document) -> Diagnostic:
    if not document.diagnostics:
        document.report("MF012", ("name",), "the project's name is missing or is none")
    return document.diagnostics[0]


def _stem(path: str) -> str:
    return posixpath.splitext(posixpath.basename(path))[0]
