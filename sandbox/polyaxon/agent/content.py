"""From the compiled operation that the server hands over to what a local process needs, or a sentence why not.

Scheduling hints (`environment`, `resources`, `image`, `plugins`, `ttl`) mean nothing on one machine and are passed
over; what would change the result of the run (volumes, connections, sidecars, initialisers other than files) is
refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CONTEXT = "/plx-context"
ARTIFACTS = f"{CONTEXT}/artifacts"
RUNTIMES = ("job", "service")
_MODE = re.compile(r"[0-7]{3,4}|[ugoa]*[+=-][rwxXst]+(,[ugoa]*[+=-][rwxXst]+)*")
_REFERENCE = re.compile(r"\$(\$)?\(([A-Za-z_][A-Za-z0-9_.-]*)\)")


class UnsupportedContent(Exception):
    """The run asks for something that a local process can't give; the text is one sentence for its owner."""


@dataclass(frozen=True)
class InitFile:
    """A file that exists before the command starts: `path` in terms of /plx-context, `mode` as chmod takes it."""

    path: str
    content: str
    mode: str | None


@dataclass(frozen=True)
class Container:
    """What to run, still in terms of /plx-context; `timeout` in seconds over all attempts, 0 for none."""

    name: str
    command: list[str]
    args: list[str]
    env: dict[str, str]
    working_dir: str | None
    files: list[InitFile]
    max_retries: int
    timeout: float


def read_content(content: str) -> Container:
    """Read a compiled operation (JSON); raises UnsupportedContent for what can't run here."""
    try:
        operation = json.loads(content)
        run = operation["run"]
    except (TypeError, KeyError, ValueError) as error:
        raise UnsupportedContent(f"The server handed over content that is no compiled operation ({error!r}).") from None
    _refuse_unsupported(run)
    container = run["container"]
    termination = operation.get("termination") or {}
    return Container(
        name=container.get("name") or "main",
        command=_words(container, "command"),
        args=_words(container, "args"),
        env=_environment(container),
        working_dir=container.get("workingDir"),
        files=[_init_file(entry) for entry in run.get("init") or []],
        max_retries=int(termination.get("maxRetries") or 0),
        timeout=float(termination.get("timeout") or 0),
    )


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Kubernetes' `$(NAME)` in commands, arguments and variables: unknown names stay, `$$(NAME)` escapes."""

    def value(match: re.Match[str]) -> str:
        escaped, name = match.groups()
        if escaped:
            return f"$({name})"
        return variables.get(name, match[0])

    return _REFERENCE.sub(value, text)


def _refuse_unsupported(run: Mapping[str, Any]) -> None:
    kind = run.get("kind")
    if kind not in RUNTIMES:
        raise _unsupported(f"the runtime `{kind}`", "only `job` and `service` run as local processes")
    for key in ("volumes", "connections", "sidecars"):
        if run.get(key):
            raise _unsupported(f"`{key}`", "it needs Kubernetes")
    container = run.get("container") or {}
    for key in ("volumeMounts", "envFrom"):
        if container.get(key):
            raise _unsupported(f"`container.{key}`", "it needs Kubernetes")
    if not container.get("command"):
        raise UnsupportedContent(
            "The container has no `command`: the sandbox agent runs the command as a local process "
            "and does not know the entry point of an image."
        )


def _unsupported(what: str, why: str) -> UnsupportedContent:
    return UnsupportedContent(f"The sandbox agent can't do {what}: {why}.")


def _words(container: Mapping[str, Any], key: str) -> list[str]:
    value = container.get(key) or []
    return [_text(word) for word in (value if isinstance(value, list) else [value])]


def _environment(container: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in container.get("env") or []:
        if entry.get("valueFrom"):
            raise _unsupported(f"`env` {entry.get('name')} with `valueFrom`", "it needs Kubernetes")
        found[entry["name"]] = expand(_text(entry.get("value")), found)
    return found


def _text(value: Any) -> str:
    """The compiler turns "1" into 1 and "true" into true; a process takes text only."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value)


def _init_file(entry: Mapping[str, Any]) -> InitFile:
    file = entry.get("file")
    if not file:
        kinds = ", ".join(sorted(key for key, value in entry.items() if value and key != "path"))
        raise _unsupported(f"the initialiser `{kinds}`", "it creates init files only")
    if entry.get("connection") or entry.get("container"):
        raise _unsupported("an init file with a `connection` or a `container`", "they need Kubernetes")
    mode = file.get("chmod")
    if mode is not None and not _MODE.fullmatch(str(mode)):
        raise UnsupportedContent(f"The init file's chmod {mode!r} is no mode such as 755 or +x.")
    name = file.get("filename") or "file"
    return InitFile(
        path=f"{entry.get('path') or ARTIFACTS}/{name}",
        content=_text(file.get("content")),
        mode=None if mode is None else str(mode),
    )
