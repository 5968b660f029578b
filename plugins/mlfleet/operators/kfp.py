"""Runs a KFP pipeline that was compiled from a file of the repository."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from mlfleet.clients.kfp import KFPClient
from mlfleet.errors import JobError, SpecError
from mlfleet.hooks.kfp import KFPHook
from mlfleet.operators.base import as_asked, find_file, own_params
from mlfleet.operators.remote_job import BaseRemoteJobOperator
from mlfleet.remote.protocol import RemoteSystem
from mlfleet.systems.kfp import KFPSystem
from mlfleet.systems.kfp_package import load_package
from mlfleet.triggers.base import RemoteJobTrigger
from mlfleet.triggers.kfp import KFPTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

    from mlfleet.operators.run_values import RunValues


class KFPRunOperator(BaseRemoteJobOperator):
    """Compiles a pipeline, runs it and returns what it left in its pipeline root.

    ``pipeline``        ``path.py:function``, or a compiled ``.yaml``; absolute or relative to the repository
    ``experiment``      KFP experiment, created when it does not exist
    ``params``          values of the pipeline's parameters, may hold ``${...}``
    ``pipeline_root``   where artifacts go (path or fsspec address), may hold ``${...}``; without it outputs stay unread
    ``enable_caching``  False switches KFP's cache off for every task, so that a rerun really runs; True leaves it to
                        the pipeline

    Returns ``{"system", "run_id", "experiment_id", "status", "url", "outputs", "artifacts", "model_uri"}``; ``outputs``
    is the JSON of the artifacts called ``mlfleet_outputs``, ``artifacts`` maps ``<task>.<artifact>`` to an address.
    """

    hook_class = KFPHook

    def __init__(
        self,
        *,
        pipeline: str,
        experiment: str,
        params: Mapping[str, Any] | None = None,
        pipeline_root: str | None = None,
        enable_caching: bool = False,
        kfp_conn_id: str = KFPHook.default_conn_name,
        timeout: timedelta | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(conn_id=kfp_conn_id, timeout=timeout, **kwargs)
        self.pipeline, self.experiment = pipeline, experiment
        # `params` is Airflow's own attribute of an operator; ours are the pipeline's.
        self.run_params = own_params(params)
        self.pipeline_root, self.enable_caching = pipeline_root, enable_caching

    def make_spec(self, values: RunValues, context: Context) -> dict[str, Any]:
        """The compiled pipeline and its parameters. Raises SpecError, ConfigError."""
        # References first: a missing one is known in no time, the compiler takes seconds.
        params = values.resolve(as_asked(self.run_params, "kfp", context))
        root = values.resolve(self.pipeline_root)
        path, _, function = self.pipeline.rpartition(":") if ".py:" in self.pipeline else (self.pipeline, "", "")
        package = load_package(find_file(path, context), function, enable_caching=self.enable_caching)
        package.check(params)
        return {
            "pipeline_spec": package.spec,
            "pipeline_name": package.name,
            "experiment": values.resolve(self.experiment),
            "parameters": params,
            "pipeline_root": root,
        }

    def system_args(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Where the run's artifacts are."""
        return {"pipeline_root": spec["pipeline_root"], "pipeline_name": spec["pipeline_name"]}

    def make_system(self, client: KFPClient, args: Mapping[str, Any]) -> RemoteSystem:
        """KFP."""
        return KFPSystem(client, args["pipeline_root"], args["pipeline_name"])

    def make_trigger(self, common: Mapping[str, Any], args: Mapping[str, Any]) -> RemoteJobTrigger:
        """Waits for the run."""
        return KFPTrigger(**common)

    def todo_for(self, error: JobError) -> str:
        """A pipeline that does not compile or fit is mended in its file, or in the manifest's parameters."""
        if isinstance(error, SpecError):
            return f"Correct {self.pipeline}, or the parameters that the manifest gives it, then clear the task"
        return ""
