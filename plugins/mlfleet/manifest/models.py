"""The manifest ``mlfleet/v1`` as pydantic models: what one field may be.

Rules that look at several fields, at references or at files stand in `checks`. All models are strict, frozen and refuse
unknown keys; free form is only below ``annotations`` and top-level keys that start with ``x-``.
"""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, StringConstraints, model_validator

from mlfleet.manifest.data import DataRequirement
from mlfleet.manifest.derived import ExperimentTraits, ProjectTraits
from mlfleet.manifest.names import (
    GitHubName,
    ImageReference,
    ImportPath,
    LabelName,
    LabelValue,
    PipelineFunction,
    Platform,
    ProjectName,
    RelativePath,
    Repository,
    StepName,
    Url,
)
from mlfleet.manifest.scheduling import Schedule, ScheduleOverride
from mlfleet.manifest.sections import Direction, Params, Section
from mlfleet.manifest.training import Training, TrainingOverride
from mlfleet.manifest.values import Duration, ExperimentName, TagPattern, Text


class Owner(Section):
    """Somebody who answers for the project."""

    github: GitHubName
    name: Text | None = None
    email: Text | None = None
    slack: Text | None = None
    oncall: Url | None = None


class Link(Section):
    """A web page about the project, shown on its DAG."""

    title: Text
    url: Url


class Experiment(ExperimentTraits, Section):
    """One model of the project; its params are read as ``${experiment.params.<name>}``.

    With a ``schedule`` of its own it has a DAG of its own, see `parts`.
    """

    name: ExperimentName
    params: Params = Field(default_factory=dict)
    enabled: bool = True
    schedule: ScheduleOverride | None = None
    training: TrainingOverride | None = None


class Evaluation(Section):
    """The bound that the metric of every experiment must keep; ``direction`` says which way is better.

    ``min_improvement`` is a share of the live model's metric: 0.02 asks for two percent better, 0 for no worse.
    """

    metric: Text
    direction: Direction
    min: float | None = None
    max: float | None = None
    min_improvement: float | None = Field(default=None, ge=0, le=1)


class ImageModels(Section):
    """Where the models of all experiments go in the image's build context: ``<dest>/<experiment-slug>/``."""

    dest: RelativePath = "models"


class Image(Section):
    """The image of the project, or of each experiment; ``repository`` is a path in the registry of the environment.

    ``per`` experiment, the path of each goes on with ``/<experiment-slug>``.
    """

    per: Literal["project", "experiment"] = "project"
    backend: Literal["buildah", "cloud_build"] = "buildah"
    dockerfile: RelativePath = "Dockerfile"
    context: RelativePath = "."
    base: ImageReference | None = None
    platforms: list[Platform] | None = Field(default=None, min_length=1, max_length=8)
    repository: Repository | None = None
    args: Params = Field(default_factory=dict)
    models: ImageModels = ImageModels()


class SpinnakerTarget(Section):
    """The Spinnaker pipeline that the release's tag starts."""

    application: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,200}$")]
    pipeline: Text
    tag_pattern: TagPattern | None = None


class Deploy(Section):
    """Who brings the released image into production.

    ``canary`` and ``judgment`` are for pipelines that `mlfleet apply` makes: whether they have these stages.
    ``backfill`` says what a backfill may release: never anything, or only newer data than ever was released.
    """

    spinnaker: SpinnakerTarget
    canary: bool = True
    judgment: bool = True
    backfill: Literal["never", "newer"] = "never"
    timeout: Duration = datetime.timedelta(hours=1)
    # A deployment that is under way is no training: whoever ends the Airflow task need not mean it.
    on_kill: Literal["leave", "cancel"] = "leave"
    # "start": when no execution came of the release, the pipeline is started by hand with the same image.
    on_not_started: Literal["fail", "start"] = "fail"


class Retries(Section):
    """How often, and how long after, a failed task is tried again."""

    count: int = Field(default=1, ge=0, le=20)
    delay: Duration = datetime.timedelta(minutes=1)


class Step(Section):
    """A task of the team's own: a function of the project that makes one, or any operator by its import path."""

    name: StepName
    callable: PipelineFunction | None = None
    operator: ImportPath | None = None
    arguments: Params = Field(default_factory=dict)


class Steps(Section):
    """The team's own tasks by their place in the DAG; those of one place run one after the other."""

    before_training: list[Step] = Field(default_factory=list, max_length=20)
    after_training: list[Step] = Field(default_factory=list, max_length=20)
    after_deploy: list[Step] = Field(default_factory=list, max_length=20)


class Notify(Section):
    """What a chat room is told about the runs; ``webhook`` is an Airflow connection that holds the room's address."""

    webhook: Text
    events: list[Literal["failure", "success"]] = Field(default=["failure"], max_length=2)
    late_after: Duration | None = None


class Pools(Section):
    """Airflow's pools that the tasks take their slots from: ``default`` for all, or by the name of a task."""

    default: Text | None = None
    data: Text | None = None
    polyaxon: Text | None = None
    kfp: Text | None = None
    evaluate: Text | None = None
    build_image: Text | None = None
    verify_image: Text | None = None
    release: Text | None = None
    deploy: Text | None = None


class Project(ProjectTraits, Section):
    """One ML project: the whole manifest."""

    api_version: Literal["mlfleet/v1"] = Field(default="mlfleet/v1", alias="apiVersion")
    kind: Literal["Project"]
    name: ProjectName
    title: Text | None = None
    description: Text | None = None
    owners: list[Owner] = Field(min_length=1)
    links: list[Link] = Field(default_factory=list)
    tags: list[Annotated[str, StringConstraints(min_length=1, max_length=100)]] = Field(default_factory=list)
    labels: dict[LabelName, LabelValue] = Field(default_factory=dict, max_length=20)
    annotations: dict[str, JsonValue] = Field(default_factory=dict)
    schedule: Schedule | None = None
    data: list[DataRequirement] | None = Field(default=None, max_length=20)
    experiments: list[Experiment] = Field(min_length=1)
    training: Training | None = None
    evaluation: Evaluation | None = None
    image: Image | None = None
    deploy: Deploy | None = None
    retries: Retries = Retries()
    pools: Pools | None = None
    notify: Notify | None = None
    steps: Steps | None = None

    @model_validator(mode="before")
    @classmethod
    def _leave_extensions_out(cls, data: Any) -> Any:
        if isinstance(data, dict):
            return {key: value for key, value in data.items() if not str(key).startswith("x-")}
        return data


class Manifest(Project):
    """A manifest file: a project, and what is different of it in each environment (`layers` makes one of them)."""

    # Each is checked as part of what it makes of the manifest.
    targets: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
