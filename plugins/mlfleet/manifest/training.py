"""``training`` of a manifest: what a Polyaxon run and a KFP run are, and what an experiment changes of them."""

from __future__ import annotations

import datetime
from typing import Literal

from pydantic import Field, JsonValue

from mlfleet.manifest.derived import CodeTraits, KFPTrainingTraits
from mlfleet.manifest.names import (
    AbsolutePath,
    Commit,
    ComponentReference,
    ConnectionName,
    GitAddress,
    ImageReference,
    NodePoolName,
    PipelineFunction,
    QueueName,
    RelativePath,
    VolumeName,
)
from mlfleet.manifest.sections import Direction, Params, Section
from mlfleet.manifest.values import Amount, Duration, Memory, Text

# What a retry does with a run that failed: a new one, that one from where it got to, or nothing.
OnFailed = Literal["resubmit", "resume", "fail"]


class BestBy(Section):
    """Which run of a matrix counts as the best: the metric is one of its outputs."""

    metric: Text
    direction: Direction


class EarlyStopping(Section):
    """When a search ends before all of its runs were made; metric and direction are those of ``best_by``."""

    value: float | None = None
    failed_percent: int | None = Field(default=None, ge=1, le=100)
    metric: Text | None = None
    direction: Direction | None = None


class Matrix(Section):
    """Polyaxon's ``matrix`` section, handed on as written (Polyaxon checks the kinds' own rules)."""

    kind: Literal["grid", "random", "mapping", "hyperband", "bayes", "hyperopt", "iterative"]
    params: dict[str, JsonValue] | None = None
    values: list[dict[str, JsonValue]] | None = None
    concurrency: int | None = Field(default=None, ge=1, le=1000)
    num_runs: int | None = Field(default=None, ge=1, alias="numRuns")
    num_initial_runs: int | None = Field(default=None, ge=1, alias="numInitialRuns")
    max_iterations: int | None = Field(default=None, ge=1, alias="maxIterations")
    seed: int | None = None
    eta: float | None = None
    algorithm: Literal["tpe", "rand", "anneal"] | None = None
    resource: dict[str, JsonValue] | None = None
    metric: dict[str, JsonValue] | None = None
    utility_function: dict[str, JsonValue] | None = Field(default=None, alias="utilityFunction")
    resume: bool | None = None
    tuner: dict[str, JsonValue] | None = None
    early_stopping: list[dict[str, JsonValue]] | None = Field(default=None, alias="earlyStopping")


class Resources(Section):
    """What each pod of the run asks for and gets: Kubernetes' requests and limits alike."""

    cpu: Amount | None = None
    memory: Memory | None = None
    gpus: int | None = Field(default=None, ge=1, le=64)


class Volume(Section):
    """A folder of the run's container that comes from Kubernetes: exactly one of the four says from where."""

    name: VolumeName
    path: AbsolutePath
    claim: Text | None = None
    secret: Text | None = None
    config_map: Text | None = None
    memory: Memory | None = None
    read_only: bool = False


class Code(CodeTraits, Section):
    """A git repository that Polyaxon clones into the run before it starts.

    Without ``revision`` it is the repository of the manifest, at the commit of the DAG.
    """

    connection: ConnectionName | None = None
    url: GitAddress | None = None
    revision: Text | None = None


class Build(Section):
    """The image of the training code, built by Polyaxon from `Code` before the run, and used by it."""

    connection: ConnectionName
    destination: ImageReference | None = None
    context: RelativePath | None = None
    component: ComponentReference = "kaniko"
    params: Params | None = None


class Placement(Section):
    """Where a Polyaxon run runs, and with what; the project says it for all, an experiment for its own."""

    image: ImageReference | None = None
    resources: Resources | None = None
    node_pool: NodePoolName | None = None
    preemptible: bool | None = None
    queue: QueueName | None = None
    presets: list[Text] | None = Field(default=None, max_length=20)
    connections: list[ConnectionName] | None = Field(default=None, max_length=20)
    early_stopping: EarlyStopping | None = None


class PolyaxonTraining(Placement):
    """A Polyaxon run, or a tuning when there is a ``matrix``; ``files`` travel with the run."""

    polyaxonfile: RelativePath | None = None
    component: ComponentReference | None = None
    files: list[RelativePath] = Field(default_factory=list)
    params: Params = Field(default_factory=dict)
    matrix: Matrix | None = None
    best_by: BestBy | None = None
    code: Code | None = None
    build: Build | None = None
    volumes: list[Volume] | None = Field(default=None, max_length=20)
    timeout: Duration = datetime.timedelta(hours=4)
    on_failed: OnFailed = "resubmit"


class KFPVersion(Section):
    """Which uploaded version of the pipeline runs, instead of one compiled from the file: one of the three says it."""

    name: Text | None = None
    branch: Text | None = None
    commit: Commit | None = None
    pipeline: Text | None = None


class KFPTraining(KFPTrainingTraits, Section):
    """A run of a Kubeflow pipeline, compiled from ``<file>.py:<function>``, or of a version that was uploaded of it."""

    pipeline: PipelineFunction
    version: KFPVersion | None = None
    params: Params = Field(default_factory=dict)
    # Off unless asked for: the cache knows parameters, not the data that they point to.
    caching: bool = False
    service_account: Text | None = None
    pipeline_root: Text | None = None
    timeout: Duration = datetime.timedelta(hours=4)
    on_failed: OnFailed = "resubmit"


class Training(Section):
    """How each experiment trains: Polyaxon, then KFP, either of them optional."""

    polyaxon: PolyaxonTraining | None = None
    kfp: KFPTraining | None = None


class PolyaxonOverride(Placement):
    """What is different in the Polyaxon run of one experiment; ``params`` are merged by name."""

    params: Params = Field(default_factory=dict)
    matrix: Matrix | None = None
    timeout: Duration | None = None
    on_failed: OnFailed | None = None


class KFPOverride(Section):
    """What is different in the KFP run of one experiment; ``params`` are merged by name."""

    params: Params = Field(default_factory=dict)
    version: KFPVersion | None = None
    caching: bool | None = None
    service_account: Text | None = None
    timeout: Duration | None = None
    on_failed: OnFailed | None = None


class TrainingOverride(Section):
    """What is different in the training of one experiment."""

    polyaxon: PolyaxonOverride | None = None
    kfp: KFPOverride | None = None
