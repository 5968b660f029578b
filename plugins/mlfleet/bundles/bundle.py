"""The DAG bundle that makes DAGs from manifests."""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import os
import shutil
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow import settings
from airflow.dag_processing.bundles.base import (
    BaseDagBundle,
    BundleVersion,
    BundleVersionLock,
    unpack_bundle_version,
)
from airflow.sdk import get_parsing_context

from mlfleet.bundles.branch import stands_at
from mlfleet.bundles.definition import Definition
from mlfleet.bundles.layout import Layout, file_names, on_demand, possible_names, read_loader
from mlfleet.bundles.seen import Seen
from mlfleet.errors import ConfigError, ManifestError
from mlfleet.manifest.naming import is_project_name, selected_name
from mlfleet.manifest.parts import project_of

if TYPE_CHECKING:
    from mlfleet.bundles.survey import Entry, Survey

LOCAL = "airflow.dag_processing.bundles.local.LocalDagBundle"
# Seconds between two refreshes of a source without versions in which no manifest has changed.
UNCHANGED = 60
log = logging.getLogger(__name__)


class ManifestDagBundle(BaseDagBundle):
    """DAGs from the manifests of a repository that another bundle brings.

    In ``[dag_processor] dag_bundle_config_list``::

        {"name": "projects", "classpath": "mlfleet.bundles.ManifestDagBundle", "kwargs": {"path": "/opt/airflow"}}

        {"name": "projects", "classpath": "mlfleet.bundles.ManifestDagBundle", "kwargs": {
            "source": {"classpath": "airflow.providers.git.bundles.git.GitDagBundle",
                       "kwargs": {"git_conn_id": "fleet", "tracking_ref": "main"}}}}

    ``path``    a folder that holds ``include``; default: the folder that holds Airflow's ``dags_folder``
    ``source``  classpath and kwargs of a bundle to take the repository from, instead of ``path``
    ``projects_per_file``  1, or about how many projects share a file

    It is versioned when its source is. Everything that it writes lies in Airflow's ``dag_bundle_storage_path``:

    * the DAG processor lays out all projects, and an error of its own for each manifest that cannot be used. The last
      good definition of such a project stays in force: with git that of the last good commit, else the one that the
      storage still holds;
    * a worker lays out only the project of its task, as of the run's version, in a folder that no one else parses;
    * for a callback of a run the DAG processor does the same, in the process that parses the callback's file.
    """

    def __init__(
        self,
        *,
        path: str | None = None,
        source: Mapping[str, Any] | None = None,
        projects_per_file: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if path is not None and source is not None:
            raise ConfigError(f"the bundle {self.name!r} has both `path` and `source`", "dag_bundle_config_list")
        self._config = source or {"classpath": LOCAL, "kwargs": {"path": path or str(_around_dags_folder())}}
        self._per_file = projects_per_file
        self._last: tuple[str | None, list[Entry], dict[str, str]] | None = None
        self._calm_until: float | None = None  # None until a refresh has ended well
        self.serve(project_of(get_parsing_context().dag_id or ""))

    def serve(self, project: str) -> None:
        """Makes it the bundle of a process that needs this project alone; of one that needs all if it is no name."""
        self._project = project if is_project_name(project) else None
        self._ready = self.version is not None and self._project is not None and self._is_laid_out(self._project)
        # Airflow names a version only where there are versions.
        self.supports_versioning = self._ready or self._source.supports_versioning
        self._pinned = self.version if self.supports_versioning else None
        self._layout = Layout(self._folder())

    @functools.cached_property
    def _source(self) -> BaseDagBundle:
        """Made when it is asked for: a git bundle reads its connection, and imports what speaks git."""
        return self._bring(self.version)

    @functools.cached_property
    def _survey(self) -> Survey:
        # A worker that finds its project laid out needs nothing of what reads manifests.
        from mlfleet.bundles.survey import Survey

        return Survey(self._source.path)

    @property
    def refresh_interval(self) -> int:
        """Seconds after which Airflow refreshes this bundle: a minute while the manifests of a folder stay as they are.

        After each refresh of a bundle without versions Airflow lists its files and loads all of its DAGs from the
        database, changed or not (3.3.2, `airflow/dag_processing/manager.py`, `_refresh_dag_bundles`). It asks for
        nothing else before. So an edit of a manifest is seen after the interval, one of code after a minute.
        """
        return max(self._interval, UNCHANGED) if self._is_unchanged() else self._interval

    @refresh_interval.setter
    def refresh_interval(self, seconds: int) -> None:
        self._interval = seconds

    @property
    def path(self) -> Path:
        """The folder that Airflow parses."""
        return self._layout.folder

    @property
    def subdir(self) -> str | None:
        """Where the repository lies in the source; Airflow fills the template of the view URL with it."""
        return getattr(self._source, "subdir", None)

    def initialize(self) -> None:
        """Brings the source and lays out what this process parses; raises ManifestError when a worker's DAG cannot be.

        Safe beside other processes and threads: all of it happens under the bundle's lock.
        """
        if self._pinned and not self._project:
            with self.lock():
                self._layout.add(on_demand(self.name, self._pinned, Layout(self._main_folder).names()))
                self._forget_callbacks()
        elif not self._ready:
            with self._locked_with(self._source):
                self._source.initialize()
                self._lay_out()
        super().initialize()

    def refresh(self) -> None:
        """Brings the newest version of the source and lays out what has changed."""
        self._calm_until = None
        with self._locked_with(self._source):
            if not stands_at(self._source, self._source_version()):
                self._source.refresh()
            self._lay_out()
        self._calm_until = time.monotonic() + self._interval

    def projects_of(self, file: str) -> list[str]:
        """The projects in a file of the DAG processor of this machine; empty when it has no such file now."""
        return [definition.name for definition in read_loader(self._main_folder / file)]

    def get_current_version(self) -> BundleVersion | None:
        """The version of the source; None when it has none."""
        version = self._pinned or self._source_version()
        return BundleVersion(version) if version else None

    def view_url_template(self) -> str | None:
        """Where a version can be looked at: what the configuration says, else what the source says."""
        return self._view_url_template or self._source.view_url_template()

    def _is_unchanged(self) -> bool:
        """Whether the manifests of a source without versions are as they were laid out, looked at once an interval."""
        if self._project or self._calm_until is None or self.supports_versioning:
            return False
        if time.monotonic() >= self._calm_until:
            try:
                with self._locked_with(self._source):
                    self._source.refresh()
                    if not self._survey.manifests_are_as_before():
                        return False
            except Exception:
                # The refresh that follows meets it again, where Airflow logs it and goes on.
                return False
            self._calm_until = time.monotonic() + self._interval
        return True

    def _lay_out(self) -> None:
        if self._project:
            self._lay_out_project(self._project)
        else:
            self._lay_out_fleet()

    def _lay_out_fleet(self) -> None:
        version = self._source_version()
        if version and self._last and self._last[0] == version and self.path.is_dir():
            return
        entries, problems = self._survey.look()
        if self._last == (version, entries, problems):
            return
        refusals: dict[str, str] = {}
        if problems:
            in_force = self._layout.definitions()
            refusals = {file: f"{problem}\nin force: every project as it was" for file, problem in problems.items()}
        else:
            in_force = {entry.definition.name: entry.definition for entry in entries if entry.definition}
            if broken := [entry for entry in entries if not entry.definition]:
                refusals = self._refuse(broken, in_force, self._layout.definitions())
        names = file_names(in_force, self._per_file, [path.name for path in self.path.glob("group-*.py")])
        files = {file: [in_force[name] for name in projects] for file, projects in names.items()}
        written = self._layout.write(files, self._source.path, None, refusals)
        log.info("bundle %s: %d projects, %d refused, %d files written", self.name, len(in_force), len(refusals),
                 len(written))  # fmt: skip
        self._last = version, entries, problems
        self._forget_workers(in_force)

    def _refuse(
        self, broken: Iterable[Entry], in_force: dict[str, Definition], standing: Mapping[str, Definition]
    ) -> dict[str, str]:
        """What to say of each broken manifest; its last good definition is added to ``in_force``."""
        by_manifest = {definition.manifest: definition.name for definition in standing.values()}
        refusals = {}
        for entry in broken:
            # The project that this file was, or else the one that it says it is.
            name = by_manifest.get(entry.manifest) or entry.name or Path(entry.manifest).stem
            if name in in_force:
                told = f"in force: {in_force[name].manifest}"
            elif last := self._last_good(entry.manifest, name) or standing.get(name):
                in_force[last.name] = last
                what = f"commit {last.commit}" if last.commit else f"content {last.digest[:12]}"
                told = f"in force: the last good definition of {last.name}, {what}"
            else:
                told = "in force: nothing, there is no last good definition here"
            refusals[entry.manifest] = f"{entry.problem}\n{told}"
        return refusals

    def _is_laid_out(self, project: str) -> bool:
        """Whether an earlier task of this machine had this project at this version, and its source is still there.

        A version never changes: nothing has to be brought or looked at again.
        """
        layout = Layout(self.base_dir / "workers" / str(self.version) / project)
        names = possible_names(project, self._per_file)
        standing = layout.definition(project, names[:1])
        return (
            standing is not None
            and standing.environment == selected_name()
            # That of another commit is kept by the lock that `_check_out` takes.
            and standing.commit in (None, self.version)
            and (self.versions_dir / str(self.version)).is_dir()
            and all((layout.folder / name).is_file() for name in names)
        )

    def _lay_out_project(self, project: str) -> None:
        names = possible_names(project, self._per_file)
        standing = self._layout.definition(project, names)
        seen = Seen(self._layout.folder, self._source.path)
        # A version never changes, but a worker's environment may.
        if standing and standing.environment == selected_name() and (self._pinned or seen.still(standing)):
            definition = standing
        else:
            definition = self._find(project, standing, seen)
        root, commit = self._source.path, self._pinned
        if definition.commit and definition.commit != self._pinned:
            root, commit = self._check_out(definition.commit), definition.commit
        self._forget_workers()
        self._layout.write({name: [definition] for name in names}, root, commit)
        if not self._pinned:
            seen.keep()

    def _find(self, project: str, standing: Definition | None, seen: Seen) -> Definition:
        """The project's definition as of this version; raises ManifestError when there never was a good one."""
        from mlfleet.bundles.survey import Entry, Surroundings, examine
        from mlfleet.manifest.loading import Repository, find_manifest

        repository = Repository(self._source.path)
        path = find_manifest(repository, project)
        problem = f"{repository.shown(repository.projects)}: there is no manifest of a project {project!r}"
        if path is not None:
            seen.look(project, repository.shown(path))
            try:
                entry = examine(path, Surroundings.of(repository), with_code=False)
            except (ConfigError, ManifestError) as error:
                entry = Entry(repository.shown(path), project, problem=str(error))
            if entry.definition and entry.definition.name == project:
                return entry.definition
            seen.forget()
            problem = entry.problem or problem
            if before := self._last_good(entry.manifest, project):
                return before
        # On the DAG processor's machine this is what it has serialized, elsewhere what an earlier task has run with.
        laid_out = Layout(self._main_folder).definition(project, possible_names(project, self._per_file))
        last = laid_out or (standing if path else None)
        if last:
            return last
        raise ManifestError([problem])

    def _last_good(self, manifest: str, name: str) -> Definition | None:
        from mlfleet.bundles.history import History

        store = getattr(self._source, "bare_repo_path", None)
        version = self._pinned or self._source_version()
        if store is None or version is None:
            return None
        try:
            return History(Path(store), self.subdir or "").last_good(version, manifest, name)
        except ConfigError as error:
            log.warning("bundle %s: no last good %s: %s", self.name, name, error)
            return None

    def _check_out(self, commit: str) -> Path:
        """The repository as of an older commit; Airflow does not clean it up while this bundle is in use."""
        source = self._bring(commit)
        with self._locked_with(source):
            source.initialize()
        used = BundleVersionLock(self.name, commit)  # type: ignore[no-untyped-call]
        used.acquire()  # type: ignore[no-untyped-call]
        weakref.finalize(self, used.release)
        return source.path

    def _forget_workers(self, in_force: Mapping[str, Definition] | None = None) -> None:
        """Removes workers' folders of versions that Airflow has cleaned up, and of projects that are gone."""
        workers = self.base_dir / "workers"
        if self.versions_dir.is_dir() and workers.is_dir():
            for folder in workers.iterdir():
                if folder.name != _CURRENT and not (self.versions_dir / folder.name).exists():
                    shutil.rmtree(folder, ignore_errors=True)
        if in_force is not None and (workers / _CURRENT).is_dir():
            for folder in (workers / _CURRENT).iterdir():
                if folder.name not in in_force:
                    shutil.rmtree(folder, ignore_errors=True)

    def _forget_callbacks(self) -> None:
        """Removes the folders of versions that had no callback for a day."""
        os.utime(self.path)
        for folder in self.path.parent.iterdir():
            if folder.stat().st_mtime < time.time() - _DAY:
                shutil.rmtree(folder, ignore_errors=True)

    @property
    def _main_folder(self) -> Path:
        return self.base_dir / "layout"

    def _folder(self) -> Path:
        """The DAG processor has one folder, and one for callbacks of each version; each project of a worker its own."""
        if self._project:
            return self.base_dir / "workers" / (self._pinned or _CURRENT) / self._project
        return self.base_dir / "callbacks" / self._pinned if self._pinned else self._main_folder

    def _source_version(self) -> str | None:
        if not self.supports_versioning:
            return None
        return unpack_bundle_version(self._source.get_current_version(), self._source)[0]

    def _bring(self, version: str | None) -> BaseDagBundle:
        """The wrapped bundle, under our name: what it stores lies beside our files and is cleaned up with them."""
        module, _, name = str(self._config["classpath"]).rpartition(".")
        bundle: BaseDagBundle = getattr(importlib.import_module(module), name)(
            name=self.name, version=version, refresh_interval=self._interval, **self._config.get("kwargs", {})
        )
        return bundle

    @contextlib.contextmanager
    def _locked_with(self, source: BaseDagBundle) -> Iterator[None]:
        """The bundle's lock, also for a source: it has our name, so its lock is the same file."""
        with self.lock():
            source._locked = True
            try:
                yield
            finally:
                source._locked = False


_CURRENT = "current"
_DAY = 86_400


def _around_dags_folder() -> Path:
    return Path(settings.DAGS_FOLDER).absolute().parent
