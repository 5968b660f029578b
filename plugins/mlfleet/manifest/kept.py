"""Checked sections as text, read back without checking: the definition that a DAG is built from in every process.

Defining the models takes pydantic four times as long as a DAG takes to be built. What was checked once is true, so it
is read back as plain objects with the models' fields and traits (`derived`), which stand for the models where DAGs are
built.

In JSON a section is ``{"$": "<module>.<Model>", <field>: ...}``, with all of its fields. A duration is ``{"$duration":
seconds}``, a day ``{"$day": "2026-11-01"}``. Of a mapping of the manifest's own, keys that begin with ``$`` have one
more.
"""

from __future__ import annotations

import datetime
import importlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mlfleet.manifest import derived

if TYPE_CHECKING:
    from mlfleet.manifest.sections import Section

_MARK = "$"
_DURATION, _DAY = "$duration", "$day"
_ROOM = __name__.rpartition(".")[0]


class Kept:
    """A section that was read back; nobody changes it."""

    def __init__(self, model: str, fields: Mapping[str, Any]) -> None:
        self.__dict__.update(fields)
        self._model, self._fields = model, fields

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Its fields and their values, as a model gives them."""
        return iter(self._fields.items())

    def keys(self) -> Iterable[str]:
        """The names of its fields; ``dict(section)`` asks for them before it iterates."""
        return self._fields.keys()

    def __getitem__(self, name: str) -> Any:
        return self._fields[name]

    def __getattr__(self, name: str) -> Any:
        """The default of a field that the mlfleet which has kept the section did not know."""
        if name.startswith("_"):
            raise AttributeError(name)
        module, _, model = self._model.rpartition(".")
        known = getattr(importlib.import_module(f"{_ROOM}.{module}"), model).model_fields
        if name not in known or known[name].is_required():
            raise AttributeError(f"a kept {self._model} has no {name!r}")
        return known[name].get_default(call_default_factory=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Kept) and (self._model, self._fields) == (other._model, other._fields)

    __hash__ = None  # type: ignore[assignment]

    def model_copy(self, *, update: Mapping[str, Any]) -> Kept:
        """The same section with other values."""
        return type(self)(self._model, {**self._fields, **update})


class _Project(derived.ProjectTraits, Kept): ...


class _Experiment(derived.ExperimentTraits, Kept): ...


class _Schedule(derived.ScheduleTraits, Kept): ...


class _Code(derived.CodeTraits, Kept): ...


class _KFPTraining(derived.KFPTrainingTraits, Kept): ...


_WITH_TRAITS: Mapping[str, type[Kept]] = {
    "models.Project": _Project,
    "models.Experiment": _Experiment,
    "scheduling.Schedule": _Schedule,
    "training.Code": _Code,
    "training.KFPTraining": _KFPTraining,
}


def dump(value: Mapping[str, Any]) -> str:
    """JSON of a mapping that holds sections; equal ones give equal text."""
    return json.dumps({name: _plain(item) for name, item in value.items()}, sort_keys=True, indent=1)


def load(text: str) -> dict[str, Any]:
    """The mapping again, with `Kept` for its sections. Raises ValueError for what is not JSON."""
    found: dict[str, Any] = json.loads(text, object_hook=_revived)
    return found


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, datetime.timedelta):
        return {_DURATION: int(value.total_seconds())}
    if isinstance(value, datetime.date):
        return {_DAY: value.isoformat()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {_escaped(name): _plain(item) for name, item in value.items()}
    return {_MARK: _name_of(value), **{name: _plain(item) for name, item in value}}


def _name_of(section: Section) -> str:
    kind = type(section)
    room, _, module = kind.__module__.rpartition(".")
    if room != _ROOM:
        raise TypeError(f"{kind.__name__} is no section of a manifest")
    return f"{module}.{kind.__name__}"


def _escaped(name: str) -> str:
    return f"{_MARK}{name}" if name.startswith(_MARK) else name


def _revived(found: dict[str, Any]) -> Any:
    if _MARK in found:
        model = found.pop(_MARK)
        return _WITH_TRAITS.get(model, Kept)(model, found)
    if _DURATION in found:
        return datetime.timedelta(seconds=found[_DURATION])
    if _DAY in found:
        return datetime.date.fromisoformat(found[_DAY])
    return {name.removeprefix(_MARK): item for name, item in found.items()}
