"""Compiled pipelines as they arrive: unpacked, checked, and their parameters compared with what a run is given."""

from __future__ import annotations

import io
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import yaml

from sandbox.kfp.errors import invalid

Spec = dict[str, Any]
_TYPES: dict[str, tuple[type | tuple[type, ...], str]] = {
    "NUMBER_DOUBLE": ((int, float), "double or integer"),
    "NUMBER_INTEGER": ((int, float), "double or integer"),
    "STRING": (str, "string"),
    "BOOLEAN": (bool, "bool"),
    "LIST": (list, "list"),
    "STRUCT": (dict, "struct"),
}


def parse_spec(content: bytes) -> Spec:
    """The compiled pipeline in an uploaded file: YAML or JSON, plain, zipped or in a tar.

    With platform settings it is ``{"pipeline_spec", "platform_spec"}``, as the server keeps it. Raises APIError 400.
    """
    try:
        documents = [each for each in yaml.safe_load_all(_unpacked(content)) if each]
    except (yaml.YAMLError, ValueError, zipfile.BadZipFile, tarfile.TarError, zlib.error, OSError, EOFError,
            RecursionError) as error:  # fmt: skip
        raise invalid("", f"Failed to read a pipeline spec file: {error}") from error
    spec = documents[0] if documents else None
    pipeline_of(spec)
    return {"pipeline_spec": spec, "platform_spec": documents[1]} if len(documents) > 1 else dict(spec or {})


def pipeline_of(spec: Any) -> Spec:
    """The pipeline itself, without platform settings around it; raises APIError 400 when it is none."""
    inner: Any = spec.get("pipeline_spec", spec) if isinstance(spec, Mapping) else None
    try:
        if not isinstance(inner["pipelineInfo"]["name"], str) or not inner["pipelineInfo"]["name"]:
            raise ValueError("pipelineInfo.name is no name")
        _check_dag(inner, "root", inner["root"]["dag"])
        for name, component in inner.get("components", {}).items():
            if "dag" in component:
                _check_dag(inner, name, component["dag"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise invalid("", f"unknown template format: pipeline spec is invalid: {error}") from error
    return dict(inner)


def platform_of(spec: Mapping[str, Any]) -> Spec:
    """The Kubernetes settings that came with a pipeline, {} when none did: ``{"executors": {label: ...}}``."""
    platforms = (spec.get("platform_spec") or {}).get("platforms") or {}
    return dict((platforms.get("kubernetes") or {}).get("deploymentSpec") or {})


def _check_dag(spec: Mapping[str, Any], name: str, dag: Mapping[str, Any]) -> None:
    """Raises one of the four when a task refers to what is not there."""
    for task, settings in dag["tasks"].items():
        component = spec["components"].get(settings["componentRef"]["name"])
        if component is None:
            raise ValueError(f"task {task} of {name} has no component")
        if "dag" not in component and component["executorLabel"] not in spec["deploymentSpec"]["executors"]:
            raise ValueError(f"task {task} of {name} has no executor")


def _unpacked(content: bytes) -> str:
    if content[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return archive.read(_pipeline_file(archive.namelist())).decode()
    if content[:2] == b"\x1f\x8b":
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            member = tar.extractfile(_pipeline_file([each.name for each in tar.getmembers() if each.isfile()]))
            return member.read().decode() if member else ""
    return content.decode()


def _pipeline_file(names: list[str]) -> str:
    """``pipeline.yaml`` when there is one, else the first file."""
    if not names:
        raise invalid("", "Failed to read a pipeline spec file: the archive is empty")
    return next((name for name in names if name.rpartition("/")[2] == "pipeline.yaml"), names[0])


def check_parameters(spec: Spec, given: Mapping[str, Any]) -> None:
    """Raises APIError 400 when a parameter is missing, unknown or of another type than the pipeline's."""
    definitions = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    doing = "Failed to create a new run: Failed to generate the ExecutionSpec"
    for name, definition in definitions.items():
        if name in given:
            kind, words = _TYPES.get(definition.get("parameterType", ""), (object, ""))
            # A boolean is an int in Python, and not in JSON.
            if not isinstance(given[name], kind) or (isinstance(given[name], bool) and words.startswith("double")):
                raise invalid(doing, f"input parameter {name} requires type {words}, but the input parameter is not")
        elif not definition.get("isOptional") and "defaultValue" not in definition:
            raise invalid(doing, f"parameter {name} is not optional, yet has neither default value nor user provided")
    unknown = sorted(set(given) - set(definitions))
    if unknown:
        raise invalid(doing, f"parameter(s) provided are not required by pipeline: {', '.join(unknown)}")
