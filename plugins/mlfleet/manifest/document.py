"""A YAML text as plain data, with the place of every key and value.

Composed by the C parser (0.5 ms for 55 lines, peers.md 5). Scalars are read by the rules of YAML 1.2, so ``1e-3`` is a
number and a date stays text; what YAML 1.1 reads differently (``yes``, ``010``, ``1_000``) is an error, not a guess.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from mlfleet.manifest.diagnostics import Diagnostic, Severity

Path = tuple[str | int, ...]

MAX_BYTES = 256 * 1024
MAX_DEPTH = 40
MAX_VALUES = 20_000
_SAFE_SHAPE = 2_000
_STRING_TAG = "tag:yaml.org,2002:str"
_COLLECTION_TAGS = ("tag:yaml.org,2002:seq", "tag:yaml.org,2002:map")
_PAIRS = {"“": "”", "‘": "’"}
_CURLY = frozenset("“”‘’")
_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_OLD_BOOLEANS = frozenset(("y", "n", "yes", "no", "on", "off"))
_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
# Octal and binary numbers, separators and base 60: two readings, so neither is taken.
_AMBIGUOUS = re.compile(
    r"[-+]?(0[0-9_]+|0[xob][0-9a-fA-F_]+|[0-9][0-9_]*_[0-9_]*(\.[0-9_]*)?|\.(inf|Inf|INF)|\.(nan|NaN|NAN))"
)


# What the parser notices at its end, far from where it is to be mended: where it began, in better words.
_AT_THE_BEGINNING = (
    ("unexpected end of stream", "a quote that is never closed"),
    ("find expected ':'", "a key without its colon"),
)
_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")


@dataclass(frozen=True)
class Place:
    """Where something starts (line and column from 1) and how many characters of that line it covers.

    What was laid into a document from elsewhere (`layers`) has also:

    ``source``  the document that the place is in
    ``path``    what leads to it there, like ``targets.dev.schedule``
    ``layer``   what that part of the document is, for people; empty when it needs no word
    """

    line: int
    column: int
    width: int = 1
    source: Document | None = field(default=None, repr=False, compare=False)
    path: Path = ()
    layer: str = ""


@dataclass
class Document:
    """One manifest file: ``data`` (None when there is nothing to look at), places by path, findings so far."""

    file: str
    text: str
    data: dict[str, Any] | None = None
    keys: dict[Path, Place] = field(default_factory=dict)
    values: dict[Path, Place] = field(default_factory=dict)
    diagnostics: list[Diagnostic] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lines = lines_of(self.text)

    def place_of(self, path: Path, key: bool = False) -> Place:
        """The value at `path` (or its key); the nearest thing around it when it is not in the file."""
        return self._around(path, key)[0]

    def written(self, path: Path) -> str:
        """The dotted path at which the file has, or would have, what stands at `path` of the data."""
        place, below = self._around(path, False)
        return dotted((*place.path, *path[below:]) if place.source else path)

    def _around(self, path: Path, key: bool) -> tuple[Place, int]:
        """The place, and how many parts of the path lead to it."""
        while path:
            first, second = (self.keys, self.values) if key else (self.values, self.keys)
            found = first.get(path) or second.get(path)
            if found:
                return found, len(path)
            path, key = path[:-1], True
        return Place(1, 1), 0

    def report(self, id: str, path: Path, summary: str, fix: str = "", *, key: bool = False,
               severity: Severity = Severity.ERROR) -> None:  # fmt: skip
        """Adds a finding about the value (or the key) at `path`."""
        self._add(self.place_of(path, key), id, summary, fix, self.written(path), severity)

    def report_at(self, place: Place, id: str, summary: str, fix: str = "", *, path: Path = (),
                  severity: Severity = Severity.ERROR) -> None:  # fmt: skip
        """Adds a finding about a place in the text."""
        self._add(place, id, summary, fix, dotted(path), severity)

    def line(self, number: int) -> str:
        """A line of the text, counted from 1; empty when there is none."""
        return self._lines[number - 1] if 0 < number <= len(self._lines) else ""

    def _add(self, place: Place, id: str, summary: str, fix: str, path: str, severity: Severity) -> None:
        home = place.source or self
        self.diagnostics.append(
            Diagnostic(
                id,
                severity,
                path,
                home.file,
                place.line,
                place.column,
                summary,
                fix,
                home.line(place.line),
                place.width,
            )
        )


def dotted(path: Path) -> str:
    """``("experiments", 0, "name")`` as ``experiments[0].name``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def at(data: Any, *path: str | int) -> Any:
    """The value at a path of plain data, None where the path leads nowhere."""
    for part in path:
        inside = part in data if isinstance(data, dict) else isinstance(data, list) and part in range(len(data))
        if not inside:
            return None
        data = data[part]
    return data


