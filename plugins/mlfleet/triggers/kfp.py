"""Waits for a KFP run."""

from __future__ import annotations

from mlfleet.hooks.kfp import KFPHook
from mlfleet.remote.protocol import RemoteSystem
from mlfleet.systems.kfp import KFPSystem
from mlfleet.triggers.base import RemoteJobTrigger


class KFPTrigger(RemoteJobTrigger):
    """``job_id`` is the run id."""

    async def connect(self) -> RemoteSystem:
        """The system, with the connection read now."""
        return KFPSystem(await KFPHook(self.conn_id).aclient())
