"""Every morning: the environment has what the manifests ask for, and nothing else of ours, or the run fails.

`compare` makes the plan of ``mlfleet plan`` and returns it as JSON; it fails when a system cannot be read, and Airflow
tries it again. `in_step` fails when there is anything to do, so that whatever tells of failed runs tells of drift; its
log and its message name what it is. Nothing is changed: that is for ``mlfleet apply``, and for a person.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import dag, task

log = logging.getLogger(__name__)
# dags/ is a bundle of its own; manifests and environments lie beside it.
REPOSITORY = Path(__file__).resolve().parents[1]
SHOWN = 20


def connections(environment: Any) -> dict[str, str]:
    """The environment's connections as variables, wherever Airflow keeps them; those that do not exist are left out."""
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    from mlfleet.clients.connections import variable_of

    found = {}
    for conn_id in filter(None, environment.connections.model_dump().values()):
        try:
            found[variable_of(conn_id)] = BaseHook.get_connection(conn_id).as_json()
        except AirflowNotFoundException:
            continue
    return found


@task(retries=3, retry_delay=timedelta(minutes=5))
def compare() -> dict[str, Any]:
    """The plan as JSON; raises when a manifest is broken or a system cannot be read."""
    from mlfleet.fleet.connecting import Wire
    from mlfleet.fleet.plan import as_json
    from mlfleet.fleet.preparing import prepare_environment
    from mlfleet.manifest.environments import select_environment
    from mlfleet.manifest.loading import Repository

    repository = Repository(REPOSITORY)
    environment = select_environment(repository.environments)
    plan = prepare_environment(repository, environment.name, Wire(connections(environment))).plan()
    log.info("%s: %s", environment.name, plan.told())
    if plan.unread:
        raise RuntimeError("; ".join(f"{each.system} could not be read: {each.error}" for each in plan.unread))
    return as_json(plan, environment.name)


@task(retries=0)
def in_step(plan: dict[str, Any]) -> None:
    """Fails when there is anything to do."""
    from airflow.sdk.exceptions import AirflowFailException

    for note in plan["notes"]:
        log.info("%s", note)
    changes = plan["changes"]
    for change in changes:
        hint = f": {change['hint']}" if change["hint"] else ""
        log.warning("%s %s %s%s", change["action"], change["kind"], change["name"], hint)
    if changes:
        names = ", ".join(f"{change['action']} {change['kind']} {change['name']}" for change in changes[:SHOWN])
        more = f" and {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
        raise AirflowFailException(f"{plan['environment']} is not as the manifests ask for: {names}{more}. "
                                   f"Look with `mlfleet plan --env {plan['environment']}`")  # fmt: skip


@dag(
    schedule="0 6 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["mlfleet", "fleet"],
    doc_md=__doc__,
)
def fleet_drift() -> None:
    """Compare, then say so."""
    in_step(compare())  # type: ignore[arg-type]  # a task takes the promise of what another returns


fleet_drift()
