"""A manifest over the organisation's defaults, and the targets of an environment over both.

From below: ``include/defaults.yaml``, its ``targets.<environment>``, the manifest, its ``targets.<environment>``.
Mappings are merged by key, lists of named things (`NAMED`) by name; any other value takes the place of the one below.
``null`` takes a section away. Defaults switch nothing on: one of the `SWITCHES` counts only where the manifest has it,
a pool only where its task is.

The result is a document like any other, whose places know the file, the path and the layer that they come from.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any

from mlfleet.manifest.diagnostics import suggestion
from mlfleet.manifest.document import Document, Path, Place, at
from mlfleet.manifest.step_checks import PLACES
from mlfleet.manifest.tasks import ALL, tasks_of

TARGETS = "targets"
# Lists whose entries are merged by this key; all other lists are replaced.
NAMED: dict[Path, str] = {
    ("experiments",): "name", ("links",): "title", ("data",): "name",
    **{("steps", place): "name" for place in PLACES},
}  # fmt: skip
SWITCHES: tuple[Path, ...] = (
    ("schedule",), ("training",), ("training", "polyaxon"), ("training", "kfp"), ("evaluation",), ("image",),
    ("deploy",),
)  # fmt: skip
# What a project is does not depend on the environment, and no default can say it for all.
NOT_IN_TARGETS = ("apiVersion", "kind", "name", TARGETS)
_NOT_IN_DEFAULTS = ("kind", "name", "title", "description", "experiments", "steps", "data")


@dataclass(frozen=True)
class _Layer:
    """The part of a document below `path`; ``title`` names it in origins."""

    document: Document
    path: Path = ()
    title: str = ""


def resolve(document: Document, defaults: Document | None, environment: str) -> Document:
    """The manifest as the environment has it; the given documents stay as they are, and so do their findings."""
    own = _layers(document, environment)
    if defaults is None and len(own) == 1 and TARGETS not in (document.data or {}):
        return document
    merged = _merge(document, own)
    if defaults is None:
        return merged
    off = {path for path in SWITCHES if at(merged.data, *path) is None}
    off |= {("pools", task) for task in set(ALL) - tasks_of(merged.data)}
    return _merge(document, [*_layers(defaults, environment), *own], defaults, off)


def environments_of(document: Document, defaults: Document | None) -> set[str]:
    """The environments that one of the two has a target for."""
    return {str(name) for one in (document, defaults) if one for name in _mapping(at(one.data, TARGETS))}


def check_targets(document: Document, environments: Collection[str]) -> None:
    """Adds what is wrong with the targets as such; without environments their names are not looked at."""
    if TARGETS not in (document.data or {}):
        return
    targets = at(document.data, TARGETS)
    if not isinstance(targets, dict) or not targets:
        document.report("MF012", (TARGETS,), "`targets` is a mapping of environments to what is different there",
                        "write it like `targets: {dev: {schedule: null}}`")  # fmt: skip
        return
    for name, overlay in targets.items():
        if environments and name not in environments:
            document.report("MF024", (TARGETS, name), f"there is no environment {name!r}",
                            suggestion(str(name), environments), key=True)  # fmt: skip
        if not isinstance(overlay, dict) or not overlay:
            document.report("MF012", (TARGETS, name), "a target is a mapping with the keys of a manifest")
            continue
        for key in overlay:
            if key in NOT_IN_TARGETS:
                document.report("MF024", (TARGETS, name, key), f"`{key}` is the same in all environments",
                                "write it at the top of the manifest", key=True)  # fmt: skip


def check_defaults(defaults: Document, environments: Collection[str]) -> None:
    """Adds what cannot stand in the organisation's defaults."""
    check_targets(defaults, environments)
    top = [((key,), key) for key in defaults.data or {}]
    inside = [
        ((TARGETS, name, key), key)
        for name, overlay in _mapping(at(defaults.data, TARGETS)).items()
        for key in _mapping(overlay)
        if key not in NOT_IN_TARGETS
    ]
    for path, key in (*top, *inside):
        if key in _NOT_IN_DEFAULTS:
            defaults.report("MF024", path, f"`{key}` belongs to one project, and not into the defaults of all",
                            "write it in the manifests", key=True)  # fmt: skip