def lines_of(text: str) -> list[str]:
    """The lines as libyaml counts them: `str.splitlines` would also break at form feeds and separators of files."""
    return _LINE_BREAK.split(text)


def place_at_end(before: str) -> Place:
    """The place of what follows the text `before`."""
    lines = lines_of(before)
    return Place(len(lines), len(lines[-1]) + 1)


def parse(text: str, file: str) -> Document:
    """Reads one YAML document; never raises for bad text, all findings are in the result."""
    document = Document(file, text.removeprefix("\N{BYTE ORDER MARK}"))
    try:
        if too_deep(document.text):
            document.report("MF006", (), f"more than {MAX_DEPTH} levels of nesting", "write it flatter")
            return document
        root = yaml.compose(document.text, Loader=yaml.CBaseLoader)
    except (yaml.YAMLError, UnicodeEncodeError) as error:
        _report_syntax(document, error)
        return document
    if root is None:
        document.report("MF003", (), "the file is empty", "a manifest starts with `kind: Project` and `name:`")
    elif not isinstance(root, yaml.MappingNode):
        document.report("MF003", (), "a manifest is a mapping of keys to values", "start with `kind: Project`")
    else:
        _Reader(document).read(root)
    return document


def too_deep(text: str) -> bool:
    """Whether nesting goes beyond the bound; looked at first because the C composer recurses without one."""
    longest = max(map(len, lines_of(text)), default=0)
    if 2 * longest + text.count("[") + text.count("{") <= _SAFE_SHAPE:
        return False
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CBaseLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            return True
    return False


def _report_syntax(document: Document, error: Exception) -> None:
    mark = getattr(error, "problem_mark", None)
    problem = str(getattr(error, "problem", None) or getattr(error, "reason", None) or error)
    place = Place(mark.line + 1, mark.column + 1) if mark else _place_of_reader_error(document.text, error)
    if "another document" in problem:
        document.report_at(place, "MF003", "a file holds one manifest, this one holds several documents",
                           "move what follows `---` to a file of its own")  # fmt: skip
        return
    if "undefined alias" in problem:
        document.report_at(place, "MF006", "an alias (`*name`) without an anchor (`&name`) before it")
        return
    context = getattr(error, "context_mark", None)
    for sign, better in _AT_THE_BEGINNING:
        if sign in problem and context:
            place, problem = Place(context.line + 1, context.column + 1), better
    lines = lines_of(document.text)
    place = _before_the_end(place, lines)
    line = lines[place.line - 1]
    character = line[place.column - 1 : place.column]
    if character == "\t" and "cannot start any token" in problem:
        problem = "a tab where only spaces may be"
    inside = str(getattr(error, "context", ""))
    opened = context.line + 1 if context and ("flow sequence" in inside or "flow mapping" in inside) else None
    document.report_at(place, "MF002", f"not valid YAML: {problem}", _fix_of_syntax(problem, character, opened))


def _before_the_end(place: Place, lines: list[str]) -> Place:
    """The last character of the text when the parser points behind it, where there is nothing to see."""
    if place.line < len(lines) or (place.line == len(lines) and lines[-1]):
        return place
    last = next((number for number in range(len(lines), 0, -1) if lines[number - 1].strip()), 1)
    return Place(last, max(1, len(lines[last - 1])))


def _fix_of_syntax(problem: str, character: str, opened: int | None) -> str:
    """What most probably mends it; ``opened`` is the line of a bracket that is still open."""
    if character == "\t":
        return "indent with spaces, not tabs"
    if character and character in "@`%":
        return "put the value in quotes"
    if "mapping values are not allowed" in problem:
        return "put a value that holds `: ` in quotes, or check the indentation"
    if "without its" in problem:
        return "write `key: value`; a longer text stands in quotes, or is indented more than its key"
    if "never closed" in problem:
        return "close it, or put the whole value in quotes of the other kind"
    if "expected node content" in problem:
        return "write a value here, or close the bracket"
    if opened:
        return f"close the bracket that is opened on line {opened}"
    return "check indentation, colons and quotes on this line and the one before"


def _place_of_reader_error(text: str, error: Exception) -> Place:
    if isinstance(error, UnicodeEncodeError):
        return place_at_end(text[: error.start])
    # libyaml counts bytes of what it is given, which is UTF-8.
    read = text.encode("utf-8", "surrogatepass")[: getattr(error, "position", 0)]
    return place_at_end(read.decode("utf-8", "replace"))


