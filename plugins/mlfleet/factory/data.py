"""The task group of what must be there before anything is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, TaskGroup

from mlfleet.factory.facts import references_of
from mlfleet.factory.plan import Plan

if TYPE_CHECKING:
    from mlfleet.manifest.data import DataRequirement

GROUP = "data"


def require(plan: Plan) -> list[BaseOperator]:
    """Adds a task for each requirement to the current DAG; they wait beside each other."""
    if not plan.project.data:
        return []
    with TaskGroup(GROUP, tooltip="What must be there before anything is trained"):
        return [_sensor(plan, requirement) for requirement in plan.project.data]


def _sensor(plan: Plan, requirement: DataRequirement) -> BaseOperator:
    # Few projects have such a section, and every process that builds a DAG would import it.
    from mlfleet.operators.data import AssetEventSensor, BigQueryPartitionSensor, GCSObjectSensor

    common: dict[str, Any] = {
        "task_id": requirement.name,
        "timeout": requirement.timeout,
        "poke_interval": requirement.every,
        "references": references_of(plan.project, plan.environment, plan.commit),
        **plan.common(GROUP),
    }
    if requirement.asset:
        return AssetEventSensor(**dict(requirement.asset), **common)
    common["gcp_conn_id"] = plan.environment.connections.google
    if requirement.gcs:
        return GCSObjectSensor(**dict(requirement.gcs), **common)
    assert requirement.bigquery is not None, "`checks` has seen to it"
    return BigQueryPartitionSensor(**dict(requirement.bigquery), **common)
