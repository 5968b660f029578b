"""Manifests from files: one with all its findings, or all of a repository with what holds between them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from mlfleet.errors import ManifestError
from mlfleet.manifest.checks import Surroundings, check
from mlfleet.manifest.diagnostics import Diagnostic, errors
from mlfleet.manifest.document import MAX_BYTES, Document, parse
from mlfleet.manifest.environments import SUFFIXES, Environment, load_environment
from mlfleet.manifest.models import Project, is_project_name
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

    def folder_of(self, project: str) -> Path:
        """The code of a project; paths in its manifest are relative to this folder."""
        return self.root / "include" / "pipelines" / project

    def manifests(self) -> list[Path]:
        """All manifest files, sorted by name."""
        return sorted(path for path in self.projects.glob("*") if path.suffix in SUFFIXES and path.is_file())

    def shown(self, path: Path) -> str:
        """A path as messages write it: relative to the repository where possible, so that it says the same anywhere."""
        try:
            return path.resolve().relative_to(self.root.resolve()).as_posix()
        except ValueError:
            return str(path)

    @classmethod
    def around(cls, start: Path) -> Repository | None:
        """The nearest folder, from `start` upwards, that holds include/projects; None when there is none."""
        for folder in (start.resolve(), *start.resolve().parents):
            if (folder / "include" / "projects").is_dir():
                return cls(folder)
        return None


@dataclass
class Loaded:
    """What became of one manifest file: ``project`` is None when there are errors among the diagnostics."""

    path: Path
    document: Document
    project: Project | None = None

    @property
    def diagnostics(self) -> list[Diagnostic]:
        """All findings in the order of the file."""
        return sorted(self.document.diagnostics, key=lambda found: (found.line, found.column, found.id))

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
    """All manifests of a repository, and what is wrong with its environment files."""

    manifests: list[Loaded]
    diagnostics: list[Diagnostic] = field(default_factory=list)

    def all_diagnostics(self) -> list[Diagnostic]:
        """Findings of environments first, then file by file."""
        return [*self.diagnostics, *(found for loaded in self.manifests for found in loaded.diagnostics)]


def load_manifest(path: Path, repository: Repository, environments: Sequence[Environment] = ()) -> Loaded:
    """Reads and checks one manifest; never raises for what is wrong with it."""
    document = _read(path, repository.shown(path))
    loaded = Loaded(path, document)
    if document.data is None:
        return loaded
    project: Project | None = None
    try:
        project = Project.model_validate(document.data)
    except ValidationError as error:
        report(document, error, Project)
    name = document.data.get("name")
    # A wrong name is an error of its own; files are not looked for behind it.
    folder = repository.folder_of(str(name)) if is_project_name(name) else None
    check(document, Surroundings(repository.root, folder, environments))
    if not errors(document.diagnostics):
        loaded.project = project
    return loaded


def load_fleet(repository: Repository, paths: Iterable[Path] | None = None) -> Fleet:
    """Reads the given manifests (default: all) of a repository and checks them against each other."""
    environments: list[Environment] = []
    diagnostics: list[Diagnostic] = []
    for path in (found for found in sorted(repository.environments.glob("*")) if found.suffix in SUFFIXES):
        environment, findings = load_environment(path, repository.shown(path))
        diagnostics += findings
        if environment:
            environments.append(environment)
    chosen = repository.manifests() if paths is None else list(paths)
    fleet = Fleet([load_manifest(path, repository, environments) for path in chosen], diagnostics)
    _check_names(fleet.manifests)
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


def _read(path: Path, shown: str) -> Document:
    try:
        raw = path.read_bytes()
        if len(raw) > MAX_BYTES:
            document = Document(shown, "")
            document.report("MF001", (), f"the file has {len(raw)} bytes, a manifest has at most {MAX_BYTES}",
                            "data does not belong into a manifest")  # fmt: skip
            return document
        return parse(raw.decode("utf-8"), shown)
    except OSError as error:
        summary = f"the file cannot be read: {error.strerror or error}"
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        summary = f"the file is not UTF-8 text: byte {raw[error.start]:#04x} on line {line}"
    document = Document(shown, "")
    document.report("MF001", (), summary)
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


def _check_names(manifests: list[Loaded]) -> None:
    """Two manifests with one name: the file that is called like the project keeps it, so nobody is broken."""
    by_name: dict[str, Loaded] = {}
    for loaded in sorted(
        manifests, key=lambda item: (item.path.stem != (item.document.data or {}).get("name"), str(item.path))
    ):
        if loaded.project is None:
            continue
        first = by_name.setdefault(loaded.project.name, loaded)
        if first is not loaded:
            loaded.document.report("MF015", ("name",), f"{loaded.project.name!r} is {first.document.file} already",
                                   "a name is the id of one DAG: choose another one")  # fmt: skip
            loaded.refuse()
