"""What a project's own files say of the params that they take, read without running or importing them.

A polyaxonfile is YAML with ``inputs``; a pipeline is a Python function, of which only the signature is read (`ast`).
Both functions answer None where the text does not tell (a component of the hub, ``**params``, a decorator that may
change the signature, a function made by an assignment): who cannot tell says nothing.
"""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mlfleet.manifest.diagnostics import suggestion
from mlfleet.manifest.document import MAX_DEPTH, at, too_deep

_MAX_BYTES = 1024 * 1024
# Decorators of the KFP SDK (kfp/dsl/__init__.py) that keep the function's parameters as they are written.
_KFP_DECORATORS = frozenset(("pipeline", "component", "container_component"))
# Annotations of what a KFP function writes; nobody gives a value for these (kfp/dsl/types/type_annotations.py).
_OUTPUTS = frozenset(("Output", "OutputPath"))


# What projects share: the library of pipelines, and components. Imported by path from the repository's root, or from
# where compiling looks for modules (systems.kfp_compile).
SHARED = ("include/pipelines/_lib", "include/components")
_SHARED_NAMES = ("_lib", "components", "include")


class Unreadable(Exception):
    """The file is not what the manifest takes it for; `fix` says what to do."""

    def __init__(self, summary: str, fix: str = "") -> None:
        super().__init__(summary)
        self.summary, self.fix = summary, fix


@dataclass(frozen=True)
class Signature:
    """The params that code takes: all of them in their order, and those that have no value of their own."""

    names: tuple[str, ...]
    required: frozenset[str]


def polyaxon_signature(path: Path) -> Signature | None:
    """The inputs of a polyaxonfile; raises Unreadable when it is no component and no operation."""
    data = _yaml(path)
    if data is None:
        return None
    if not isinstance(data, dict) or data.get("kind") not in ("component", "operation"):
        found = data.get("kind") if isinstance(data, dict) else None
        raise Unreadable(
            f"{path.name} is no polyaxonfile: its `kind` is {found!r}", "it is a component or an operation"
        )
    operation = data if data["kind"] == "operation" else {}
    component = operation.get("component") if operation else data
    if not isinstance(component, dict):
        return None
    inputs = component.get("inputs") or []
    if not isinstance(inputs, list):
        return None
    # What the operation gives by itself is no longer asked of the manifest.
    given = {*_keys(operation.get("params")), *_keys(at(operation, "matrix", "params"))}
    named = {str(item["name"]): item for item in inputs if isinstance(item, dict) and "name" in item}
    required = (
        name
        for name, item in named.items()
        if name not in given and not item.get("isOptional") and item.get("value") is None
    )
    return Signature(tuple(named), frozenset(required))


def pipeline_signature(path: Path, function: str) -> Signature | None:
    """The parameters of a pipeline function; raises Unreadable when the file has no such function."""
    module = _python(path)
    if not module.body:
        return None
    functions = {node.name: node for node in module.body if isinstance(node, ast.FunctionDef)}
    found = functions.get(function)
    if found is None:
        if _may_come_from_elsewhere(module, function):
            return None
        raise Unreadable(f"{path.name} has no function {function!r}", suggestion(function, functions))
    if found.args.kwarg or found.args.vararg or any(_last_name(item) not in _KFP_DECORATORS for item in
                                                    found.decorator_list):  # fmt: skip
        return None
    return _signature(found.args)


def function_signature(path: Path, function: str) -> Signature | None:
    """The parameters of any function; raises Unreadable when the file has no such function."""
    module = _python(path)
    functions = {node.name: node for node in module.body if isinstance(node, ast.FunctionDef)}
    found = functions.get(function)
    if found is None:
        if _may_come_from_elsewhere(module, function):
            return None
        raise Unreadable(f"{path.name} has no function {function!r}", suggestion(function, functions))
    return None if found.args.kwarg or found.args.vararg or found.decorator_list else _signature(found.args)


def imports_shared(folder: Path) -> bool:
    """Whether a Python file at the top of a project's folder imports something of :data:`SHARED`."""
    for path in sorted(folder.glob("*.py")):
        try:
            module = _python(path)
        except Unreadable:
            continue
        for node in ast.walk(module):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names = [node.module]
            if any(name.partition(".")[0] in _SHARED_NAMES for name in names):
                return True
    return False


def _signature(arguments: ast.arguments) -> Signature:
    positional = [*arguments.posonlyargs, *arguments.args]
    without_default = {argument.arg for argument in positional[: len(positional) - len(arguments.defaults)]}
    without_default |= {
        argument.arg
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if default is None
    }
    taken = [argument for argument in (*positional, *arguments.kwonlyargs) if not _is_output(argument.annotation)]
    names = tuple(argument.arg for argument in taken)
    return Signature(names, frozenset(without_default.intersection(names)))


def _yaml(path: Path) -> Any:
    text = _text(path)
    try:
        if too_deep(text):
            raise Unreadable(f"{path.name} has more than {MAX_DEPTH} levels of nesting", "write it flatter")
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path.name}:{mark.line + 1}:{mark.column + 1}" if mark else path.name
        raise Unreadable(f"{place} is not valid YAML: {getattr(error, 'problem', None) or error}") from error
    except (ValueError, RecursionError, TypeError) as error:
        raise Unreadable(f"{path.name} cannot be read: {error}") from error


def _python(path: Path) -> ast.Module:
    try:
        with warnings.catch_warnings():
            # Somebody else's `"\d"` is no business of this check, nor of the log of the DAG processor.
            warnings.simplefilter("ignore")
            return ast.parse(_text(path))
    except SyntaxError as error:
        raise Unreadable(
            f"{path.name}:{error.lineno or 1}:{error.offset or 1} is not valid Python: {error.msg}"
        ) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise Unreadable(f"{path.name} cannot be read: {error}") from error


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
        if len(raw) > _MAX_BYTES:
            raise Unreadable(f"{path.name} has more than {_MAX_BYTES} bytes", "data does not belong into code")
        return raw.decode("utf-8")
    except OSError as error:
        raise Unreadable(f"{path.name} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise Unreadable(f"{path.name} is not UTF-8 text") from error


def _may_come_from_elsewhere(module: ast.Module, name: str) -> bool:
    """Whether the name is imported, assigned, defined in a branch, or could come with a star import."""
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return True
        if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store):
            return True
        if isinstance(node, (ast.Import, ast.ImportFrom)) and any(
            name == (alias.asname or alias.name) or alias.name == "*" for alias in node.names
        ):
            return True
    return False


def _last_name(node: ast.expr) -> str:
    """``pipeline`` of ``@dsl.pipeline(name="x")``."""
    if isinstance(node, ast.Call):
        node = node.func
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _is_output(annotation: ast.expr | None) -> bool:
    if isinstance(annotation, ast.Subscript):
        annotation = annotation.value
    return annotation is not None and _last_name(annotation) in _OUTPUTS


def _keys(value: Any) -> list[str]:
    return [str(key) for key in value] if isinstance(value, dict) else []
