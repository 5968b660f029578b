"""From a project to its DAG."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from airflow.sdk import DAG, BaseOperator
from airflow.sdk.definitions.param import ParamsDict

from mlfleet.factory.data import require
from mlfleet.factory.delivery import deliver
from mlfleet.factory.facts import (
    documentation_of,
    owner_links_of,
    tags_of,
)
from mlfleet.factory.form import form_of
from mlfleet.factory.notifications import notifications_of
from mlfleet.factory.plan import Plan
from mlfleet.factory.schedules import released_asset, schedule_of, start_of
from mlfleet.factory.steps import steps_at
from mlfleet.factory.training import train
from mlfleet.operators.base import REPOSITORY_ATTRIBUTE


def build_dag(plan: Plan) -> DAG:
    """The DAG of one project; equal plans give DAGs that serialize alike."""
    project = plan.project
    dag = DAG(
        project.name,
        schedule=schedule_of(project),
        start_date=start_of(project),
        catchup=bool(project.schedule and project.schedule.catchup),
        # One release at a time per project is a rule of the design: more only where nothing is deployed (`checks`).
        max_active_runs=project.schedule.max_active_runs if project.schedule else 1,
        default_args=_default_args(plan),
        doc_md=documentation_of(project, plan.environment, plan.manifest, plan.resolved),
        owner_links=owner_links_of(project),
        dag_display_name=project.title or project.name,
        tags=tags_of(project),
        **notifications_of(project),
        # Loaders hand DAGs to Airflow themselves: one that is only being checked must not be picked up.
        auto_register=False,
    )
    with dag:
        last = _tasks(plan)
    # After the tasks: Airflow copies the params of a DAG into each task, several times over; a run has them anyway.
    dag.params = ParamsDict(form_of(project))
    if last is not None and project.image:
        last.outlets.append(released_asset(project.name))
    if plan.root is not None:
        # Not a field of Airflow's: never serialized, so that equal plans on two machines give equal DAGs.
        setattr(dag, REPOSITORY_ATTRIBUTE, str(plan.root))
    dag.validate()  # type: ignore[no-untyped-call]
    return dag


def _tasks(plan: Plan) -> BaseOperator | None:
    """Adds all tasks to the current DAG; returns the last of the factory's own."""
    data = require(plan)
    before = steps_at(plan, "before_training")
    if before:
        for sensor in data:
            sensor >> before[0]
    trained = {
        experiment.slug: train(plan, experiment) for experiment in plan.project.experiments if experiment.enabled
    }
    groups = {slug: ends for slug, ends in trained.items() if ends is not None}
    for first, _ in groups.values():
        for earlier in before[-1:] or data:
            earlier >> first
    after = steps_at(plan, "after_training")
    first_delivery, last = deliver(plan, {slug: end for slug, (_, end) in groups.items()})
    for _, end in groups.values():
        if after:
            end >> after[0]
        elif first_delivery:
            end >> first_delivery
    if after and first_delivery:
        after[-1] >> first_delivery
    deployed = steps_at(plan, "after_deploy")
    if deployed and last:
        last >> deployed[0]
    return last


def _default_args(plan: Plan) -> dict[str, Any]:
    retries = plan.project.retries
    arguments: Mapping[str, int | str | datetime.timedelta] = {
        "owner": plan.project.owners[0].github,
        "retries": retries.count,
        "retry_delay": retries.delay,
    }
    pool = plan.project.pools.default if plan.project.pools else None
    return {**arguments, **({"pool": pool} if pool else {})}