class _Reader:
    """Turns nodes into data and fills a document's places; aliases are expanded within a bound."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._lines = lines_of(document.text)
        self._left = MAX_VALUES
        self._open: set[int] = set()

    def read(self, root: yaml.MappingNode) -> None:
        try:
            self._document.data = self._mapping(root, ())
        except _Overflow as overflow:
            self._document.report_at(
                overflow.place, "MF006", overflow.summary, "write the values out, or fewer of them"
            )

    def _value(self, node: yaml.Node, path: Path) -> Any:
        self._left -= 1
        place = self._document.values[path] = _place(node)
        if self._left < 0:
            # The value itself is one of thousands that an alias stands for; the key above all of them can be found.
            key = self._document.keys.get(path[:1], place)
            raise _Overflow(key, f"more than {MAX_VALUES} values, aliases counted as often as they are used")
        if len(path) > MAX_DEPTH:
            raise _Overflow(place, f"more than {MAX_DEPTH} levels of nesting")
        if id(node) in self._open:
            raise _Overflow(place, "an anchor that contains itself")
        self._check_tag(node, path)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]
            return self._mapping(node, path)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: Any, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            place = _place(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self._document.report_at(place, "MF012", "a key must be plain text", path=path)
                continue
            key = self._strip_quotes(key_node, path) if _is_plain(key_node) else key_node.value
            if key == "<<" and _is_plain(key_node):
                self._document.report_at(place, "MF006", "merge keys (`<<`) are not supported",
                                         "write the keys out", path=path)  # fmt: skip
                continue
            here = (*path, key)
            if key in result:
                first = self._document.keys[here]
                self._document.report_at(place, "MF004", f"the key {key!r} appears twice, first on line {first.line}",
                                         "remove one of them", path=here)  # fmt: skip
                continue
            self._document.keys[here] = place
            result[key] = self._value(value_node, here)
        return result

    def _check_tag(self, node: yaml.Node, path: Path) -> None:
        """Tags are refused; ``!!str`` cannot be told from no tag by the node, only by the text it starts with."""
        start = node.start_mark
        line = self._lines[start.line] if start.line < len(self._lines) else ""
        starts_with_tag = line[start.column : start.column + 1] == "!"
        expected = _STRING_TAG if isinstance(node, yaml.ScalarNode) else _COLLECTION_TAGS
        if starts_with_tag or (node.tag not in expected and node.tag not in ("!", None)):
            self._document.report("MF006", path, "YAML tags (`!…`) are not supported",
                                  "leave the tag out; quote a value that must be text")  # fmt: skip

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        if not _is_plain(node):
            return node.value
        text: str = node.value
        if text in _NULL:
            return None
        if text in _BOOLEANS:
            return _BOOLEANS[text]
        if text.lower() in _OLD_BOOLEANS:
            self._document.report("MF005", path, f"{text!r} is a boolean for some YAML readers and text for others",
                                  f'write true or false, or quote it: "{text}"')  # fmt: skip
            return text
        if _AMBIGUOUS.fullmatch(text):
            self._document.report("MF005", path, f"{text!r} is not read alike everywhere, or cannot be written as JSON",
                                  f'write a plain decimal number, or quote it: "{text}"')  # fmt: skip
            return text
        if _INTEGER.fullmatch(text):
            return int(text) if len(text) < 20 else self._huge(text, path)
        if _FLOAT.fullmatch(text):
            return self._float(text, path)
        return self._strip_quotes(node, path)

    def _float(self, text: str, path: Path) -> float | str:
        number = float(text)
        return number if abs(number) != float("inf") else self._huge(text, path)

    def _huge(self, text: str, path: Path) -> str:
        self._document.report("MF005", path, "a number too large to be handed on", "quote it if it is an identifier")
        return text

    def _strip_quotes(self, node: yaml.ScalarNode, path: Path) -> str:
        text: str = node.value
        if not text or not (text[0] in _CURLY or text[-1] in _CURLY):
            return text
        place = _place(node)
        if len(text) > 1 and _PAIRS.get(text[0]) == text[-1]:
            inner = text[1:-1]
            self._document.report_at(
                place, "MF007", f"the curly quotes around {inner!r} are not YAML quotes; they are left out",
                f'write "{inner}"', path=path, severity=Severity.WARNING,
            )  # fmt: skip
            return inner
        self._document.report_at(
            place, "MF007", "a curly quote without its partner is kept as part of the text",
            "use straight quotes around the whole value", path=path, severity=Severity.WARNING,
        )  # fmt: skip
        return text


class _Overflow(Exception):
    def __init__(self, place: Place, summary: str) -> None:
        super().__init__(summary)
        self.place, self.summary = place, summary


def _is_plain(node: yaml.ScalarNode) -> bool:
    return node.style in (None, "")


def _place(node: yaml.Node) -> Place:
    start, end = node.start_mark, node.end_mark
    one_line = start.line == end.line
    return Place(start.line + 1, start.column + 1, max(1, end.column - start.column) if one_line else 1)