def _layers(document: Document, environment: str) -> list[_Layer]:
    target = _Layer(document, (TARGETS, environment), f"target {environment}")
    return [_Layer(document), *([target] if at(document.data, *target.path) is not None else [])]


def _merge(
    document: Document, layers: Iterable[_Layer], defaults: Document | None = None, off: Collection[Path] = ()
) -> Document:
    """The layers of `document` and `defaults`, lowest first; nothing of the defaults is taken from the paths `off`."""
    result = Document(document.file, document.text, {}, diagnostics=list(document.diagnostics))
    for layer in layers:
        _Laying(result, layer, off if layer.document is defaults else ()).lay()
    return result


class _Laying:
    """Lays one layer over a document."""

    def __init__(self, result: Document, layer: _Layer, off: Collection[Path]) -> None:
        self._result, self._layer, self._off = result, layer, off
        self._as_written = layer.document.file == result.file and not layer.path

    def lay(self) -> None:
        over = at(self._layer.document.data, *self._layer.path)
        if isinstance(over, dict):
            self._result.data = self._mapping(self._result.data or {}, over, self._layer.path, ())

    def _value(self, base: Any, over: Any, there: Path, here: Path) -> Any:
        """`over`, which stands at `there`, laid over `base` at `here`; neither is changed."""
        if isinstance(base, dict) and isinstance(over, dict):
            # A section is shown where the manifest has it, not where a target adds to it.
            if not self._layer.path:
                self._place(there, here)
            return self._mapping(base, over, there, here)
        name = NAMED.get(here)
        if name and _all_named(base, name) and _all_named(over, name):
            return self._named(base, over, name, there, here)
        self._forget(here)
        return self._copy(over, there, here)

    def _mapping(self, base: dict[str, Any], over: dict[str, Any], there: Path, here: Path) -> dict[str, Any]:
        merged = dict(base)
        for key, value in over.items():
            path = (*here, key)
            if path in self._off or path == (TARGETS,):
                continue
            if key in base:
                merged[key] = self._value(base[key], value, (*there, key), path)
            else:
                merged[key] = self._copy(value, (*there, key), path)
        return merged

    def _named(self, base: list[Any], over: list[Any], name: str, there: Path, here: Path) -> list[Any]:
        merged = list(base)
        # Each entry is found once: a name that is twice in one list stays there twice, for the checks to find.
        known = {item[name]: index for index, item in reversed(list(enumerate(base)))}
        for index, item in enumerate(over):
            source = (*there, index)
            place = known.pop(item[name], None)
            if place is None:
                merged.append(self._copy(item, source, (*here, len(merged))))
            else:
                merged[place] = self._value(merged[place], item, source, (*here, place))
        return merged

    def _copy(self, value: Any, there: Path, here: Path) -> Any:
        self._place(there, here)
        if isinstance(value, dict):
            return {
                key: self._copy(item, (*there, key), (*here, key))
                for key, item in value.items()
                if (*here, key) not in self._off
            }
        if isinstance(value, list):
            return [self._copy(item, (*there, index), (*here, index)) for index, item in enumerate(value)]
        return value

    def _place(self, there: Path, here: Path) -> None:
        source = self._layer.document
        for wanted, known in ((self._result.keys, source.keys), (self._result.values, source.values)):
            place = known.get(there)
            if place:
                wanted[here] = place if self._as_written else self._moved(place, there)

    def _moved(self, place: Place, there: Path) -> Place:
        return replace(place, source=self._layer.document, path=there, layer=self._layer.title)

    def _forget(self, here: Path) -> None:
        for places in (self._result.keys, self._result.values):
            for path in [path for path in places if path[: len(here)] == here]:
                del places[path]


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _all_named(value: Any, name: str) -> bool:
    """An empty list names nothing: it takes the place of what is below."""
    if not isinstance(value, list) or not value:
        return False
    return all(isinstance(item, dict) and isinstance(item.get(name), str) for item in value)
