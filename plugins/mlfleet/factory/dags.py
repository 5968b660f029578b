"""From a project to its DAG, or its DAGs where experiments have schedules of their own."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
from airflow.sdk import DAG
from airflow.sdk.definitions.param import ParamsDict

from mlfleet.factory.data import require
from mlfleet.factory.delivery import Delivery, deliver
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
from mlfleet.factory.training import Trained, train
from mlfleet.manifest.parts import parts_of
from mlfleet.operators.base import REPOSITORY_ATTRIBUTE


def build_dags(plan: Plan, wanted: str | None = None) -> list[DAG]:
    """The DAGs of one project, or only the one with the id ``wanted``; equal plans give DAGs that serialize alike.

    Raises ConfigError for what only shows when it is built.
    """
    parts = parts_of(plan.project)
    if plan.resolved is None:
        # Here, because each DAG shows the whole manifest.
        from mlfleet.manifest.rendering import rendered

        plan = plan._replace(resolved=rendered(plan.project))
    return [_dag(plan._replace(project=part.project), part.dag_id) for part in parts if wanted in (None, part.dag_id)]


def check(dags: Iterable[DAG]) -> None:
    """What Airflow checks of DAGs and `build_dags` leaves out: the params' own values, against their schemas.

    Raises airflow.sdk.exceptions.ParamValidationError.
    """
    for dag in dags:
        dag.params.validate()


def _dag(plan: Plan, dag_id: str) -> DAG:
    project = plan.project
    dag = DAG(
        dag_id,
        schedule=schedule_of(project),
        start_date=start_of(project),
        catchup=bool(project.schedule and project.schedule.catchup),
        # One release at a time per project is a rule of the design: more only where nothing is deployed (`checks`).
        max_active_runs=project.schedule.max_active_runs if project.schedule else 1,
        default_args=_default_args(plan),
        doc_md=documentation_of(dag_id, project, plan.environment, plan.manifest, plan.resolved or ""),
        owner_links=owner_links_of(project),
        dag_display_name=project.title or project.name,
        tags=tags_of(project),
        **notifications_of(project),
        # Loaders hand DAGs to Airflow themselves: one that is only being checked must not be picked up.
        auto_register=False,
    )
    with dag:
        deliveries = _tasks(plan)
    # After the tasks: Airflow copies the params of a DAG into each task, several times over; a run has them anyway.
    # Unchecked, which would be a quarter of building a DAG each time that it is parsed: `check` does it once.
    with attrs.validators.disabled():
        dag.params = ParamsDict(form_of(project))
    if project.image:
        for delivery in deliveries:
            delivery.last.outlets.append(released_asset(project.name))
    if plan.root is not None:
        # Not a field of Airflow's: never serialized, so that equal plans on two machines give equal DAGs.
        setattr(dag, REPOSITORY_ATTRIBUTE, str(plan.root))
    dag.validate()  # type: ignore[no-untyped-call]
    return dag


def _tasks(plan: Plan) -> list[Delivery]:
    """Adds all tasks to the current DAG; returns what follows training, which is the last of the factory's own."""
    data = require(plan)
    before = steps_at(plan, "before_training")
    if before:
        for sensor in data:
            sensor >> before[0]
    each = {experiment.slug: train(plan, experiment) for experiment in plan.project.experiments if experiment.enabled}
    trained = {slug: found for slug, found in each.items() if found is not None}
    for group in trained.values():
        for earlier in before[-1:] or data:
            earlier >> group.first
    deliveries = _after_training(plan, trained)
    for deployed in steps_at(plan, "after_deploy")[:1]:
        for delivery in deliveries:
            delivery.last >> deployed
    return deliveries


def _after_training(plan: Plan, trained: Mapping[str, Trained]) -> list[Delivery]:
    """The team's steps wait for all experiments, and each delivery for them, or else for its own experiments."""
    after = steps_at(plan, "after_training")
    deliveries = deliver(plan, trained)
    if after:
        for group in trained.values():
            group.last >> after[0]
    for delivery in deliveries:
        for earlier in after[-1:] or [trained[slug].last for slug in delivery.slugs if slug in trained]:
            earlier >> delivery.first
    return deliveries


def _default_args(plan: Plan) -> dict[str, Any]:
    retries = plan.project.retries
    arguments: Mapping[str, int | str | datetime.timedelta] = {
        "owner": plan.project.owners[0].github,
        "retries": retries.count,
        "retry_delay": retries.delay,
    }
    pool = plan.project.pools.default if plan.project.pools else None
    return {**arguments, **({"pool": pool} if pool else {})}
