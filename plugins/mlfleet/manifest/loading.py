"""Manifests from files: one with all its findings, or all of a repository with what holds between them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import ValidationError

from mlfleet.errors import ManifestError
from mlfleet.manifest.checks import Surroundings, check
from mlfleet.manifest.diagnostics import Diagnostic, Severity, errors, nearest
from mlfleet.manifest.document import MAX_BYTES, Document, at, parse, place_at_end
from mlfleet.manifest.environments import SUFFIXES, Environment, environment_names, load_environment
from mlfleet.manifest.layers import check_defaults, check_targets, environments_of, resolve
from mlfleet.manifest.models import Manifest, Project
from mlfleet.manifest.naming import is_project_name, selected_name
from mlfleet.manifest.schedule_checks import awaited_projects
from mlfleet.manifest.translate import report


@dataclass(frozen=True)
class Repository:
    """Where a deployment repository keeps what manifests speak of; ``root`` is its top folder."""

    root: Path

    @property
    def projects(self) -> Path:
        """Manifests, one file a project."""
        return self.root / "include" / "projects"

    @property
    def environments(self) -> Path:
        """One file an environment."""
        return self.root / "include" / "environments"

    @property
    def defaults(self) -> Path:
        """What all manifests have below them; need not be there."""
        return self.root / "include" / "defaults.yaml"

    def folder_of(self, project: str) -> Path:
        """The code of a project; paths in its manifest are relative to this folder."""
        return self.root / f"include/pipelines/{project}"

    def manifests(self) -> list[Path]:
        """All manifest files, sorted by name; raises ManifestError when their folder is there and cannot be read.

        Hidden ones are none: editors keep their locks and copies beside the file.
        """
        # A link that leads nowhere counts: it was meant to be a manifest, and somebody must be told.
        folder = self.projects
        try:
            with os.scandir(folder) as found:
                named = [entry for entry in found if entry.name.endswith(SUFFIXES) and not entry.name.startswith(".")]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            # Not the same as no manifests: that would take every DAG away.
            raise ManifestError([f"{folder}: {error.strerror}"]) from error
        names = (
            entry.name for entry in named if entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))
        )
        return [folder / name for name in sorted(names)]

    def shown(self, path: Path) -> str:
        """A path as messages write it: relative to the repository where possible, so that it says the same anywhere."""
        try:
            return path.resolve().relative_to(self.root.resolve()).as_posix()
        except ValueError:
            return str(path)

    def shown_link(self, path: Path) -> str:
        """Like `shown`, but a link by its own name and not by that of the file that it leads to."""
        return self.shown(path.parent) + f"/{path.name}" if path.is_symlink() else self.shown(path)

    @classmethod
    def around(cls, start: Path) -> Repository | None:
        """The nearest folder, from `start` upwards, that holds include/projects; None when there is none."""
        for folder in (start.resolve(), *start.resolve().parents):
            if (folder / "include" / "projects").is_dir():
                return cls(folder)
        return None


@dataclass
class Loaded:
    """What became of one manifest file: ``project`` is None when there are errors among the diagnostics.

    ``document`` and ``project`` are as one environment has them; the findings are those of all environments.
    """

    path: Path
    document: Document
    project: Project | None = None

    @property
    def diagnostics(self) -> list[Diagnostic]:
        """All findings in the order of the file, then those of the defaults below it."""
        return sorted(
            self.document.diagnostics,
            key=lambda found: (found.file != self.document.file, found.line, found.column, found.id),
        )

    def require(self) -> Project:
        """The project; raises ManifestError with every error when it cannot be used."""
        if self.project is None:
            raise ManifestError(errors(self.diagnostics))
        return self.project

    def refuse(self) -> None:
        """Gives the project up, after an error was added."""
        self.project = None


@dataclass
class Fleet:
    """All manifests of a repository, and what is wrong with its environment files and its defaults."""

    manifests: list[Loaded]
    diagnostics: list[Diagnostic] = field(default_factory=list)

    def all_diagnostics(self) -> list[Diagnostic]:
        """Findings of environments first, then file by file; what several manifests say of the defaults once."""
        all_of_them = [*self.diagnostics, *(found for loaded in self.manifests for found in loaded.diagnostics)]
        return list(dict.fromkeys(all_of_them))


def load_manifest(
    path: Path,
    repository: Repository,
    environments: Sequence[Environment] = (),
    defaults: Document | None = None,
    environment: str | None = None,
) -> Loaded:
    """Reads one manifest and checks it in every environment; never raises for what is wrong with it.

    ``environments``  all that the repository has; none when they are not known
    ``defaults``      what `load_defaults` gave
    ``environment``   whose targets the result has; default: the selected one
    """
    document = _read(path, repository)
    if document.data is None:
        return Loaded(path, document)
    chosen = environment or selected_name()
    check_targets(document, [known.name for known in environments])
    loaded = _load_for(chosen, path, document, repository, environments, defaults)
    if different := environments_of(document, defaults):
        # An environment without a target has what is written, which no other one may have.
        names = {known.name for known in environments} | different
        for other in sorted(names - {chosen}):
            further = _load_for(other, path, document, repository, environments, defaults)
            found = loaded.document.diagnostics
            found += [finding for finding in further.document.diagnostics if finding not in found]
        if errors(loaded.document.diagnostics):
            loaded.refuse()
    return loaded


def _load_for(
    environment: str, path: Path, document: Document, repository: Repository, environments: Sequence[Environment],
    defaults: Document | None,
) -> Loaded:  # fmt: skip
    """The manifest as one environment has it, with the findings of that."""
    resolved = resolve(document, defaults, environment)
    loaded = Loaded(path, resolved)
    project: Project | None = None
    try:
        project = Project.model_validate(resolved.data)
    except ValidationError as error:
        report(resolved, error, Manifest)
    name = at(resolved.data, "name")
    # A wrong name is an error of its own; files are not looked for behind it.
    folder = repository.folder_of(str(name)) if is_project_name(name) else None
    check(resolved, Surroundings(repository.root, folder, environments))
    if defaults:
        _name_the_manifest(resolved, defaults)
    if not errors(resolved.diagnostics):
        loaded.project = project
    return loaded


def _name_the_manifest(resolved: Document, defaults: Document) -> None:
    """Adds to findings in the defaults whose they are, unless they are wrong whoever has them."""
    for_all = {(found.id, found.line, found.column) for found in defaults.diagnostics}
    for index, found in enumerate(resolved.diagnostics):
        if found.file == defaults.file and (found.id, found.line, found.column) not in for_all:
            resolved.diagnostics[index] = replace(found, summary=f"{found.summary}, as {resolved.file} has it")


def load_defaults(repository: Repository) -> Document | None:
    """The organisation's defaults with what is wrong with them by themselves; None when there are none.

    They are no whole manifest: what is missing is for the manifests to say.
    """
    path = repository.defaults
    misnamed = path.with_suffix(".yml")
    if not path.exists() and not misnamed.exists():
        return None
    document = _read(path if path.exists() else misnamed, repository)
    if misnamed.exists():
        document.report("MF024", (), f"defaults lie in {repository.shown(path)}, and only there",
                        f"move it to {path.name}")  # fmt: skip
    if document.data is None:
        return document
    names = environment_names(repository.environments)
    check_defaults(document, names)
    for environment in sorted(environments_of(document, None) | {selected_name()}):
        resolved = resolve(document, None, environment)
        try:
            Project.model_validate(resolved.data)
        except ValidationError as error:
            report(resolved, error, Manifest, partial=True)
        document.diagnostics += [found for found in resolved.diagnostics if found not in document.diagnostics]
    return document


def load_fleet(repository: Repository, paths: Iterable[Path] | None = None, environment: str | None = None) -> Fleet:
    """Reads the given manifests (default: all) of a repository and checks them against each other."""
    environments: list[Environment] = []
    diagnostics: list[Diagnostic] = []
    for path in (found for found in sorted(repository.environments.glob("*")) if found.suffix in SUFFIXES):
        known, findings = load_environment(path, repository.shown(path))
        diagnostics += findings
        if known:
            environments.append(known)
    defaults = load_defaults(repository)
    if defaults:
        diagnostics += defaults.diagnostics
    chosen = repository.manifests() if paths is None else list(paths)
    fleet = Fleet([load_manifest(path, repository, environments, defaults, environment) for path in chosen],
                  diagnostics)  # fmt: skip
    _check_names(fleet.manifests)
    if paths is None:
        _check_awaited(fleet.manifests, {_name_of(loaded) for loaded in fleet.manifests})
    return fleet


def find_manifest(repository: Repository, name: str) -> Path | None:
    """The manifest of the project called `name`: the file of that name, or else the first one that says so.

    Cheap on purpose: a worker calls it once per task.
    """
    same_stem = [path for suffix in SUFFIXES if (path := repository.projects / f"{name}{suffix}").is_file()]
    for path in same_stem:
        if _says(path, name):
            return path
    # Listing thousands of files costs more than reading one.
    others = (path for path in repository.manifests() if path.stem != name)
    return next((path for path in others if _says(path, name)), same_stem[0] if same_stem else None)


def _read(path: Path, repository: Repository) -> Document:
    shown = repository.shown_link(path)
    if path.is_symlink() and not path.resolve().is_relative_to(repository.root.resolve()):
        # Findings show lines of the file, and so would show any file of the machine.
        document = Document(shown, "")
        document.report("MF018", (), "the manifest is a link that leaves the repository", "put the file itself there")
        return document
    try:
        raw = path.read_bytes()
        if len(raw) > MAX_BYTES:
            document = Document(shown, "")
            document.report("MF001", (), f"the file has {len(raw)} bytes, a manifest has at most {MAX_BYTES}",
                            "data does not belong into a manifest")  # fmt: skip
            return document
        return parse(raw.decode("utf-8"), shown)
    except OSError as error:
        document = Document(shown, "")
        document.report("MF001", (), f"the file cannot be read: {error.strerror or error}")
    except UnicodeDecodeError as error:
        document = Document(shown, raw.decode("utf-8", "replace"))
        place = place_at_end(raw[: error.start].decode("utf-8", "replace"))
        document.report_at(place, "MF001", f"the file is not UTF-8 text: byte {raw[error.start]:#04x}",
                           "save it as UTF-8")  # fmt: skip
    return document


def _says(path: Path, name: str) -> bool:
    """Whether a manifest says that it is the project's; only what may be the one is parsed."""
    text = _text_or_empty(path)
    return name in text and (parse(text, path.name).data or {}).get("name") == name


