"""Runs a polyaxonfile on Polyaxon: one training, or a search over many."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlfleet.errors import ConfigError, JobError, SpecError
from mlfleet.hooks.polyaxon import PolyaxonHook
from mlfleet.operators.base import as_asked, find_file, own_params
from mlfleet.operators.remote_job import BaseRemoteJobOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from mlfleet.clients.polyaxon import PolyaxonClient
    from mlfleet.operators.run_values import RunValues
    from mlfleet.remote.protocol import RemoteSystem
    from mlfleet.systems.polyaxon_settings import RunSettings
    from mlfleet.triggers.base import RemoteJobTrigger


class PolyaxonRunOperator(BaseRemoteJobOperator):
    """Runs a polyaxonfile and returns its inputs and outputs, for a search those of the best run too.

    ``project``       Polyaxon project, created when it does not exist
    ``polyaxonfile``  path, absolute or relative to the repository; or ``component``, a reference to Polyaxon's hub
    ``files``         name in the run's working folder to path in the repository: the code travels with the run, so what
                      runs is the code of this version of the DAG
    ``params``        values for the component's inputs, may hold ``${...}``
    ``matrix``        a search as in Polyaxon's ``matrix``, or None
    ``best_by``       ``{"metric", "direction"}``: which child of a search is the best
    ``name``          of the run in Polyaxon; the readable key by default
    ``settings``      image, resources, nodes, code and more (`systems.polyaxon_settings.RunSettings`), may hold
                      ``${...}``; ``code`` without a revision is cloned at the DAG's commit (`commits`)

    The run is labelled with that commit: tag ``commit-<12 digits>``, ``mlfleet_commit`` in its ``meta_info``.

    Returns ``{"system", "project", "owner", "uuid", "status", "url", "inputs", "outputs", "best", "started_at",
    "finished_at"}``, where ``best`` is ``{"uuid", "inputs", "outputs"}`` or None.
    """

    hook_class = PolyaxonHook

    def __init__(
        self,
        *,
        project: str,
        polyaxonfile: str | None = None,
        component: str | None = None,
        files: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        matrix: Mapping[str, Any] | None = None,
        best_by: Mapping[str, str] | None = None,
        polyaxon_conn_id: str = PolyaxonHook.default_conn_name,
        timeout: timedelta | None = None,
        name: str | None = None,
        settings: RunSettings | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(conn_id=polyaxon_conn_id, timeout=timeout, **kwargs)
        if (polyaxonfile is None) == (component is None):
            raise ConfigError("a run needs either `polyaxonfile` or `component`", f"task {self.task_id}")
        self.project, self.polyaxonfile, self.component, self.run_name = project, polyaxonfile, component, name
        self.files = dict(files or {})
        # `params` is Airflow's own attribute of an operator (a ParamsDict); ours are the run's.
        self.run_params = own_params(params)
        self.matrix = dict(matrix) if matrix else None
        self.best_by = dict(best_by) if best_by else None
        self.settings: dict[str, Any] = dict(settings or {})

    def make_spec(self, values: RunValues, context: Context) -> dict[str, Any]:
        """The operation with parameters, matrix, files and settings in it. Raises SpecError, ConfigError."""
        from mlfleet.operators.commits import pinned_commit, present_commit
        from mlfleet.remote.job import LABELS
        from mlfleet.systems.polyaxon_operation import as_content, build_operation, is_search, warnings

        # Files travel with the run as they are now; what is cloned stays what it was.
        commit = pinned_commit(values, context) if self._clones else present_commit(values)
        operation = build_operation(
            _read(find_file(self.polyaxonfile, context)) if self.polyaxonfile else None,
            source=self._source,
            params=values.resolve(as_asked(self.run_params, "polyaxon", context)),
            matrix=values.resolve(self.matrix) if self.matrix else None,
            files={name: _read(find_file(path, context)) for name, path in self.files.items()},
            settings=self._settings(values, commit),
        )
        for warning in warnings(operation):
            self.log.warning(warning)
        if self.best_by and not is_search(operation):
            raise ConfigError("best_by needs a matrix", f"task {self.task_id}", "Remove it, or add a matrix")
        spec: dict[str, Any] = {"content": as_content(operation), "tags": ["mlfleet", context["ti"].dag_id]}
        if commit:
            spec[LABELS] = {"commit": commit}
        return {**spec, "name": self.run_name} if self.run_name else spec

    def _settings(self, values: RunValues, commit: str | None) -> RunSettings:
        settings: RunSettings = values.resolve(self.settings)
        code = settings.get("code")
        if code and not code.get("revision"):
            from mlfleet.operators.commits import required_commit

            settings["code"] = {**code, "revision": required_commit(commit, self.task_id)}
        return settings

    @property
    def _clones(self) -> bool:
        """Whether it clones the DAG's own commit."""
        code = self.settings.get("code")
        return code is not None and not code.get("revision")

    @property
    def _source(self) -> str:
        return str(self.polyaxonfile or self.component)

    def system_args(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """The project, and how children compare."""
        return {"project": self.project, "best_by": self.best_by}

    def make_system(self, client: PolyaxonClient, args: Mapping[str, Any]) -> RemoteSystem:
        """Polyaxon."""
        from mlfleet.systems.polyaxon import PolyaxonSystem

        return PolyaxonSystem(client, args["project"], args["best_by"])

    def make_trigger(self, common: Mapping[str, Any], args: Mapping[str, Any]) -> RemoteJobTrigger:
        """Waits for the run."""
        from mlfleet.triggers.polyaxon import PolyaxonTrigger

        return PolyaxonTrigger(**common, **args)

    def todo_for(self, error: JobError) -> str:
        """A refused specification is mended in its file."""
        return f"Correct {self._source}, then clear the task" if isinstance(error, SpecError) else ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path} can't be read as text: {exc}", "the manifest's training.polyaxon") from exc
