"""A project written back as a manifest, with or without the origin of each value."""

from __future__ import annotations

from typing import Any

import yaml

from mlfleet.manifest.document import Document, Path, dotted
from mlfleet.manifest.models import Project

DEFAULT = "default"
# Stands between a value and its origin in `with_origins`; YAML takes it for a comment.
ORIGIN = "  # "
_FREE_FORM = ("labels", "training", "image", "annotations", "steps")
# Beyond this column an origin follows its value directly.
_ORIGIN_COLUMN = 60
# The emitter in C where PyYAML has it: rendering was a quarter of the time in which a DAG is built.
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def plain(project: Project) -> dict[str, Any]:
    """Plain data with all defaults filled in, which loads to an equal project; equal projects give equal data."""
    data = project.model_dump(mode="json", by_alias=True, exclude_none=True)
    for key in _FREE_FORM:
        if key in data:
            data[key] = _sorted(data[key])
    data["experiments"] = [_sorted_params(experiment) for experiment in data["experiments"]]
    return data


def rendered(project: Project) -> str:
    """`plain` as YAML."""
    return yaml.dump(plain(project), Dumper=_DUMPER, sort_keys=False, allow_unicode=True, width=120)


def origins_of(project: Project, document: Document) -> dict[str, str]:
    """Where each single value comes from, by its path: ``file:line``, with its target, or ``default``."""
    found: dict[str, str] = {}

    def walk(value: Any, path: Path) -> None:
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, item in inner:
            walk(item, (*path, key))
        if not inner or not value:
            found[dotted(path)] = _origin(document, path)

    walk(plain(project), ())
    return found


def with_origins(project: Project, document: Document) -> str:
    """YAML as `rendered` gives it, each value followed by its origin in a comment."""
    # Without a bound no text is folded, and so each value ends on the line that its comment can stand on.
    text = yaml.safe_dump(plain(project), sort_keys=False, allow_unicode=True, width=float("inf"))
    lines = text.splitlines()
    for node, path in _ends(yaml.compose(text, Loader=yaml.CSafeLoader), ()):
        line = node.end_mark.line if node.end_mark.column else node.end_mark.line - 1
        lines[line] = f"{lines[line].ljust(_ORIGIN_COLUMN)}{ORIGIN}{_origin(document, path)}"
    return "".join(f"{line}\n" for line in lines)


def _origin(document: Document, path: Path) -> str:
    place = document.values.get(path)
    if place is None:
        return DEFAULT
    layer = f" ({place.layer})" if place.layer else ""
    return f"{(place.source or document).file}:{place.line}{layer}"


def _ends(node: Any, path: Path) -> list[tuple[Any, Path]]:
    """The nodes without anything inside, and their paths."""
    found: list[tuple[Any, Path]] = []
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            found += _ends(value, (*path, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            found += _ends(item, (*path, index))
    return found or [(node, path)]


def _sorted_params(experiment: dict[str, object]) -> dict[str, object]:
    return {**experiment, **{key: _sorted(experiment[key]) for key in ("params", "training") if key in experiment}}


def _sorted(value: object) -> object:
    """Free-form mappings in one order: their order in the file has no meaning."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value
