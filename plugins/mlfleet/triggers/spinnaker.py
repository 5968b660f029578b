"""Waits for the execution that Spinnaker starts for an image tag, and for its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlfleet.hooks.spinnaker import SpinnakerHook
from mlfleet.remote.protocol import RemoteSystem
from mlfleet.systems.spinnaker import Deployment, SpinnakerSystem
from mlfleet.triggers.base import RemoteJobTrigger


class SpinnakerTrigger(RemoteJobTrigger):
    """``deployment`` is the JSON of systems.spinnaker.Deployment, ``job_id`` its ``id``."""

    hook_class = SpinnakerHook

    def __init__(self, *, deployment: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.deployment = dict(deployment)

    def extra(self) -> dict[str, Any]:
        """The argument of this class."""
        return {"deployment": self.deployment}

    def make_system(self, client: Any) -> RemoteSystem:
        """Spinnaker."""
        return SpinnakerSystem(client, Deployment.from_json(self.deployment))
