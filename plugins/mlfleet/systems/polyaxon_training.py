"""The Polyaxon run of an experiment: what the manifest asks for, in the words of Polyaxon and Kubernetes."""

from __future__ import annotations

from typing import Any

from mlfleet.manifest.environments import Environment, NodePool, Nodes, Toleration
from mlfleet.manifest.training import Build, Code, PolyaxonTraining, Volume
from mlfleet.systems.polyaxon_settings import BuildSettings, GitInit, RunSettings

# What GKE calls its pools and its spot nodes.
_GKE_POOL = "cloud.google.com/gke-nodepool"
_GKE_SPOT = "cloud.google.com/gke-spot"
_SPOT = NodePool(
    selector={_GKE_SPOT: "true"}, tolerations=[Toleration(key=_GKE_SPOT, value="true", effect="NoSchedule")]
)
_OPTIMIZATION = {"min": "minimize", "max": "maximize"}


def settings_of(environment: Environment, section: PolyaxonTraining, folder: str) -> RunSettings:
    """What the run has beside its file; empty when the manifest says nothing of the kind.

    ``folder`` is that of the project's code in the repository, what a build of the repository has as its context.
    """
    settings: RunSettings = {}
    nodes = environment.nodes or Nodes()
    if section.image:
        settings["image"] = section.image
    resources = section.resources
    if resources:
        gpus = str(resources.gpus) if resources.gpus else None
        wanted = {"cpu": resources.cpu, "memory": resources.memory, nodes.gpu: gpus}
        settings["resources"] = {name: amount for name, amount in wanted.items() if amount}
    _place(settings, section, nodes)
    if section.queue:
        settings["queue"] = section.queue
    if section.presets:
        settings["presets"] = section.presets
    if section.connections:
        settings["connections"] = section.connections
    if section.volumes:
        settings["volumes"] = [_volume(volume) for volume in section.volumes]
    if section.code:
        settings["code"] = _code(section.code)
    if section.build:
        settings["build"] = _build(folder, section.build, section.code)
    return settings


def matrix_of(section: PolyaxonTraining) -> dict[str, Any] | None:
    """The search as Polyaxon has it, with the manifest's own early stopping in it."""
    if section.matrix is None:
        return None
    matrix: dict[str, Any] = section.matrix.model_dump(mode="json", by_alias=True, exclude_none=True)
    policies = _early_stopping(section)
    if policies:
        matrix["earlyStopping"] = policies
    return matrix


def _early_stopping(section: PolyaxonTraining) -> list[dict[str, Any]]:
    early, best_by = section.early_stopping, section.best_by
    policies: list[dict[str, Any]] = []
    if early is None:
        return policies
    if early.value is not None:
        # `checks` has seen to it that one of the two says what is measured.
        metric = early.metric or (best_by.metric if best_by else "")
        direction = early.direction or (best_by.direction if best_by else "min")
        policies.append({"kind": "metric_early_stopping", "metric": metric, "value": early.value,
                         "optimization": _OPTIMIZATION[direction]})  # fmt: skip
    if early.failed_percent is not None:
        policies.append({"kind": "failure_early_stopping", "percent": early.failed_percent})
    return policies


def _place(settings: RunSettings, section: PolyaxonTraining, nodes: Nodes) -> None:
    pools: list[NodePool] = []
    if section.node_pool:
        pools.append(nodes.pools.get(section.node_pool) or NodePool(selector={_GKE_POOL: section.node_pool}))
    if section.preemptible:
        pools.append(nodes.preemptible or _SPOT)
    if not pools:
        return
    settings["selector"] = {name: value for pool in pools for name, value in pool.selector.items()}
    settings["tolerations"] = [taint.model_dump(exclude_none=True) for pool in pools for taint in pool.tolerations]


def _volume(volume: Volume) -> dict[str, Any]:
    source: dict[str, Any]
    if volume.claim:
        source = {"persistentVolumeClaim": {"claimName": volume.claim, "readOnly": volume.read_only}}
    elif volume.secret:
        source = {"secret": {"secretName": volume.secret}}
    elif volume.config_map:
        source = {"configMap": {"name": volume.config_map}}
    else:
        source = {"emptyDir": {"medium": "Memory", "sizeLimit": volume.memory}}
    mount = {"name": volume.name, "mountPath": volume.path, "readOnly": volume.read_only}
    return {"volume": {"name": volume.name, **source}, "mount": mount}


def _code(code: Code) -> GitInit:
    git: GitInit = {"folder": code.folder}
    if code.connection:
        git["connection"] = code.connection
    if code.url:
        git["url"] = code.url
    if code.revision:
        git["revision"] = code.revision
    return git


def _build(folder: str, build: Build, code: Code | None) -> BuildSettings:
    own = code is not None and code.revision is None
    context = build.context or (folder if own else "")
    return {
        "component": build.component,
        "connection": build.connection,
        "destination": build.destination,
        "context": "" if context == "." else context,
        "params": dict(build.params or {}),
    }
