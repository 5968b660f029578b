"""What a person can ask of a run in Airflow's trigger dialog; a run by schedule has the defaults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import Param

from mlfleet.operators.base import RELEASE_PARAM, WINDOW_PARAM, param_of

if TYPE_CHECKING:
    from mlfleet.manifest.models import Project

# JSON Schema's names; bool stands before int, of which it is one.
_TYPES: tuple[tuple[type, str], ...] = ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"))
_DURATION = "^(P[0-9WDTHMS]+|[0-9]+[wdhms])$"


def form_of(project: Project) -> dict[str, Param]:
    """The DAG's params by name, in the order of the form."""
    form: dict[str, Param] = {}
    if project.image:
        form[RELEASE_PARAM] = Param(
            "auto", title="Release", enum=["auto", "never"], type="string",
            description="auto: as the evaluation says. never: train and build, and leave production as it is.",
        )  # fmt: skip
    if project.training or project.image:
        form[WINDOW_PARAM] = Param(
            None, title="Window of data", type=["null", "string"], pattern=_DURATION,
            description="How far the data reaches back from its end, like 7d or PT12H. Empty: the run's data interval, "
                        "or else the window of the manifest.",
        )  # fmt: skip
    form.update(_training(project))
    return form


def _training(project: Project) -> Iterator[tuple[str, Param]]:
    """The params of training that are plain values and the same for all experiments.

    What holds references, or what an experiment has in its own way, would be one value for all of them in the form.
    """
    training = project.training
    sections = (("polyaxon", "Polyaxon"), ("kfp", "Kubeflow Pipelines"))
    for system, title in sections:
        section = getattr(training, system, None)
        params: Mapping[str, Any] = section.params if section else {}
        overrides = (getattr(experiment.training, system, None) for experiment in project.experiments)
        own = {name for override in overrides if override for name in override.params}
        for name in sorted(set(params) - own):
            value = params[name]
            kind = next((word for type_, word in _TYPES if isinstance(value, type_)), None)
            if kind and "${" not in str(value):
                yield param_of(system, name), Param(value, title=name, type=kind, section=title)
