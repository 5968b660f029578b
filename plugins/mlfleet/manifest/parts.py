"""What of a project stands apart: the DAGs of experiments with a schedule of their own, images per experiment.

Each is told as the project that it would be by itself, so that whoever reads one needs no case for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from mlfleet.manifest.derived import rescheduled

if TYPE_CHECKING:
    from mlfleet.manifest.models import Experiment, Project

_DOT = "."


class Part(NamedTuple):
    """One DAG of a project.

    ``project``     as if it had the experiments of this DAG only
    ``experiment``  whose DAG it is; None for that of the project
    """

    project: Project
    experiment: Experiment | None = None

    @property
    def dag_id(self) -> str:
        """The project's name, with the experiment's slug after a dot, which no name of a project has."""
        return self.project.name + (f"{_DOT}{self.experiment.slug}" if self.experiment else "")


def project_of(dag_id: str) -> str:
    """The name of the project that a DAG of ours belongs to."""
    return dag_id.partition(_DOT)[0]


def parts_of(project: Project) -> list[Part]:
    """The project's own DAG, unless it would be empty, and those of experiments with a schedule of their own.

    The image of a project is built from the models of its own DAG: an experiment that is trained at other times has no
    part in it, and is delivered only with an image per experiment.
    """
    enabled = [experiment for experiment in project.experiments if experiment.enabled]
    together = [experiment for experiment in enabled if experiment.schedule is None]
    if len(together) == len(enabled):
        return [Part(project)]
    parts = [Part(project.model_copy(update={"experiments": together}))] if together else []
    own_image = project.image is not None and project.image.per == "experiment"
    undelivered = {} if own_image else {"image": None, "deploy": None}
    for experiment in enabled:
        if experiment.schedule is not None:
            schedule = rescheduled(project.schedule, experiment.schedule)
            title = f"{project.title or project.name}: {experiment.name}"
            changes = {"experiments": [experiment], "schedule": schedule, "title": title, **undelivered}
            parts.append(Part(project.model_copy(update=changes), experiment))
    return parts


def deliveries_of(project: Project) -> list[tuple[Experiment | None, Project]]:
    """Each image that is built and released by itself: the experiment whose it is, and the project with that one alone.

    None stands for all experiments together.
    """
    image, deploy = project.image, project.deploy
    if image is None or image.per == "project":
        return [(None, project)]
    found: list[tuple[Experiment | None, Project]] = []
    for experiment in project.experiments:
        if experiment.enabled:
            repository = f"{image.repository or project.name}/{experiment.slug}"
            changes: dict[str, Any] = {
                "experiments": [experiment], "image": image.model_copy(update={"repository": repository}),
            }  # fmt: skip
            if deploy:
                from mlfleet.manifest.references import resolve

                known = _known(experiment)
                pipeline = str(resolve(deploy.spinnaker.pipeline, known.__getitem__))
                target = deploy.spinnaker.model_copy(update={"pipeline": pipeline})
                changes["deploy"] = deploy.model_copy(update={"spinnaker": target})
            found.append((experiment, project.model_copy(update=changes)))
    return found


def _known(experiment: Experiment) -> dict[str, Any]:
    params = {f"experiment.params.{name}": value for name, value in experiment.params.items()}
    return {"experiment.name": experiment.name, "experiment.slug": experiment.slug, **params}
