"""What follows training: evaluate, build_image, verify_image, release, deploy."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.sdk import BaseOperator, Label

from mlfleet.factory.facts import ordered, references_of
from mlfleet.factory.plan import Plan
from mlfleet.factory.schedules import released_asset
from mlfleet.factory.training import Trained, group_of
from mlfleet.manifest.naming import BASE, NEVER, NEWER
from mlfleet.manifest.parts import deliveries_of
from mlfleet.operators.evaluate import EvaluateOperator
from mlfleet.operators.image import BuildImageOperator
from mlfleet.operators.release import ReleaseOperator
from mlfleet.operators.spinnaker import SpinnakerDeployOperator
from mlfleet.sensors.container_registry import ImageSensor
from mlfleet.systems.labels import DATA_END, DATA_START

if TYPE_CHECKING:
    from mlfleet.manifest.models import Deploy, Evaluation, Experiment, Image, Project

EVALUATE, BUILD, VERIFY, RELEASE, DEPLOY = "evaluate", "build_image", "verify_image", "release", "deploy"

_LABELS = {
    "org.opencontainers.image.title": "${project.name}",
    "org.opencontainers.image.revision": "${git.commit}",
    DATA_START: "${data.start}",
    DATA_END: "${data.end}",
}


class Delivery(NamedTuple):
    """The tasks that follow the training of some experiments, one after the other."""

    slugs: tuple[str, ...]
    first: BaseOperator
    last: BaseOperator


class _Chain(NamedTuple):
    """What the tasks of one delivery know together.

    ``project``     with the experiments of this delivery
    ``experiment``  that it belongs to; None for all of them together
    ``trained``     of them, by slug
    """

    plan: Plan
    project: Project
    experiment: Experiment | None
    trained: Mapping[str, Trained]

    @property
    def prefix(self) -> str:
        """Of the tasks' ids, as their group gives it."""
        return f"{self.experiment.slug}." if self.experiment else ""

    @property
    def references(self) -> dict[str, Any]:
        return references_of(self.project, self.plan.environment, self.plan.commit, self.experiment)

    @property
    def evaluation(self) -> Evaluation | None:
        """None also where there is nothing to judge."""
        return self.project.evaluation if self.trained else None


def deliver(plan: Plan, trained: Mapping[str, Trained]) -> list[Delivery]:
    """Adds the tasks after training to the current DAG: one after the other for each image, beside each other.

    ``trained`` is by slug of the experiment.
    """
    found = []
    for experiment, project in deliveries_of(plan.project):
        slugs = tuple(each.slug for each in project.experiments)
        mine = {slug: trained[slug] for slug in slugs if slug in trained}
        chain = _Chain(plan, project, experiment, mine)
        if experiment is None:
            tasks = _tasks(chain)
        else:
            with mine[experiment.slug].group if mine else group_of(experiment):
                tasks = _tasks(chain)
        if tasks:
            found.append(Delivery(slugs, tasks[0], tasks[-1]))
    return found


def _tasks(chain: _Chain) -> list[BaseOperator]:
    project = chain.project
    tasks: list[BaseOperator] = []
    if chain.evaluation:
        tasks.append(_evaluate(chain, chain.evaluation))
    if project.image:
        tasks += [_build(chain, project.image), _verify(chain, project.image), _release(chain, project.deploy)]
        if project.deploy:
            tasks.append(_deploy(chain, project.deploy))
    for earlier, later in itertools.pairwise(tasks):
        if earlier.task_id == chain.prefix + RELEASE:
            earlier >> Label(_condition(chain)) >> later
        else:
            earlier >> later
    return tasks


