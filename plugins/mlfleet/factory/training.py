"""The task group of an experiment: a Polyaxon run or tuning, then a KFP run, either of them optional."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.sdk import BaseOperator, TaskGroup

from mlfleet.factory.facts import ordered
from mlfleet.factory.plan import Plan
from mlfleet.manifest.known import static_references
from mlfleet.operators.kfp import KFPRunOperator
from mlfleet.operators.polyaxon import PolyaxonRunOperator
from mlfleet.systems.polyaxon_training import matrix_of, settings_of

if TYPE_CHECKING:
    from mlfleet.manifest.models import Experiment
    from mlfleet.manifest.training import KFPTraining, KFPVersion, PolyaxonTraining


class Trained(NamedTuple):
    """The task group of an experiment with its first and its last task."""

    group: TaskGroup
    first: BaseOperator
    last: BaseOperator


def group_of(experiment: Experiment) -> TaskGroup:
    """A new task group for an experiment, in the current DAG."""
    return TaskGroup(experiment.slug, tooltip=f"Experiment {experiment.name}")


def train(plan: Plan, experiment: Experiment) -> Trained | None:
    """Adds the experiment's tasks to the current DAG; None when nothing is trained."""
    training = plan.project.training_of(experiment)
    if training is None:
        return None
    tasks: dict[str, BaseOperator] = {}
    with group_of(experiment) as group:
        if training.polyaxon:
            tasks["polyaxon"] = _polyaxon(plan, experiment, training.polyaxon)
        if training.kfp:
            earlier = {system: task.task_id for system, task in tasks.items()}
            tasks["kfp"] = _kfp(plan, experiment, training.kfp, earlier)
    if len(tasks) == 2:
        tasks["polyaxon"] >> tasks["kfp"]
    ends = list(tasks.values())
    return Trained(group, ends[0], ends[-1]) if ends else None


def _references(plan: Plan, experiment: Experiment, earlier: dict[str, str]) -> dict[str, Any]:
    static = static_references(plan.project, plan.environment, plan.commit, experiment)
    return {"static": static, "tasks": earlier, "window_seconds": int(plan.project.window.total_seconds())}


def _polyaxon(plan: Plan, experiment: Experiment, section: PolyaxonTraining) -> PolyaxonRunOperator:
    return PolyaxonRunOperator(
        task_id="polyaxon",
        project=plan.project.name,
        name=f"{plan.project.name}-{experiment.slug}",
        polyaxonfile=plan.file(section.polyaxonfile) if section.polyaxonfile else None,
        component=section.component,
        files={name: plan.file(name) for name in section.files},
        params=ordered(section.params),
        matrix=ordered(matrix_of(section)),
        best_by=dict(section.best_by) if section.best_by else None,
        settings=ordered(settings_of(plan.environment, section, plan.file("").rstrip("/"))),
        references=_references(plan, experiment, {}),
        polyaxon_conn_id=plan.environment.connections.polyaxon,
        timeout=section.timeout,
        on_failed=section.on_failed,
        **plan.common("polyaxon"),
    )


def _kfp(plan: Plan, experiment: Experiment, section: KFPTraining, earlier: dict[str, str]) -> KFPRunOperator:
    function = section.pipeline.rpartition(":")[2]
    return KFPRunOperator(
        task_id="kfp",
        pipeline=f"{plan.file(section.file)}:{function}",
        experiment=plan.project.kfp_experiment(experiment),
        version=_version(plan, section.version) if section.version else None,
        params=ordered(section.params),
        pipeline_root=section.pipeline_root or _root_of(plan),
        service_account=section.service_account,
        enable_caching=section.caching,
        references=_references(plan, experiment, earlier),
        kfp_conn_id=plan.environment.connections.kfp,
        timeout=section.timeout,
        on_failed=section.on_failed,
        **plan.common("kfp"),
    )


def _version(plan: Plan, section: KFPVersion) -> dict[str, str]:
    selector = {name: value for name, value in section if value is not None}
    return {"pipeline": plan.project.name, **selector}


def _root_of(plan: Plan) -> str | None:
    return "${env.pipeline_root}" if "pipeline_root" in plan.environment.values else None
