"""Waits for a KFP run that somebody else started."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlfleet.clients.kfp import KFPClient
from mlfleet.hooks.kfp import KFPHook
from mlfleet.remote.protocol import RemoteSystem
from mlfleet.sensors.base import RemoteJobSensor
from mlfleet.systems.kfp import KFPSystem
from mlfleet.triggers.base import RemoteJobTrigger
from mlfleet.triggers.kfp import KFPTrigger


class KFPRunSensor(RemoteJobSensor):
    """Waits for run ``run_id`` (templated); returns what KFPRunOperator returns.

    Outputs are read when ``pipeline_name`` is given, below ``pipeline_root`` or the root that the run was started with.
    """

    template_fields: Sequence[str] = ("run_id", "pipeline_name", "pipeline_root")
    hook_class = KFPHook

    def __init__(
        self,
        *,
        run_id: str,
        pipeline_name: str = "",
        pipeline_root: str | None = None,
        kfp_conn_id: str = KFPHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(conn_id=kfp_conn_id, **kwargs)
        self.run_id, self.pipeline_name, self.pipeline_root = run_id, pipeline_name, pipeline_root

    @property
    def job_id(self) -> str:
        """The run id."""
        return self.run_id

    def make_system(self, client: KFPClient) -> RemoteSystem:
        """KFP."""
        return KFPSystem(client, self.pipeline_root, self.pipeline_name)

    def make_trigger(self, **common: Any) -> RemoteJobTrigger:
        """Waits for the run."""
        return KFPTrigger(**common)
