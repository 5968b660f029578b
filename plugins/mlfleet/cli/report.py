"""Findings as people and programs read them: the terminal, JSON, annotations of GitHub Actions."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from mlfleet.manifest.diagnostics import Diagnostic, Severity, errors, visible

_COLOURS = {Severity.ERROR: "bold red", Severity.WARNING: "bold yellow"}


def console(stderr: bool = False) -> Console:
    """A terminal that prints text as it is, in colours where there are any, and never breaks or cuts a line."""
    return Console(file=sys.stderr if stderr else sys.stdout, highlight=False, markup=False, emoji=False,
                   soft_wrap=True)  # fmt: skip


def print_findings(found: Sequence[Diagnostic], stderr: bool = False) -> None:
    """Each finding as `Diagnostic` writes itself, in colours where the terminal has them."""
    terminal = console(stderr)
    for diagnostic in found:
        terminal.print(coloured(diagnostic), end="\n\n")


def coloured(diagnostic: Diagnostic) -> Text:
    """The finding's own text with its place, its severity, the caret and the fix set off."""
    text = Text(str(diagnostic))
    colour = _COLOURS[diagnostic.severity]
    head, *rest = text.plain.split("\n")
    place = visible(f"{diagnostic.file}:{diagnostic.line}:{diagnostic.column}:")
    text.stylize("bold", 0, len(place))
    text.stylize(colour, len(place), len(place) + len(f" {diagnostic.severity.value} {diagnostic.id}:"))
    start = len(head) + 1
    for line in rest:
        if line.lstrip(" |").strip("^\t ") == "" and "^" in line:
            text.stylize(colour, start, start + len(line))
        elif line.startswith("  fix: "):
            text.stylize("green", start, start + len(line))
        start += len(line) + 1
    return text


def as_json(found: Sequence[Diagnostic], manifests: int) -> str:
    """``{"manifests", "errors", "warnings", "diagnostics": [...]}``; a diagnostic has the fields of `Diagnostic`."""
    wrong = len(errors(found))
    content: dict[str, Any] = {
        "manifests": manifests,
        "errors": wrong,
        "warnings": len(found) - wrong,
        "diagnostics": [dataclasses.asdict(diagnostic) for diagnostic in found],
    }
    return json.dumps(content, indent=2, ensure_ascii=False)


def as_github(diagnostic: Diagnostic) -> str:
    """A workflow command that GitHub shows beside the line in the pull request (its docs: workflow commands)."""
    properties = {
        "file": diagnostic.file,
        "line": str(diagnostic.line),
        "col": str(diagnostic.column),
        "endColumn": str(diagnostic.column + diagnostic.width),
        "title": f"{diagnostic.id} {diagnostic.path}".strip(),
    }
    told = ",".join(f"{name}={_escaped(visible(value), ':,')}" for name, value in properties.items())
    message = visible(diagnostic.summary) + (f"\nfix: {visible(diagnostic.fix)}" if diagnostic.fix else "")
    return f"::{diagnostic.severity.value} {told}::{_escaped(message)}"


def summary(found: Sequence[Diagnostic], manifests: int) -> str:
    """``2 manifests, 1 error, 0 warnings``."""
    wrong = len(errors(found))
    counts = ((manifests, "manifest"), (wrong, "error"), (len(found) - wrong, "warning"))
    return ", ".join(f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts)


def _escaped(text: str, more: str = "") -> str:
    for character in "%\r\n" + more:
        text = text.replace(character, f"%{ord(character):02X}")
    return text
