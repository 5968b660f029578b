"""Which image of ours is live, and what its labels say of its models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from mlfleet.clients.container_registry import ContainerRegistryClient
from mlfleet.clients.spinnaker import SpinnakerClient
from mlfleet.clients.spinnaker_images import wanted_tag
from mlfleet.clients.spinnaker_outcome import OutcomeKind, deployment_outcome, is_complete
from mlfleet.errors import ConfigError, NotFound
from mlfleet.remote.numbers import finite
from mlfleet.systems.labels import DATA_END, METRIC

# Newest executions that are looked at for one that deployed; Gate shows those of the last 14 days (spinnaker.md 1.1).
_LOOKED_AT = 30


@dataclass(frozen=True)
class LiveImage:
    """The image that a pipeline deployed last, with what its labels say.

    ``metrics``   experiment slug -> name -> value
    ``data_end``  where the data of its models ends, as the manifest's ``data.end`` gives it; "" when it does not say
    """

    name: str
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    data_end: str = ""


async def live_image(
    gate: SpinnakerClient, registry: ContainerRegistryClient, application: str, pipeline: str, repository: str
) -> LiveImage | None:
    """What the pipeline's newest deployment that went through brought into production; None before the first one.

    An execution that succeeded without deploying, or whose deployment was undone, changed nothing. Raises NotFound when
    there is no such pipeline, ConfigError when the registry has lost the live image.
    """
    config = await gate.pipeline_config(application, pipeline)
    for execution in await gate.recent_executions(str(config.get("id") or ""), _LOOKED_AT):
        tag = wanted_tag(execution, repository)
        if tag is None or not is_complete(execution):
            continue
        # A deploy stage may name the image by its digest.
        found = await registry.head_manifest(repository, tag)
        outcome = deployment_outcome(execution, repository, tag, found.digest if found else None)
        if outcome.kind is OutcomeKind.DEPLOYED:
            return await _described(registry, repository, tag)
    return None


async def _described(registry: ContainerRegistryClient, repository: str, tag: str) -> LiveImage:
    try:
        labels = await registry.labels(repository, tag)
    except NotFound:
        raise ConfigError(f"the live image {repository}:{tag} is not in the registry any more, so nothing can be "
                          "compared with it", "evaluation.min_improvement or deploy.backfill",
                          "Leave it out for one release") from None  # fmt: skip
    metrics: dict[str, dict[str, float]] = {}
    for label, text in labels.items():
        found = re.fullmatch(rf"{re.escape(METRIC)}\.([a-z0-9-]+)\.(.+)", label)
        value = finite(_number(text))
        if found and value is not None:
            metrics.setdefault(found[1], {})[found[2]] = value
    return LiveImage(f"{repository}:{tag}", metrics, labels.get(DATA_END, ""))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
