"""What a manifest says of a Polyaxon run beside its file: put into the operation, in the places that Polyaxon reads.

Where the component stands in the operation, its ``run`` section is changed; a component of the hub is known to the
server alone, and gets a ``runPatch``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from mlfleet.errors import SpecError
from mlfleet.systems.polyaxon_texts import as_revision

# Where Polyaxon puts what init steps bring, in texts that the server renders.
_ARTIFACTS = "{{ globals.artifacts_path }}"
# Runs that are one pod; all others have their pods inside (polyaxon/_flow/run).
_ONE_POD = frozenset({"job", "service", "builder", "cleaner", "notifier", "tuner", "watchdog"})


class GitInit(TypedDict, total=False):
    """A repository to clone: ``folder`` is where Polyaxon puts it, ``revision`` a commit, tag or branch."""

    connection: str | None
    url: str | None
    revision: str
    folder: str


class BuildSettings(TypedDict, total=False):
    """The image to build first: ``component`` of the hub, ``connection`` of the registry, ``context`` in the code."""

    component: str
    connection: str
    destination: str | None
    context: str
    params: Mapping[str, Any]


class RunSettings(TypedDict, total=False):
    """What a run has beside its file; every part may be missing.

    ``image``        of its container
    ``resources``    Kubernetes' name to quantity, for requests and limits alike
    ``selector``     labels that its node must have
    ``tolerations``  Kubernetes' own entries
    ``queue``, ``presets``, ``connections``   names of Polyaxon
    ``volumes``      ``{"volume": Kubernetes volume, "mount": Kubernetes volume mount}``
    """

    image: str
    resources: Mapping[str, str]
    selector: Mapping[str, str]
    tolerations: Sequence[Mapping[str, Any]]
    queue: str
    presets: Sequence[str]
    connections: Sequence[str]
    volumes: Sequence[Mapping[str, Any]]
    code: GitInit
    build: BuildSettings


def apply_settings(operation: dict[str, Any], settings: RunSettings, source: str) -> None:
    """Puts the settings into the operation; what they say counts before what the file says. Raises SpecError."""
    if settings.get("queue"):
        operation["queue"] = settings["queue"]
    if settings.get("presets"):
        operation["presets"] = _united(operation.get("presets"), settings["presets"])
    code = settings.get("code")
    build = settings.get("build")
    if build:
        operation["build"] = _build(build, code)
    if not _concerns_pods(settings):
        return
    for pod in pods_of(operation, source):
        _apply_to_pod(pod, settings)


def pods_of(operation: dict[str, Any], source: str) -> list[dict[str, Any]]:
    """The parts of the operation that describe pods, to be changed in place.

    Copies what it hands out, so that nothing of the given component changes. Raises SpecError when there is none.
    """
    component = operation.get("component")
    if not isinstance(component, Mapping):
        patch = operation["runPatch"] = dict(operation.get("runPatch") or {})
        return [patch]
    run = component.get("run")
    if not isinstance(run, Mapping):
        raise SpecError("polyaxon", source, "not submitted", "its component has no `run` section")
    copied = {name: dict(part) if isinstance(part, Mapping) else part for name, part in run.items()}
    operation["component"] = {**component, "run": copied}
    if "container" in copied or copied.get("kind") in _ONE_POD:
        return [copied]
    pods = [part for part in copied.values() if isinstance(part, dict) and "container" in part]
    # A Ray cluster has its workers in groups.
    for group in (part for part in copied.values() if isinstance(part, dict) and part not in pods):
        for name, part in group.items():
            if isinstance(part, Mapping) and "container" in part:
                group[name] = dict(part)
                pods.append(group[name])
    if not pods:
        kind = copied.get("kind")
        raise SpecError("polyaxon", source, "not submitted", f"a run of kind {kind!r} has no container to change")
    return pods


def _concerns_pods(settings: RunSettings) -> bool:
    return any(settings.get(name) for name in settings if name not in ("queue", "presets", "build"))


def _apply_to_pod(pod: dict[str, Any], settings: RunSettings) -> None:
    _change_container(pod, settings)
    _change_environment(pod, settings)
    if settings.get("connections"):
        pod["connections"] = _united(pod.get("connections"), settings["connections"])
    code = settings.get("code")
    if code:
        # First: the files that travel with the run win over those of the repository.
        pod["init"] = [_git(code), *(pod.get("init") or [])]


def _change_container(pod: dict[str, Any], settings: RunSettings) -> None:
    container = dict(pod.get("container") or {})
    if settings.get("image"):
        container["image"] = settings["image"]
    wanted = settings.get("resources")
    if wanted:
        given = container.get("resources") or {}
        container["resources"] = {
            **given, **{bound: {**(given.get(bound) or {}), **wanted} for bound in ("requests", "limits")}
        }  # fmt: skip
    volumes = settings.get("volumes")
    if volumes:
        pod["volumes"] = _named([*(pod.get("volumes") or ()), *(entry["volume"] for entry in volumes)])
        container["volumeMounts"] = [*(container.get("volumeMounts") or ()), *(entry["mount"] for entry in volumes)]
    if container:
        pod["container"] = container


def _change_environment(pod: dict[str, Any], settings: RunSettings) -> None:
    environment = dict(pod.get("environment") or {})
    if settings.get("selector"):
        environment["nodeSelector"] = {**(environment.get("nodeSelector") or {}), **settings["selector"]}
    if settings.get("tolerations"):
        environment["tolerations"] = _united(environment.get("tolerations"), settings["tolerations"])
    if environment:
        pod["environment"] = environment


def _git(code: GitInit) -> dict[str, Any]:
    git = {"url": code["url"]} if code.get("url") else {}
    if code.get("revision"):
        git["revision"] = as_revision(code["revision"])
    connection = code.get("connection")
    return {"git": git, **({"connection": connection} if connection else {})}


def _build(build: BuildSettings, code: GitInit | None) -> dict[str, Any]:
    """Polyaxon's ``build``: it clones the same commit, and hands the image that it pushed to the run's container."""
    params: dict[str, Any] = {}
    if code:
        context = "/".join(filter(None, (_ARTIFACTS, code["folder"], build.get("context"))))
        params["context"] = {"value": context}
    if build.get("destination"):
        params["destination"] = {"value": build["destination"], "connection": build["connection"]}
    params |= {name: {"value": value} for name, value in (build.get("params") or {}).items()}
    return {
        "hubRef": build["component"],
        "connection": build["connection"],
        **({"params": params} if params else {}),
        **({"runPatch": {"init": [_git(code)]}} if code else {}),
    }


def _united(given: Sequence[Any] | None, more: Sequence[Any]) -> list[Any]:
    united = list(given or ())
    return united + [item for item in more if item not in united]


def _named(volumes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The last one of each name."""
    return list({str(volume.get("name")): volume for volume in volumes}.values())