def _text_or_empty(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def check_against_rest(fleet: Fleet, repository: Repository) -> None:
    """Adds what is wrong between the manifests of a fleet and those of the repository that are not in it.

    For who looks at a few files and must not say "all is well" to a name that another file has: texts are searched, and
    only the few that may matter are parsed.
    """
    here = {loaded.path.resolve() for loaded in fleet.manifests}
    rest = [path for path in repository.manifests() if path.resolve() not in here]
    # A file that lies elsewhere makes no DAG: a draft, or what `mlfleet render` printed.
    ours = [loaded for loaded in fleet.manifests if loaded.path.resolve().parent == repository.projects.resolve()]
    names = {name for loaded in ours if (name := _name_of(loaded))}
    awaited = {name for loaded in ours for _, name in awaited_projects(loaded.document)}
    known: list[Loaded] = []
    for path in rest:
        text = _text_or_empty(path)
        if any(name in text for name in names | awaited):
            known.append(Loaded(path, parse(text, repository.shown(path))))
    _check_names([*ours, *known])
    _check_awaited(ours, {_name_of(loaded) for loaded in (*ours, *known)},
                   [path.stem for path in rest])  # fmt: skip


def _name_of(loaded: Loaded) -> str:
    name = at(loaded.document.data, "name")
    return name if isinstance(name, str) else ""


def _check_names(manifests: list[Loaded]) -> None:
    """Two manifests with one name: the file that is called like the project keeps it, so nobody is broken.

    It keeps the name also while it has errors: another project must not take the place of its DAG.
    """
    by_name: dict[str, Loaded] = {}
    for loaded in sorted(manifests, key=lambda item: (item.path.stem != _name_of(item), str(item.path))):
        name = _name_of(loaded)
        if not name:
            continue
        first = by_name.setdefault(name, loaded)
        if first is not loaded:
            loaded.document.report("MF015", ("name",), f"{name!r} is {first.document.file} already",
                                   "a name is the id of one DAG: choose another one")  # fmt: skip
            loaded.refuse()


def _check_awaited(manifests: list[Loaded], known: set[str], more: Sequence[str] = ()) -> None:
    """A warning and no error: that a project was removed must not take those down that waited for it."""
    for loaded in manifests:
        for path, name in awaited_projects(loaded.document):
            if name not in known:
                near = nearest(name, [*known, *more])
                loaded.document.report(
                    "MF019", path, f"no project is called {name!r}: nothing will start this one",
                    f"did you mean {near!r}?" if near else "", severity=Severity.WARNING,
                )  # fmt: skip
