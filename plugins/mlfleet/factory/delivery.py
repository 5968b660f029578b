"""What follows training: evaluate, build_image, verify_image, release, deploy."""

from __future__ import annotations

import itertools
from typing import Any

from airflow.sdk import BaseOperator, Label

from mlfleet.factory.facts import ordered, references_of
from mlfleet.factory.plan import Plan
from mlfleet.manifest.image_checks import BASE
from mlfleet.manifest.models import Deploy, Evaluation, Image, Project
from mlfleet.operators.evaluate import EvaluateOperator
from mlfleet.operators.image import BuildImageOperator
from mlfleet.operators.release import ReleaseOperator
from mlfleet.operators.spinnaker import SpinnakerDeployOperator
from mlfleet.sensors.container_registry import ImageSensor

EVALUATE, BUILD, VERIFY, RELEASE, DEPLOY = "evaluate", "build_image", "verify_image", "release", "deploy"

_LABELS = {
    "org.opencontainers.image.title": "${project.name}",
    "org.opencontainers.image.revision": "${git.commit}",
    "mlfleet.data.start": "${data.start}",
    "mlfleet.data.end": "${data.end}",
}


def deliver(plan: Plan, trained: dict[str, BaseOperator]) -> tuple[BaseOperator | None, BaseOperator | None]:
    """Adds the tasks after training to the current DAG, one after the other; returns the first and the last one.

    ``trained`` is the last training task of each experiment, by slug.
    """
    project = plan.project
    chain: list[BaseOperator] = []
    if project.evaluation and trained:
        chain.append(_evaluate(plan, project.evaluation, trained))
    if project.image:
        chain += [_build(plan, project.image, trained), _verify(plan, project.image), _release(plan, project.deploy)]
        if project.deploy:
            chain.append(_deploy(plan, project.deploy))
    for earlier, later in itertools.pairwise(chain):
        if earlier.task_id == RELEASE:
            earlier >> Label(_condition(project)) >> later
        else:
            earlier >> later
    return (chain[0], chain[-1]) if chain else (None, None)


def _condition(project: Project) -> str:
    """What makes `release` go on to production, on the edge of the graph that carries the decision."""
    evaluation = project.evaluation if project.training else None
    bound = evaluation and " and ".join(
        f"{word} {value:g}" for word, value in (("at least", evaluation.min), ("at most", evaluation.max))
        if value is not None
    )  # fmt: skip
    if evaluation is None:
        return "no backfill"
    improved = "better than live" if evaluation.min_improvement is not None else ""
    return ", ".join(filter(None, [f"{evaluation.metric} {bound}" if bound else "", improved, "no backfill"]))


def _references(plan: Plan) -> dict[str, Any]:
    return references_of(plan.project, plan.environment, plan.commit)


def _evaluate(plan: Plan, section: Evaluation, trained: dict[str, BaseOperator]) -> EvaluateOperator:
    bound = section.model_dump(exclude={"min_improvement"})
    return EvaluateOperator(
        task_id=EVALUATE,
        evaluations=[{"experiment": slug, "task_id": task.task_id, **bound} for slug, task in trained.items()],
        references=_references(plan),
        **plan.common(EVALUATE),
    )


def _build(plan: Plan, section: Image, trained: dict[str, BaseOperator]) -> BuildImageOperator:
    packages_models = bool(plan.project.training and plan.project.training.kfp)
    return BuildImageOperator(
        task_id=BUILD,
        repository=_repository(plan, section),
        dockerfile=plan.file(section.dockerfile),
        context=plan.file(section.context),
        build_args=ordered({**section.args, **({BASE: section.base} if section.base else {})}),
        platform=section.platforms[0] if section.platforms else None,
        models={slug: task.task_id for slug, task in trained.items()} if packages_models else {},
        models_dest=section.models.dest,
        labels=_LABELS | {f"mlfleet.label.{name}": value for name, value in sorted(plan.project.labels.items())},
        **plan.common(BUILD),
        references=_references(plan),
        container_registry_conn_id=plan.environment.connections.container_registry,
    )


def _verify(plan: Plan, section: Image) -> ImageSensor:
    built = f"ti.xcom_pull(task_ids='{BUILD}')"
    return ImageSensor(
        task_id=VERIFY,
        repository=_repository(plan, section),
        tag=f"{{{{ {built}['tag'] }}}}",
        digest=f"{{{{ {built}['digest'] }}}}",
        **plan.common(VERIFY),
        container_registry_conn_id=plan.environment.connections.container_registry,
    )


def _release(plan: Plan, deploy: Deploy | None) -> ReleaseOperator:
    connections = plan.environment.connections
    evaluation = plan.project.evaluation if plan.project.training else None
    return ReleaseOperator(
        task_id=RELEASE,
        build_task_id=BUILD,
        **plan.common(RELEASE),
        evaluate_task_id=EVALUATE if evaluation else None,
        min_improvement=evaluation.min_improvement if evaluation and deploy else None,
        application=deploy.spinnaker.application if deploy else None,
        pipeline=deploy.spinnaker.pipeline if deploy else None,
        tag_pattern=deploy.spinnaker.tag_pattern if deploy else None,
        spinnaker_conn_id=connections.spinnaker if deploy else None,
        container_registry_conn_id=connections.container_registry,
        references=_references(plan),
    )


def _deploy(plan: Plan, section: Deploy) -> SpinnakerDeployOperator:
    return SpinnakerDeployOperator(
        task_id=DEPLOY,
        application=section.spinnaker.application,
        pipeline=section.spinnaker.pipeline,
        release_task_id=RELEASE,
        spinnaker_conn_id=plan.environment.connections.spinnaker,
        timeout=section.timeout,
        on_kill_policy=section.on_kill,
        on_not_started=section.on_not_started,
        **plan.common(DEPLOY),
        references=_references(plan),
    )


def _repository(plan: Plan, section: Image) -> str:
    return section.repository or plan.project.name
