"""What follows from the fields of a section: shared by the models, which check a manifest, and by `kept`.

Importing this defines no model: every process that runs a task builds a DAG, and none of them checks a manifest.
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, TypeVar

from mlfleet.manifest.naming import slug_of

if TYPE_CHECKING:
    from mlfleet.manifest.models import Experiment, Steps
    from mlfleet.manifest.scheduling import Schedule, ScheduleOverride
    from mlfleet.manifest.training import KFPOverride, KFPTraining, PolyaxonOverride, PolyaxonTraining, Training

    System = TypeVar("System", PolyaxonTraining, KFPTraining)

# What starts a run; a schedule has one of them.
KINDS = ("cron", "timetable", "asset")
# How far back a run without a data interval reaches where nobody says it.
WINDOW = datetime.timedelta(days=1)


class ProjectTraits:
    """Of a `models.Project`."""

    if TYPE_CHECKING:
        name: str
        schedule: Schedule | None
        experiments: list[Experiment]
        training: Training | None
        steps: Steps | None

    def training_of(self, experiment: Experiment) -> Training | None:
        """How an experiment is trained: as the project says, but for what it says itself."""
        common, own = self.training, experiment.training
        if common is None or own is None:
            return common
        changed = {"polyaxon": overridden(common.polyaxon, own.polyaxon), "kfp": overridden(common.kfp, own.kfp)}
        return common.model_copy(update=changed)

    def kfp_experiment(self, experiment: Experiment) -> str:
        """The name of the KFP experiment that holds an experiment's runs: at most 127 characters of ASCII."""
        return f"{self.name}.{experiment.slug}"

    @property
    def runs_foreign_code(self) -> bool:
        """Whether building its DAG runs code that is neither mlfleet's nor Airflow's."""
        schedules = (self.schedule, *(experiment.schedule for experiment in self.experiments))
        return bool(self.steps or any(schedule and schedule.timetable for schedule in schedules))

    @property
    def window(self) -> datetime.timedelta:
        """How far back a run without a data interval reaches."""
        return self.schedule.window if self.schedule else WINDOW


class ExperimentTraits:
    """Of a `models.Experiment`."""

    if TYPE_CHECKING:
        name: str

    @property
    def slug(self) -> str:
        """Id of the experiment's task group."""
        return slug_of(self.name)


class ScheduleTraits:
    """Of a `scheduling.Schedule`."""

    if TYPE_CHECKING:
        cron: str | list[str] | None
        asset: str | list[str] | None

    @property
    def crons(self) -> list[str]:
        """The cron expressions, each once, in the order of the manifest."""
        return list(dict.fromkeys([self.cron] if isinstance(self.cron, str) else self.cron or ()))

    @property
    def awaited(self) -> list[str]:
        """The projects whose releases are waited for."""
        return [self.asset] if isinstance(self.asset, str) else list(self.asset or ())


class CodeTraits:
    """Of a `training.Code`."""

    if TYPE_CHECKING:
        connection: str | None
        url: str | None

    @property
    def folder(self) -> str:
        """Where it lies below ``/plx-context/artifacts`` (polyaxon/_runner/converter/converter.py)."""
        return self.connection or str(self.url).rstrip("/").rpartition("/")[2].partition(".")[0]


class KFPTrainingTraits:
    """Of a `training.KFPTraining`."""

    if TYPE_CHECKING:
        pipeline: str

    @property
    def file(self) -> str:
        """The pipeline's file, relative to the project's folder."""
        return self.pipeline.rpartition(":")[0]


def overridden(common: System | None, own: PolyaxonOverride | KFPOverride | None) -> System | None:
    """The section of the project, but for what an experiment says itself; ``params`` are merged by name."""
    if common is None or own is None:
        return common
    said = {name: value for name, value in own if value is not None and name != "params"}
    return common.model_copy(update={**said, "params": {**common.params, **own.params}})


def rescheduled(common: Schedule | None, own: ScheduleOverride) -> Schedule:
    """The schedule of the project, but for what an experiment says itself."""
    if common is None:
        from mlfleet.manifest.scheduling import Schedule

        common = Schedule()
    said = {name: value for name, value in own if value is not None}
    if any(kind in said for kind in KINDS):
        common = common.model_copy(update={**dict.fromkeys(KINDS), "wait_for": "all"})
    return common.model_copy(update=said)
