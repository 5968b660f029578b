"""Runs a KFP pipeline: compiled from a file of the repository, or a version of it that was uploaded."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.execution_time.context import NEVER_EXPIRE

from mlfleet.errors import JobError, SpecError
from mlfleet.hooks.kfp import KFPHook
from mlfleet.operators.base import as_asked, find_file, own_params
from mlfleet.operators.remote_job import BaseRemoteJobOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from mlfleet.clients.kfp import KFPClient
    from mlfleet.clients.kfp_models import PipelineVersion
    from mlfleet.operators.run_values import RunValues
    from mlfleet.remote.protocol import RemoteSystem
    from mlfleet.systems.kfp_package import PipelinePackage
    from mlfleet.triggers.base import RemoteJobTrigger

VERSION_KEY = "mlfleet_version"


class KFPRunOperator(BaseRemoteJobOperator):
    """Runs a pipeline and returns what it left in its pipeline root.

    ``pipeline``        ``path.py:function``, or a compiled ``.yaml``; absolute or relative to the repository
    ``version``         ``{"pipeline": its name in KFP, and "name", "branch" or "commit"}``, may hold ``${...}``: the
                        uploaded version to run instead (`systems.kfp_versions`). It is found by the first try and kept
                        in the task's state store under ``mlfleet_version``; who deletes it there asks for the newest
    ``experiment``      KFP experiment, created when it does not exist
    ``params``          values of the pipeline's parameters, may hold ``${...}``
    ``pipeline_root``   where artifacts go (path or fsspec address), may hold ``${...}``; without it outputs stay unread
    ``service_account`` Kubernetes' account that the steps run as, may hold ``${...}``
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
        version: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        pipeline_root: str | None = None,
        service_account: str | None = None,
        enable_caching: bool = False,
        kfp_conn_id: str = KFPHook.default_conn_name,
        timeout: timedelta | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(conn_id=kfp_conn_id, timeout=timeout, **kwargs)
        self.pipeline, self.experiment = pipeline, experiment
        # `params` is Airflow's own attribute of an operator; ours are the pipeline's.
        self.run_params = own_params(params)
        self.version = dict(version) if version else None
        self.pipeline_root, self.service_account = pipeline_root, service_account
        self.enable_caching = enable_caching

    def make_spec(self, values: RunValues, context: Context) -> dict[str, Any]:
        """The compiled pipeline and its parameters. Raises SpecError, ConfigError."""
        from mlfleet.operators.commits import pinned_commit, present_commit
        from mlfleet.remote.job import LABELS

        commit = pinned_commit(values, context) if self.version else present_commit(values)
        # References first: a missing one is known in no time, the compiler takes seconds.
        params = values.resolve(as_asked(self.run_params, "kfp", context))
        root, account = values.resolve(self.pipeline_root), values.resolve(self.service_account)
        package, version = self._uploaded(values, context) if self.version else (self._compiled(context), None)
        package.check(params)
        spec = {
            "pipeline_spec": package.spec,
            "pipeline_name": package.name,
            "experiment": values.resolve(self.experiment),
            "parameters": params,
            "pipeline_root": root,
        }
        if account:
            spec["service_account"] = account
        labels = {name: text for name, text in (("commit", commit), ("version", version)) if text}
        return {**spec, LABELS: labels} if labels else spec

    def _compiled(self, context: Context) -> PipelinePackage:
        from mlfleet.systems.kfp_package import load_package

        path, _, function = self.pipeline.rpartition(":") if ".py:" in self.pipeline else (self.pipeline, "", "")
        return load_package(find_file(path, context), function, enable_caching=self.enable_caching)

    def _uploaded(self, values: RunValues, context: Context) -> tuple[PipelinePackage, str]:
        """The uploaded pipeline and the name of its version: the one that this task ran before, if it did."""
        from mlfleet.systems.kfp_versions import find_version, package_of, read_version

        selector: dict[str, str] = values.resolve(self.version)
        store = context["task_state_store"]
        kept = store.get(VERSION_KEY)
        connect = self.hook_class(self.conn_id).client_factory()

        async def ask() -> PipelineVersion:
            async with connect() as client:
                pipeline = selector["pipeline"]
                if isinstance(kept, dict) and kept.get("selector") == selector:
                    return await read_version(client, pipeline, str(kept["pipeline_id"]), str(kept["version_id"]))
                return await find_version(client, pipeline, {k: v for k, v in selector.items() if k != "pipeline"})

        version = asyncio.run(ask())
        self.log.info("Version %s of pipeline %s", version.name, selector["pipeline"])
        ran: dict[str, Any] = {"selector": selector, "name": version.name, "pipeline_id": version.pipeline_id,
                               "version_id": version.version_id}  # fmt: skip
        store.set(VERSION_KEY, ran, retention=NEVER_EXPIRE)
        return package_of(version, enable_caching=self.enable_caching), version.name

    def system_args(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Where the run's artifacts are."""
        return {"pipeline_root": spec["pipeline_root"], "pipeline_name": spec["pipeline_name"]}

    def make_system(self, client: KFPClient, args: Mapping[str, Any]) -> RemoteSystem:
        """KFP."""
        from mlfleet.systems.kfp import KFPSystem

        return KFPSystem(client, args["pipeline_root"], args["pipeline_name"])

    def make_trigger(self, common: Mapping[str, Any], args: Mapping[str, Any]) -> RemoteJobTrigger:
        """Waits for the run."""
        from mlfleet.triggers.kfp import KFPTrigger

        return KFPTrigger(**common)

    def todo_for(self, error: JobError) -> str:
        """A pipeline that does not compile or fit is mended in its file, or in the manifest's parameters."""
        if isinstance(error, SpecError):
            return f"Correct {self.pipeline}, or the parameters that the manifest gives it, then clear the task"
        return ""
