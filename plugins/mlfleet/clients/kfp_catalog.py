"""KFP's experiments and recurring runs, all of a namespace at a time (kfp.md 4).

Traps this client knows:

* An experiment can't be changed, only archived; its name stays taken while it is.
* Archiving an experiment archives its runs, and unarchiving brings back the experiment alone.
* The key of the list of recurring runs is ``recurringRuns``, in camel case.
* A recurring run can't be changed either; disabling one leaves the runs alone that it has started.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlfleet.clients.answers import mapping, optional_text
from mlfleet.clients.calls import segment
from mlfleet.clients.http import HttpClient, SystemClient
from mlfleet.clients.kfp import API, KFPClient
from mlfleet.errors import Conflict

_PAGE = 200  # the server's maximum


@dataclass(frozen=True)
class KFPExperiment:
    """An experiment; its name is unique within the namespace."""

    experiment_id: str
    name: str
    description: str = ""
    archived: bool = False


@dataclass(frozen=True)
class RecurringRun:
    """A schedule inside KFP.

    ``pipeline_id`` and ``pipeline_name`` say what it runs: a stored pipeline, or the name inside a compiled one. It is
    the newest version when there is no ``pipeline_version_id``.
    ``schedule`` is its cron (six fields, seconds first) or "every <n> s".
    """

    recurring_run_id: str
    name: str
    enabled: bool
    schedule: str = ""
    experiment_id: str = ""
    pipeline_id: str = ""
    pipeline_name: str = ""
    pipeline_version_id: str = ""


class KFPCatalog(SystemClient):
    """What one KFP server keeps for a namespace (multi-user mode; None for a server with one user)."""

    def __init__(self, http: HttpClient, namespace: str | None = None) -> None:
        super().__init__(http)
        self.namespace = namespace or None
        self._runs = KFPClient(http, namespace)

    async def list_experiments(self) -> list[KFPExperiment]:
        """All experiments, archived ones too; one request per two hundred."""
        return [
            KFPExperiment(
                str(row.get("experiment_id") or ""),
                str(row.get("display_name") or ""),
                str(row.get("description") or ""),
                row.get("storage_state") == "ARCHIVED",
            )
            for row in await self._all("experiments", "experiments")
        ]

    async def create_experiment(self, name: str, description: str = "") -> str:
        """Create an experiment and return its id, or that of the one that has the name already.

        May be sent again: a name is unique within the namespace, so a second POST ends in 409.
        """
        body = {"display_name": name, "description": description or None, "namespace": self.namespace}
        given = {key: value for key, value in body.items() if value is not None}
        try:
            answer = await self.http.request("POST", f"{API}/experiments", json=given, repeatable=True)
            return answer.text("experiment_id")
        except Conflict:
            found = await self._runs.find_experiment(name)
            if found is None:
                raise
            return found

    async def archive_experiment(self, experiment_id: str) -> None:
        """Archive an experiment and its runs; nothing is lost."""
        await self._act("experiments", experiment_id, "archive")

    async def unarchive_experiment(self, experiment_id: str) -> None:
        """Bring an archived experiment back, without its runs."""
        await self._act("experiments", experiment_id, "unarchive")

    async def list_recurring_runs(self) -> list[RecurringRun]:
        """All recurring runs, disabled ones too; one request per two hundred."""
        return [_recurring(row) for row in await self._all("recurringruns", "recurringRuns")]

    async def disable_recurring_run(self, recurring_run_id: str) -> None:
        """Let a schedule start nothing any more; what it has started goes on."""
        await self._act("recurringruns", recurring_run_id, "disable")

    async def pipeline_names(self) -> dict[str, str]:
        """The names of all stored pipelines by id; one request per two hundred."""
        rows = await self._all("pipelines", "pipelines")
        return {str(row.get("pipeline_id")): str(row.get("name") or row.get("display_name") or "") for row in rows}

    async def _act(self, what: str, key: str, verb: str) -> None:
        # Each of these sets a state: sent again it sets the same one.
        await self.http.request("POST", f"{API}/{what}/{segment(key)}:{verb}", repeatable=True)

    async def _all(self, path: str, key: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        token: str | None = None
        while True:
            params = {"namespace": self.namespace, "page_size": _PAGE, "page_token": token, "sort_by": "created_at asc"}
            answer = await self.http.request("GET", f"{API}/{path}", params=params)
            found += answer.objects(key)
            token = optional_text(answer.object().get("next_page_token"))
            if token is None:
                return found


def _recurring(row: Mapping[str, Any]) -> RecurringRun:
    trigger = mapping(row.get("trigger"))
    cron = optional_text(mapping(trigger.get("cron_schedule")).get("cron"))
    seconds = mapping(trigger.get("periodic_schedule")).get("interval_second")
    spec = mapping(row.get("pipeline_spec"))
    inner = mapping(spec.get("pipeline_spec")) or spec
    reference = mapping(row.get("pipeline_version_reference"))
    return RecurringRun(
        recurring_run_id=str(row.get("recurring_run_id") or ""),
        name=str(row.get("display_name") or ""),
        # Servers leave fields out that have their first value: only a schedule that says so is off.
        enabled=row.get("status") != "DISABLED" and row.get("mode") != "DISABLE",
        schedule=cron or (f"every {seconds} s" if seconds else ""),
        experiment_id=str(row.get("experiment_id") or ""),
        pipeline_id=str(reference.get("pipeline_id") or ""),
        pipeline_version_id=str(reference.get("pipeline_version_id") or ""),
        pipeline_name=str(mapping(inner.get("pipelineInfo")).get("name") or ""),
    )
