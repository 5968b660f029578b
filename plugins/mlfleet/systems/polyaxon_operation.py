"""From a polyaxonfile to the operation that is sent: parameters, matrix and files put in, checked on a copy.

The server compiles and templates (polyaxon.md 5); what can be seen to be wrong before that is refused here, because the
server would accept it and fail the run minutes later.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

import yaml

from mlfleet.errors import SpecError
from mlfleet.systems.polyaxon_settings import RunSettings, apply_settings, pods_of
from mlfleet.systems.polyaxon_texts import survives_templating

_SEARCHES = frozenset({"grid", "random", "mapping", "iterative", "hyperband", "bayes", "hyperopt"})
_BROKEN_IN_CE = frozenset({"hyperband", "bayes"})
# Init files travel inside the operation, which the server keeps in its database.
_MAX_FILES_BYTES = 512 * 1024


def build_operation(
    text: str | None = None,
    *,
    source: str,
    params: Mapping[str, Any] | None = None,
    matrix: Mapping[str, Any] | None = None,
    files: Mapping[str, str] | None = None,
    settings: RunSettings | None = None,
) -> dict[str, Any]:
    """The operation as JSON.

    ``text``     a polyaxonfile, component or operation, YAML; None: ``source`` is a component of the hub
    ``source``   its name in messages
    ``params``   name to value, or to an entry of Polyaxon (``{"value": ...}``, ``{"ref": ...}``)
    ``matrix``   as Polyaxon wants it; a plain list for a parameter is a choice
    ``files``    name to content, made in the run's working folder before it starts
    ``settings`` what the run has beside all that

    Raises SpecError.
    """
    if text is None:
        operation: dict[str, Any] = {"version": 1.1, "kind": "operation", "hubRef": source}
    else:
        operation = _as_operation(_load(text, source), source)
    given = {name: value if _is_entry(value) else {"value": value} for name, value in (params or {}).items()}
    search = _matrix(matrix, source) if matrix else operation.get("matrix")
    searched = set((search or {}).get("params") or {})
    # A parameter that the matrix searches can't have a value of its own as well.
    operation["params"] = {
        name: entry for name, entry in {**dict(operation.get("params") or {}), **given}.items() if name not in searched
    }
    if search:
        operation["matrix"] = search
    _switch_cache_off(operation)
    _check_inputs(operation, searched, source)
    _add_files(operation, files or {}, source)
    apply_settings(operation, settings or {}, source)
    return operation


def is_search(operation: Mapping[str, Any]) -> bool:
    """Whether it runs many children."""
    return bool(operation.get("matrix"))


def _load(text: str, source: str) -> dict[str, Any]:
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        raise _refused(where, f"no valid YAML: {getattr(exc, 'problem', None) or exc}") from exc
    if not isinstance(data, dict):
        raise _refused(source, "a polyaxonfile is a mapping with `version`, `kind` and more")
    return data


def _as_operation(data: dict[str, Any], source: str) -> dict[str, Any]:
    kind = data.get("kind")
    if kind == "component":
        return {"version": data.get("version", 1.1), "kind": "operation", "component": data}
    if kind == "operation":
        return copy.deepcopy(data)
    raise _refused(source, f"`kind` is {kind!r}; a polyaxonfile is a component or an operation")


def _is_entry(value: Any) -> bool:
    return isinstance(value, Mapping) and ("value" in value or "ref" in value)


def _matrix(matrix: Mapping[str, Any], source: str) -> dict[str, Any]:
    search = copy.deepcopy(dict(matrix))
    kind = search.get("kind")
    if kind not in _SEARCHES:
        raise _refused(source, f"the matrix has kind {kind!r}; Polyaxon knows {', '.join(sorted(_SEARCHES))}")
    params = search.get("params") or {}
    if isinstance(params, Mapping):
        search["params"] = {
            name: {"kind": "choice", "value": value} if isinstance(value, list) else value
            for name, value in params.items()
        }
    return search


def _switch_cache_off(operation: dict[str, Any]) -> None:
    """Unless the file decides itself.

    The server's cache is on by default, knows parameters and not data, and answers with the outputs of an older run: a
    rerun would train nothing. A hit in a search with early stopping also leaves the search `running` for ever (seen on
    CE 2.18.0).
    """
    component = operation.get("component")
    decided = "cache" in operation or (isinstance(component, Mapping) and "cache" in component)
    if not decided:
        operation["cache"] = {"disable": True}


def _check_inputs(operation: Mapping[str, Any], searched: set[str], source: str) -> None:
    """Parameters must be declared inputs; required inputs must have a parameter. A referenced component is not seen."""
    component = operation.get("component")
    if not isinstance(component, Mapping):
        return
    inputs = {item["name"]: item for item in component.get("inputs") or () if isinstance(item, Mapping)}
    given = set(operation.get("params") or {}) | searched
    unknown = sorted(given - set(inputs))
    if unknown:
        raise _refused(source, f"it has no input {', '.join(unknown)}; its inputs: {', '.join(inputs) or 'none'}")
    missing = sorted(
        name
        for name, item in inputs.items()
        if name not in given and not item.get("isOptional") and item.get("value") is None
    )
    if missing:
        raise _refused(source, f"its input {', '.join(missing)} has neither a value nor a parameter")


def _add_files(operation: dict[str, Any], files: Mapping[str, str], source: str) -> None:
    if not files:
        return
    size = sum(len(content.encode()) for content in files.values())
    if size > _MAX_FILES_BYTES:
        raise _refused(source, f"its files have {size} bytes, more than {_MAX_FILES_BYTES} can travel with a run")
    component = operation.get("component")
    if not isinstance(component, dict) or not isinstance(component.get("run"), dict):
        raise _refused(source, "files need a component with a `run` section in the same file")
    for pod in pods_of(operation, source):
        pod["init"] = [*(pod.get("init") or []), *(_file(name, content, source) for name, content in files.items())]


def _file(name: str, content: str, source: str) -> dict[str, Any]:
    return {"file": {"filename": name, "content": survives_templating(name, content, source), "chmod": "+x"}}


def as_content(operation: Mapping[str, Any]) -> str:
    """The text that ``POST /runs`` takes."""
    return json.dumps(operation, sort_keys=True)


def warnings(operation: Mapping[str, Any]) -> list[str]:
    """What is known to fail on the community edition (polyaxon.md 2)."""
    kind = (operation.get("matrix") or {}).get("kind")
    if kind in _BROKEN_IN_CE:
        return [f"the community edition 2.18 can't run a {kind} search: it fails before its first run"]
    return []


def _refused(where: str, reason: str) -> SpecError:
    return SpecError("polyaxon", where, "not submitted", reason)
