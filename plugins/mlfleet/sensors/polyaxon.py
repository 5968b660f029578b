"""Waits for a Polyaxon run that somebody else started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlfleet.clients.polyaxon import PolyaxonClient
from mlfleet.hooks.polyaxon import PolyaxonHook
from mlfleet.remote.protocol import RemoteSystem
from mlfleet.sensors.base import RemoteJobSensor
from mlfleet.systems.polyaxon import PolyaxonSystem
from mlfleet.triggers.base import RemoteJobTrigger
from mlfleet.triggers.polyaxon import PolyaxonTrigger


class PolyaxonRunSensor(RemoteJobSensor):
    """Waits for run ``uuid`` of ``project`` (both templated); returns what PolyaxonRunOperator returns.

    ``best_by`` names the best run of a search, as for the operator.
    """

    template_fields: Sequence[str] = ("project", "uuid")
    hook_class = PolyaxonHook

    def __init__(
        self,
        *,
        project: str,
        uuid: str,
        best_by: Mapping[str, str] | None = None,
        polyaxon_conn_id: str = PolyaxonHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(conn_id=polyaxon_conn_id, **kwargs)
        self.project, self.uuid = project, uuid
        self.best_by = dict(best_by) if best_by else None

    @property
    def job_id(self) -> str:
        """The run's uuid, 32 hex digits as the API gives it; people also paste it with dashes."""
        return self.uuid.replace("-", "")

    def make_system(self, client: PolyaxonClient) -> RemoteSystem:
        """Polyaxon."""
        return PolyaxonSystem(client, self.project, self.best_by)

    def make_trigger(self, **common: Any) -> RemoteJobTrigger:
        """Waits for the run."""
        return PolyaxonTrigger(project=self.project, best_by=self.best_by, **common)
