"""What a compiled pipeline does, without the version of the compiler that wrote it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from mlfleet.systems.kfp_package import PipelinePackage

# kfp/dsl/component_factory.py: what a component installs because its compiler does; what the author asks for has no
# `--no-deps` behind it.
_KFP_PIN = re.compile(r"'kfp==[^']*' '--no-deps'( 'typing-extensions[^']*')?")


def content_hash(package: PipelinePackage) -> str:
    """SHA-256 of `plain`: equal for what does the same, whichever SDK compiled it and whoever stored it."""
    return hashlib.sha256(json.dumps(plain(package), sort_keys=True).encode()).hexdigest()


def plain(package: PipelinePackage) -> dict[str, Any]:
    """The pipeline without ``sdkVersion`` and the pin of kfp that the compiler adds to lightweight components.

    Whole numbers are integers: a server keeps them as floats (kfp.md 2).
    """
    ir = {key: value for key, value in package.ir.items() if key != "sdkVersion"}
    found: dict[str, Any] = _plain({"ir": ir, "platform": package.platform or None})
    return found


def stored(spec: Mapping[str, Any]) -> PipelinePackage:
    """The package in ``pipeline_spec`` of a stored version."""
    if "pipeline_spec" in spec:
        return PipelinePackage(spec["pipeline_spec"], spec.get("platform_spec") or None)
    return PipelinePackage(spec)


def as_yaml(package: PipelinePackage) -> str:
    """What an upload takes: one document, and one more for the platform; equal packages give equal text."""
    documents = [package.ir, *([package.platform] if package.platform else [])]
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return str(yaml.dump_all([json.loads(json.dumps(one)) for one in documents], Dumper=dumper, sort_keys=True))


def first_difference(one: PipelinePackage, other: PipelinePackage) -> str:
    """Where two packages differ: ``root.dag.tasks.train: 'a' and 'b'``; "" when they do the same."""
    return next(_differences(plain(one), plain(other), ""), "")


def _differences(one: Any, other: Any, place: str) -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            where = f"{place}.{key}" if place else str(key)
            if key not in one or key not in other:
                yield f"{where} is not always there"
            else:
                yield from _differences(one[key], other[key], where)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, (left, right) in enumerate(zip(one, other, strict=True)):
            yield from _differences(left, right, f"{place}[{index}]")
    elif one != other:
        yield f"{place.removeprefix('ir.')}: {_around(one, other)} and {_around(other, one)}"


def _around(value: Any, other: Any) -> str:
    """The value; of a long text the part where it stops being like the other one."""
    if not isinstance(value, str) or not isinstance(other, str) or len(value) <= 60:
        text = repr(value)
        return text if len(text) <= 120 else f"{text[:117]}..."
    same = next((index for index, (a, b) in enumerate(zip(value, other, strict=False)) if a != b), len(other))
    return repr(f"...{value[max(0, same - 20) : same + 40]}")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return _KFP_PIN.sub("'kfp' '--no-deps'", value) if isinstance(value, str) else value
