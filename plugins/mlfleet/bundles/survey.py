"""Looking at a repository: which definitions its manifests give, and what is wrong with the others.

A survey remembers what it saw by the files' stat, so that a look costs what has changed since the last one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from mlfleet.bundles.definition import Definition, Stats, code_digest, stats
from mlfleet.bundles.trial import problem_of
from mlfleet.errors import ConfigError, ManifestError
from mlfleet.manifest.code import SHARED, imports_shared
from mlfleet.manifest.diagnostics import Diagnostic, errors
from mlfleet.manifest.document import Document, at, parse
from mlfleet.manifest.environments import SUFFIXES, Environment, load_environment, select_environment
from mlfleet.manifest.known import UNKNOWN_COMMIT
from mlfleet.manifest.loading import Loaded, Repository, load_defaults, load_manifest
from mlfleet.manifest.naming import selected_name
from mlfleet.manifest.schedule_checks import schedules_of
from mlfleet.manifest.step_checks import steps_of

# The project's own files, and those that projects share if it takes one.
_Files: TypeAlias = tuple[Stats, Stats]


@dataclass(frozen=True)
class Entry:
    """What became of one manifest: ``definition`` is None when there is a ``problem``.

    ``name``    of the project, None when the file does not tell it
    ``shared``  whether its code takes something from what projects share
    """

    manifest: str
    name: str | None
    definition: Definition | None = None
    problem: str = ""
    shared: bool = False


@dataclass(frozen=True)
class Surroundings:
    """What every manifest of a repository is checked against and built for."""

    repository: Repository
    environment: Environment
    all_environments: tuple[Environment, ...]
    defaults: Document | None = None

    @classmethod
    def of(cls, repository: Repository) -> Surroundings:
        """Reads include/environments and the defaults of all manifests.

        Raises ConfigError or ManifestError when the selected environment or the defaults cannot be used.
        """
        chosen = select_environment(repository.environments)
        paths = sorted(path for path in repository.environments.glob("*") if path.suffix in SUFFIXES)
        found = (load_environment(path, repository.shown(path))[0] for path in paths)
        defaults = load_defaults(repository)
        if defaults and errors(defaults.diagnostics):
            raise ManifestError(errors(defaults.diagnostics))
        return cls(repository, chosen, tuple(environment for environment in found if environment), defaults)


@dataclass
class Survey:
    """All manifests of the repository at ``root``, look after look."""

    root: Path
    _manifests: Stats = ()
    _environments: Stats = ()
    _surroundings: Surroundings | None = None
    _seen: dict[Path, tuple[_Files, Entry]] = field(default_factory=dict)
    _entries: list[Entry] = field(default_factory=list)

    def manifests_are_as_before(self) -> bool:
        """Whether manifests, environments and defaults are as the last look found them: a twentieth of a look.

        It does not look at the code of projects.
        """
        return self._manifests == _manifests(Repository(self.root))

    def look(self) -> tuple[list[Entry], dict[str, str]]:
        """An entry per manifest in the order of their files, and what is wrong around all of them, by file.

        With a broken environment, or broken defaults, there are no entries: no manifest can be judged.
        """
        repository = Repository(self.root)
        # Before the reading: what is written meanwhile is seen by the next look.
        self._manifests = _manifests(repository)
        paths = repository.manifests()
        if not paths:
            self._seen = {}
            return [], {}
        try:
            surroundings = self._look_around(repository)
        except (ConfigError, ManifestError) as error:
            self._surroundings = None
            return [], {_file_of(error): str(error)}
        shared = stats(*_shared(repository))
        seen = {path: self._look_at(path, surroundings, shared) for path in paths}
        if seen != self._seen:
            self._seen, self._entries = seen, _without_twins([entry for _, entry in seen.values()], self.root)
        return self._entries, {}

    def _look_around(self, repository: Repository) -> Surroundings:
        now = stats(*_around(repository))
        if self._surroundings is None or now != self._environments:
            self._seen = {}
            self._surroundings = Surroundings.of(repository)
            self._environments = now
        return self._surroundings

    def _look_at(self, path: Path, surroundings: Surroundings, shared: Stats) -> tuple[_Files, Entry]:
        before = self._seen.get(path)
        name = before[1].name if before else path.stem
        folders = [surroundings.repository.folder_of(name)] if name and "/" not in name else []
        # Before the reading, too. The folder of a project that is not called like its file is known only afterwards:
        # the next look reads it again.
        own = stats(path, *folders)
        if before and before[0] == (own, shared if before[1].shared else ()):
            return before
        entry = examine(path, surroundings)
        return (own, shared if entry.shared else ()), entry


def examine(path: Path, surroundings: Surroundings, with_code: bool = True) -> Entry:
    """Reads, checks and (``with_code``) tries one manifest; never raises for what is wrong with it.

    ``with_code``  the digest takes the project's code in, and its DAG is built once to see that it can be
    """
    repository = surroundings.repository
    loaded = load_manifest(
        path, repository, surroundings.all_environments, surroundings.defaults, surroundings.environment.name
    )
    name = (loaded.document.data or {}).get("name")
    entry = Entry(loaded.document.file, name if isinstance(name, str) else None)
    if loaded.project is None:
        return replace(entry, problem=_told(loaded))
    folder = repository.folder_of(loaded.project.name)
    entry = replace(entry, shared=with_code and imports_shared(folder))
    folders = [folder, *(_shared(repository) if entry.shared else ())]
    code = "".join(map(code_digest, folders)) if with_code else ""
    definition = Definition.of(loaded.project, surroundings.environment, entry.manifest, code)
    if with_code:
        problem, place = problem_of(definition.plan(repository.root, UNKNOWN_COMMIT))
        if problem:
            _report(loaded.document, problem, place)
            return replace(entry, problem=_told(loaded))
    return replace(entry, definition=definition)


def _file_of(error: ConfigError | ManifestError) -> str:
    """The file to mend; without one of its own it is that of the environment."""
    files = (found.file for found in getattr(error, "diagnostics", ()) if isinstance(found, Diagnostic))
    return next(files, f"include/environments/{selected_name()}.yaml")


def _manifests(repository: Repository) -> Stats:
    return stats(repository.projects, *_around(repository))


def _around(repository: Repository) -> list[Path]:
    """What every manifest is read together with."""
    return [repository.environments, repository.defaults, repository.defaults.with_suffix(".yml")]


def _shared(repository: Repository) -> list[Path]:
    """All of what projects share: which of it a project takes is not followed here."""
    return [repository.root / folder for folder in SHARED]


def _told(loaded: Loaded) -> str:
    return "\n".join(str(found) for found in errors(loaded.diagnostics))


def _report(document: Document, problem: str, place: str) -> None:
    hint = "see what `mlfleet dag` says"
    step = next((path for path, found in steps_of(document.data) if found.get("name") == place), None)
    timetable = next((path for path, found in schedules_of(document) if at(found, "timetable", "class") == place), None)
    if timetable is not None:
        document.report("MF025", (*timetable, "timetable", "class"), problem, hint)
    elif step is not None:
        document.report("MF025", (*step, "name"), problem, hint)
    else:
        document.report("MF020", (), f"no DAG could be built from this manifest: {problem}")


def _without_twins(entries: list[Entry], root: Path) -> list[Entry]:
    """Two manifests with one name: the file that is called like the project keeps it, so nobody is broken.

    It keeps the name also while it has errors: a copy must not take the place of its last good DAG.
    """
    holders: dict[str, Entry] = {}
    for entry in sorted(entries, key=lambda item: (Path(item.manifest).stem != item.name, item.manifest)):
        if entry.name:
            holders.setdefault(entry.name, entry)
    return [
        entry
        if entry.definition is None or holders[entry.definition.name] is entry
        else _twin(entry, holders[entry.definition.name].manifest, root)
        for entry in entries
    ]


def _twin(entry: Entry, holder: str, root: Path) -> Entry:
    document = parse((root / entry.manifest).read_text(encoding="utf-8"), entry.manifest)
    document.report("MF015", ("name",), f"{entry.name!r} is {holder} already",
                    "a name is the id of one DAG: choose another one")  # fmt: skip
    return replace(entry, definition=None, problem=str(document.diagnostics[-1]))
