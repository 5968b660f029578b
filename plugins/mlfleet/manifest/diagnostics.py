"""What mlfleet says about a manifest: one object for the terminal, Airflow's import errors and the tests."""

from __future__ import annotations

import difflib
import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass

# C0 without the tab, DEL and C1; and what turns the direction of the text around.
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
# The ids never change their meaning.
MEANINGS = {
    "MF001": "the file cannot be read (missing, not UTF-8, over 256 KiB)",
    "MF002": "the text is not YAML",
    "MF003": "several documents, an empty one, or something else than a mapping",
    "MF004": "a key that appears twice",
    "MF005": "a value that YAML 1.1 and 1.2 read differently, or that JSON cannot hold",
    "MF006": "anchors, aliases or nesting without a sensible bound; tags; merge keys",
    "MF007": "curly quotes (warning: a matching pair is stripped)",
    "MF010": "unknown key",
    "MF011": "missing key",
    "MF012": "a value of the wrong type or form",
    "MF013": "Jinja in a manifest",
    "MF014": "a ``${...}`` reference that does not exist or has no value there",
    "MF015": "two things with one name",
    "MF016": "a section that needs another section",
    "MF017": "a file that does not exist",
    "MF018": "a path that leaves the repository, or its place in it",
    "MF019": "a project that another one waits for and nobody has (warning)",
    "MF020": "the factory could not build the DAG (a fault of mlfleet)",
    "MF021": "a polyaxonfile, pipeline or step that cannot be what the manifest takes it for",
    "MF022": "a param that the polyaxonfile, the pipeline or the step does not have",
    "MF023": "an input of the polyaxonfile, the pipeline or the step that gets no value",
    "MF024": "a target of no environment, or a key that cannot stand in a target or in include/defaults.yaml",
    "MF025": "a step whose code makes no task, or a timetable that cannot be made",
    "MF026": "a node pool that an environment does not have",
    "MF027": "something that this version of mlfleet cannot run",
}


class Severity(enum.StrEnum):
    """An error keeps the DAG from being built; a warning does not."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True)
class Diagnostic:
    """One finding; lines and columns count from 1, columns in characters.

    ``path``     the value's place in the manifest, like ``experiments[0].name``; empty for the whole file
    ``source``   the line of the file, for the caret; empty when there is none
    ``width``    how many characters the carets underline
    """

    id: str
    severity: Severity
    path: str
    file: str
    line: int
    column: int
    summary: str
    fix: str = ""
    source: str = ""
    width: int = 1

    def __str__(self) -> str:
        place = f" (at {self.path})" if self.path else ""
        head = f"{self.severity.value} {self.id}: {self.summary}{place}"
        lines = [visible(f"{self.file}:{self.line}:{self.column}: {head}")]
        if self.source:
            number = str(self.line)
            # A tab in the source stays a tab before the caret, so that both lines are shifted alike.
            indent = "".join("\t" if character == "\t" else " " for character in self.source[: self.column - 1])
            room = max(1, len(self.source) - self.column + 1)
            lines += [
                f"  {number} | {visible(self.source)}",
                f"  {' ' * len(number)} | {indent}{'^' * min(self.width, room)}",
            ]
        if self.fix:
            lines.append(f"  fix: {visible(self.fix)}")
        return "\n".join(lines)


def visible(text: str) -> str:
    """Control characters as one sign each: a manifest must not be able to write to somebody's terminal with them."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def nearest(word: str, names: Iterable[str]) -> str | None:
    """The name that was probably meant, or None: equal but for case and separators first, then by similarity."""
    known = list(names)
    squeezed = {_squeeze(name): name for name in known}
    if _squeeze(word) in squeezed:
        return squeezed[_squeeze(word)]
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return close[0] if close else None


def suggestion(word: str, names: Iterable[str]) -> str:
    """A sentence for the `fix` of a diagnostic: the nearest name, or else all of them."""
    known = sorted(names)
    found = nearest(word, known)
    if found:
        return f"did you mean {found!r}?"
    return f"known here: {', '.join(known)}" if known else ""


def errors(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Those that keep the manifest from being used."""
    return [found for found in diagnostics if found.severity is Severity.ERROR]


def _squeeze(name: str) -> str:
    return name.replace("-", "").replace("_", "").replace(" ", "").lower()
