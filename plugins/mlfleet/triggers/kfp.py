"""Waits for a KFP run."""

from __future__ import annotations

from typing import Any

from mlfleet.hooks.kfp import KFPHook
from mlfleet.remote.protocol import RemoteSystem
from mlfleet.systems.kfp import KFPSystem
from mlfleet.triggers.base import RemoteJobTrigger


class KFPTrigger(RemoteJobTrigger):
    """``job_id`` is the run id."""

    hook_class = KFPHook

    def make_system(self, client: Any) -> RemoteSystem:
        """KFP."""
        return KFPSystem(client)
