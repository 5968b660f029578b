"""Waits for a Polyaxon run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlfleet.hooks.polyaxon import PolyaxonHook
from mlfleet.remote.protocol import RemoteSystem
from mlfleet.systems.polyaxon import PolyaxonSystem
from mlfleet.triggers.base import RemoteJobTrigger


class PolyaxonTrigger(RemoteJobTrigger):
    """``job_id`` is the run's uuid; ``project`` and ``best_by`` as in systems.polyaxon."""

    hook_class = PolyaxonHook

    def __init__(self, *, project: str, best_by: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.project, self.best_by = project, best_by

    def extra(self) -> dict[str, Any]:
        """The arguments of this class."""
        return {"project": self.project, "best_by": dict(self.best_by) if self.best_by else None}

    def make_system(self, client: Any) -> RemoteSystem:
        """Polyaxon."""
        return PolyaxonSystem(client, self.project, self.best_by)
