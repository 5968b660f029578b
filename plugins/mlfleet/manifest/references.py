"""``${...}`` in manifests: the closed list of what can be referred to, and the one place that resolves it.

A reference is a dotted path of the table below; ``*`` stands for one name. ``$${`` writes ``${`` itself.

=============================  ============================================================== ==========
path                           value                                                          known
=============================  ============================================================== ==========
data.start, data.end           ISO times of the run's data interval                           run time
run.key                        key of this task's remote job                                  run time
run.type                       scheduled, manual, backfill or asset_triggered                 run time
project.name                   the manifest's ``name``                                        parse time
experiment.name, .slug         the experiment that the task belongs to                        parse time
experiment.params.*            one of its ``params``                                          parse time
env.*                          a value of ``include/environments/<env>.yaml``                 parse time
process.*                      a variable of the process, in environment files only           run time
git.commit                     commit of the code that runs                                   run time
polyaxon.uuid, .outputs.*      the experiment's Polyaxon run                                  run time
polyaxon.best.inputs.*         of the best run of its matrix (``best_by``)                    run time
polyaxon.best.outputs.*
kfp.outputs.*                  the experiment's KFP run (file ``mlfleet_outputs``)            run time
=============================  ============================================================== ==========
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from mlfleet.errors import ConfigError
from mlfleet.manifest.diagnostics import suggestion

SCOPES = (
    "data.start",
    "data.end",
    "run.key",
    "run.type",
    "project.name",
    "experiment.name",
    "experiment.slug",
    "experiment.params.*",
    "env.*",
    "git.commit",
    "polyaxon.uuid",
    "polyaxon.outputs.*",
    "polyaxon.best.inputs.*",
    "polyaxon.best.outputs.*",
    "kfp.outputs.*",
)
PROCESS_SCOPE = "process.*"

Lookup = Callable[[str], Any]

_TOKEN = re.compile(r"\$\$\{|\$\{([^{}]*)\}|\$\{")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


class BadReference(ValueError):
    """A reference that is not on the closed list; `fix` names the nearest one that is."""

    def __init__(self, summary: str, fix: str = "") -> None:
        super().__init__(summary)
        self.summary, self.fix = summary, fix


def paths_in(text: str) -> Iterator[str]:
    """What is written between ``${`` and ``}``, in order, unchecked; raises BadReference for a ``${`` without end."""
    for token in _TOKEN.finditer(text):
        if token.group(0) == "${":
            raise BadReference("a `${` without its `}`", "close the reference, or write `$${` for the characters `${`")
        if token.group(1) is not None:
            yield token.group(1)


def check(path: str, allowed: tuple[str, ...] = SCOPES) -> None:
    """Raises BadReference unless `path` matches one of the `allowed` scopes."""
    if any(_matches(path, scope) for scope in allowed):
        return
    if any(_matches(path, scope) for scope in SCOPES):
        raise BadReference(f"${{{path}}} has no value here", f"known here: {', '.join(allowed) or 'no reference'}")
    if not all(_NAME.fullmatch(part) for part in path.split(".")):
        raise BadReference(
            f"${{{path}}} is not a reference: names joined by dots, without spaces or operators",
            f"known here: {', '.join(allowed)}",
        )
    raise BadReference(f"there is no reference ${{{path}}}", suggestion(_as_scope(path), allowed))


def interval_bound(start: datetime, end: datetime, moment: datetime) -> str:
    """An end of a data interval as ``data.start`` and ``data.end`` give it.

    Whole days are dates (``2026-11-10``), shorter intervals ISO 8601 times: a date could not tell their ends apart.
    """
    if end - start >= timedelta(days=1):
        return moment.date().isoformat()
    return moment.isoformat(timespec="seconds")


def resolve(value: Any, lookup: Lookup) -> Any:
    """`value` with all references in its strings (also inside lists and mappings) replaced.

    A string that is exactly one reference becomes what `lookup` gives, with its type; inside a longer text scalars are
    written as they are, lists and mappings as JSON. Values of ``env.*`` may hold ``${process.NAME}`` in turn.
    Raises ConfigError when `lookup` raises LookupError, or when a variable of the process is not set.
    """
    if isinstance(value, str):
        return _resolve_text(value, lookup)
    if isinstance(value, Mapping):
        return {key: resolve(item, lookup) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [resolve(item, lookup) for item in value]
    return value


def resolve_process(value: Any, environ: Mapping[str, str] | None = None) -> Any:
    """Replaces ``${process.NAME}`` in a value of an environment file; ConfigError when the variable is not set."""
    variables = os.environ if environ is None else environ

    def variable(path: str) -> str:
        name = path.removeprefix("process.")
        if name not in variables:
            raise ConfigError(f"the environment variable {name} is not set", "the environment of the Airflow process",
                              "Set it, or give the value in include/environments")  # fmt: skip
        return variables[name]

    return resolve(value, variable)


def _resolve_text(text: str, lookup: Lookup) -> Any:
    if "${" not in text:
        return text
    whole = _TOKEN.fullmatch(text)
    if whole and whole.group(1) is not None:
        return _look_up(whole.group(1), lookup)

    def replace(token: re.Match[str]) -> str:
        if token.group(1) is None:
            return "${"
        found = _look_up(token.group(1), lookup)
        return found if isinstance(found, str) else json.dumps(found)

    return _TOKEN.sub(replace, text)


def _look_up(path: str, lookup: Lookup) -> Any:
    try:
        found = lookup(path)
    except LookupError as error:
        detail = f": {error.args[0]}" if error.args and str(error.args[0]) != path else ""
        raise ConfigError(f"the manifest's reference ${{{path}}} has no value in this run{detail}") from error
    return resolve_process(found) if path.startswith("env.") else found


def _matches(path: str, scope: str) -> bool:
    parts, wanted = path.split("."), scope.split(".")
    return len(parts) == len(wanted) and all(
        _NAME.fullmatch(part) if want == "*" else part == want for part, want in zip(parts, wanted, strict=True)
    )


def _as_scope(path: str) -> str:
    """A path written like the scope it resembles most (last name as ``*``)."""
    head, _, last = path.rpartition(".")
    return f"{head}.*" if head and any(scope == f"{head}.*" for scope in SCOPES) else f"{head}.{last}" if head else last
