"""The Polyaxon run of an experiment: what the manifest asks for, in the words of Polyaxon and Kubernetes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlfleet.manifest.environments import Environment, NodePool, Nodes
    from mlfleet.manifest.training import Build, Code, PolyaxonTraining, Volume
    from mlfleet.systems.polyaxon_settings import BuildSettings, GitInit, RunSettings

    # The labels of nodes and the taints that they have.
    Place = tuple[Mapping[str, str], list[dict[str, Any]]]

# What GKE calls its pools and its spot nodes, and what Kubernetes calls their GPUs.
_GKE_POOL = "cloud.google.com/gke-nodepool"
_GKE_SPOT = "cloud.google.com/gke-spot"
_GPU = "nvidia.com/gpu"
_SPOT: Place = (
    {_GKE_SPOT: "true"},
    [{"key": _GKE_SPOT, "operator": "Equal", "value": "true", "effect": "NoSchedule"}],
)
_OPTIMIZATION = {"min": "minimize", "max": "maximize"}


def settings_of(environment: Environment, section: PolyaxonTraining, folder: str) -> RunSettings:
    """What the run has beside its file; empty when the manifest says nothing of the kind.

    ``folder`` is that of the project's code in the repository, what a build of the repository has as its context.
    """
    settings: RunSettings = {}
    nodes = environment.nodes
    if section.image:
        settings["image"] = section.image
    resources = section.resources
    if resources:
        gpus = str(resources.gpus) if resources.gpus else None
        wanted = {"cpu": resources.cpu, "memory": resources.memory, nodes.gpu if nodes else _GPU: gpus}
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
    matrix: dict[str, Any] = {_camel_case(name): value for name, value in section.matrix if value is not None}
    policies = _early_stopping(section)
    if policies:
        matrix["earlyStopping"] = policies
    return matrix


def _camel_case(name: str) -> str:
    """``num_runs`` as ``numRuns``: Polyaxon's names are the models' aliases."""
    first, *rest = name.split("_")
    return first + "".join(map(str.title, rest))


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


def _place(settings: RunSettings, section: PolyaxonTraining, nodes: Nodes | None) -> None:
    places: list[Place] = []
    if section.node_pool:
        pool = nodes.pools.get(section.node_pool) if nodes else None
        places.append(_place_of(pool) if pool else ({_GKE_POOL: section.node_pool}, []))
    if section.preemptible:
        places.append(_place_of(nodes.preemptible) if nodes and nodes.preemptible else _SPOT)
    if not places:
        return
    settings["selector"] = {name: value for selector, _ in places for name, value in selector.items()}
    settings["tolerations"] = [taint for _, taints in places for taint in taints]


def _place_of(pool: NodePool) -> Place:
    taints = [{name: value for name, value in taint if value is not None} for taint in pool.tolerations]
    return pool.selector, taints


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
