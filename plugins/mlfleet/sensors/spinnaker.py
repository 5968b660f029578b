"""Waits for what Spinnaker makes of an image tag that somebody else pushed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from mlfleet.clients.spinnaker import SpinnakerClient
from mlfleet.hooks.spinnaker import SpinnakerHook
from mlfleet.remote.protocol import RemoteSystem
from mlfleet.sensors.base import RemoteJobSensor
from mlfleet.systems.spinnaker import Deployment, SpinnakerSystem
from mlfleet.triggers.base import RemoteJobTrigger
from mlfleet.triggers.spinnaker import SpinnakerTrigger


class SpinnakerExecutionSensor(RemoteJobSensor):
    """Waits for the deployment of ``repository:tag`` by a pipeline; returns what SpinnakerDeployOperator returns.

    ``repository`` is without the registry's host. ``look_back`` is how long ago the tag may have been pushed; without
    an execution the sensor goes on waiting until its ``timeout``. With ``digest`` only that image counts as deployed.
    """

    template_fields: Sequence[str] = ("application", "pipeline", "repository", "tag", "digest")
    hook_class = SpinnakerHook

    def __init__(
        self,
        *,
        application: str,
        pipeline: str,
        repository: str,
        tag: str,
        digest: str | None = None,
        look_back: timedelta = timedelta(days=1),
        spinnaker_conn_id: str = SpinnakerHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(conn_id=spinnaker_conn_id, **kwargs)
        self.application, self.pipeline = application, pipeline
        self.repository, self.tag, self.digest = repository, tag, digest
        self.look_back = look_back

    @property
    def job_id(self) -> str:
        """The image: the execution's id is not known yet."""
        return f"{self.repository}:{self.tag}"

    def deployment(self) -> Deployment:
        """What to look for."""
        since = time.time() - self.look_back.total_seconds()
        return Deployment(
            self.application,
            self.pipeline,
            self.repository,
            self.tag,
            self.digest or None,
            since_ms=int(since * 1000),
            # The sensor's own timeout says how long to wait for a start; counted from `since`.
            start_timeout=self.look_back.total_seconds() + (self.timeout or 0) + 60,
        )

    def make_system(self, client: SpinnakerClient) -> RemoteSystem:
        """Spinnaker."""
        return SpinnakerSystem(client, self.deployment())

    def make_trigger(self, **common: Any) -> RemoteJobTrigger:
        """Waits for the execution and its end."""
        return SpinnakerTrigger(deployment=self.deployment().as_json(), **common)