def _condition(chain: _Chain) -> str:
    """What makes `release` go on to production, on the edge of the graph that carries the decision."""
    evaluation, deploy = chain.evaluation, chain.project.deploy
    bound = evaluation and " and ".join(
        f"{word} {value:g}" for word, value in (("at least", evaluation.min), ("at most", evaluation.max))
        if value is not None
    )  # fmt: skip
    backfill = "no backfill of older data" if deploy and deploy.backfill == NEWER else "no backfill"
    if evaluation is None:
        return backfill
    improved = "better than live" if evaluation.min_improvement is not None else ""
    return ", ".join(filter(None, [f"{evaluation.metric} {bound}" if bound else "", improved, backfill]))


def _evaluate(chain: _Chain, section: Evaluation) -> EvaluateOperator:
    bound = {name: value for name, value in section if name != "min_improvement"}
    return EvaluateOperator(
        task_id=EVALUATE,
        evaluations=[{"experiment": slug, "task_id": task, **bound} for slug, task in _last_tasks(chain).items()],
        references=chain.references,
        **chain.plan.common(EVALUATE),
    )


def _build(chain: _Chain, section: Image) -> BuildImageOperator:
    plan, project = chain.plan, chain.project
    packages_models = bool(project.training and project.training.kfp)
    return BuildImageOperator(
        task_id=BUILD,
        repository=_repository(chain, section),
        dockerfile=plan.file(section.dockerfile),
        context=plan.file(section.context),
        build_args=ordered({**section.args, **({BASE: section.base} if section.base else {})}),
        platform=section.platforms[0] if section.platforms else None,
        models=_last_tasks(chain) if packages_models else {},
        models_dest=section.models.dest,
        labels=_LABELS | {f"mlfleet.label.{name}": value for name, value in sorted(project.labels.items())},
        **chain.plan.common(BUILD),
        references=chain.references,
        container_registry_conn_id=plan.environment.connections.container_registry,
    )


def _verify(chain: _Chain, section: Image) -> ImageSensor:
    built = f"ti.xcom_pull(task_ids='{chain.prefix}{BUILD}')"
    return ImageSensor(
        task_id=VERIFY,
        repository=_repository(chain, section),
        tag=f"{{{{ {built}['tag'] }}}}",
        digest=f"{{{{ {built}['digest'] }}}}",
        **chain.plan.common(VERIFY),
        container_registry_conn_id=chain.plan.environment.connections.container_registry,
    )


def _release(chain: _Chain, deploy: Deploy | None) -> ReleaseOperator:
    connections, evaluation = chain.plan.environment.connections, chain.evaluation
    return ReleaseOperator(
        task_id=RELEASE,
        build_task_id=chain.prefix + BUILD,
        **chain.plan.common(RELEASE),
        evaluate_task_id=chain.prefix + EVALUATE if evaluation else None,
        min_improvement=evaluation.min_improvement if evaluation and deploy else None,
        backfills=deploy.backfill if deploy else NEVER,
        asset=released_asset(chain.project.name) if deploy and deploy.backfill == NEWER else None,
        application=deploy.spinnaker.application if deploy else None,
        pipeline=deploy.spinnaker.pipeline if deploy else None,
        tag_pattern=deploy.spinnaker.tag_pattern if deploy else None,
        spinnaker_conn_id=connections.spinnaker if deploy else None,
        container_registry_conn_id=connections.container_registry,
        references=chain.references,
    )


def _deploy(chain: _Chain, section: Deploy) -> SpinnakerDeployOperator:
    return SpinnakerDeployOperator(
        task_id=DEPLOY,
        application=section.spinnaker.application,
        pipeline=section.spinnaker.pipeline,
        release_task_id=chain.prefix + RELEASE,
        spinnaker_conn_id=chain.plan.environment.connections.spinnaker,
        timeout=section.timeout,
        on_kill_policy=section.on_kill,
        on_not_started=section.on_not_started,
        **chain.plan.common(DEPLOY),
        references=chain.references,
    )


def _repository(chain: _Chain, section: Image) -> str:
    return section.repository or chain.project.name


def _last_tasks(chain: _Chain) -> dict[str, str]:
    """The id of the last training task of each experiment, by its slug."""
    return {slug: trained.last.task_id for slug, trained in chain.trained.items()}
