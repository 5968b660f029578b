"""What a path in Python code is, told from the text alone: ``Path(__file__).parents[2] / "components" / name``.

The top of the git repository stands for ``/``. A part that only running would tell (`name`) makes the value inexact: it
is something below the folder that is known.
"""

from __future__ import annotations

import ast
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_PATH_TYPES = frozenset(("Path", "PurePath", "PosixPath", "PurePosixPath"))
# Functions and methods that give the same path, as far as the text can tell.
_SAME_FUNCTIONS = frozenset(("str", "fspath", "abspath", "realpath", "normpath", "expanduser", *_PATH_TYPES))
_SAME_METHODS = frozenset(("resolve", "absolute", "expanduser", "as_posix", "__str__", "__fspath__"))
_MAX_STEPS = 60


@dataclass(frozen=True)
class Value:
    """A path or a text; when not ``exact``, it is something that begins with this folder."""

    text: str
    exact: bool = True


class Evaluator:
    """Tells values in one module. ``names`` are its variables that are set once, ``file`` its own path."""

    def __init__(self, file: str, names: Mapping[str, ast.expr]) -> None:
        self._file, self._names = f"/{file}", names

    def value(self, node: ast.expr | None, steps: int = 0) -> Value | None:
        """The value of an expression; None when not even a folder is known."""
        if node is None or steps > _MAX_STEPS:
            return None
        match node:
            case ast.Constant(value=str(text)):
                return Value(text)
            case ast.Name(id=name):
                return self._name(name, steps + 1)
            case ast.FormattedValue(value=inner):
                return self.value(inner, steps + 1)
            case ast.JoinedStr() | ast.BinOp():
                return self._parts(node, steps + 1)
            case ast.Attribute():
                return self._attribute(node, steps + 1)
            case ast.Subscript():
                return self._ancestor(node, steps + 1)
            case ast.Call():
                return self._call(node, steps + 1)
        return None

    def _parts(self, node: ast.JoinedStr | ast.BinOp, steps: int) -> Value | None:
        match node:
            case ast.JoinedStr(values=values):
                return self._joined_text(values, steps)
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                return self._joined([left, right], steps)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self._joined_text([left, right], steps)
        return None

    def _name(self, name: str, steps: int) -> Value | None:
        if name == "__file__":
            return Value(self._file)
        return self.value(self._names.get(name), steps)

    def _attribute(self, node: ast.Attribute, steps: int) -> Value | None:
        base = self.value(node.value, steps)
        if base is None:
            return None
        if node.attr == "parent":
            # Of something below a folder this is the folder, or below it.
            return Value(posixpath.dirname(base.text)) if base.exact else base
        if node.attr in ("name", "stem") and base.exact:
            name = posixpath.basename(base.text)
            return Value(name if node.attr == "name" else posixpath.splitext(name)[0])
        return None

    def _ancestor(self, node: ast.Subscript, steps: int) -> Value | None:
        """``path.parents[2]``."""
        if not (isinstance(node.value, ast.Attribute) and node.value.attr == "parents"):
            return None
        base = self.value(node.value.value, steps)
        if base is None or not isinstance(node.slice, ast.Constant) or not isinstance(node.slice.value, int):
            return None
        text = base.text
        for _ in range(node.slice.value + 1):
            text = posixpath.dirname(text)
        return Value(text, base.exact)

    def _call(self, node: ast.Call, steps: int) -> Value | None:
        name, owner = called(node)
        if name in ("cwd", "getcwd"):
            return Value(".")
        if name in _PATH_TYPES and not node.args:
            return Value(".")
        if name in _SAME_FUNCTIONS or name == "join":
            # "x".join(...) is a text's method.
            if name == "join" and isinstance(owner, ast.Constant):
                return None
            return self._joined(node.args, steps)
        if name == "dirname" and node.args:
            return self._parent(self.value(node.args[0], steps))
        if owner is None:
            return None
        if name in _SAME_METHODS:
            return self.value(owner, steps)
        if name == "joinpath":
            return self._joined([owner, *node.args], steps)
        if name in ("with_name", "with_suffix", "with_stem"):
            return self._renamed(name, self.value(owner, steps), self.value(node.args[0], steps) if node.args else None)
        return None

    @staticmethod
    def _parent(base: Value | None) -> Value | None:
        return Value(posixpath.dirname(base.text)) if base and base.exact else base

    @staticmethod
    def _renamed(how: str, base: Value | None, given: Value | None) -> Value | None:
        if base is None or not base.exact:
            return base
        folder, name = posixpath.split(base.text)
        if given is None or not given.exact:
            return Value(folder, exact=False)
        stem, suffix = posixpath.splitext(name)
        new = {"with_name": given.text, "with_suffix": stem + given.text, "with_stem": given.text + suffix}[how]
        return Value(posixpath.join(folder, new))

    def _joined(self, nodes: Sequence[ast.expr], steps: int) -> Value | None:
        """Parts as of a path; from the first unknown one on it is something below."""
        text = ""
        for index, node in enumerate(nodes):
            part = self.value(node, steps)
            if part is None:
                return Value(text, exact=False) if index else None
            text = posixpath.join(text, part.text)
            if not part.exact:
                return Value(text, exact=False)
        return Value(text) if nodes else None

    def _joined_text(self, nodes: Sequence[ast.expr], steps: int) -> Value | None:
        text = ""
        for node in nodes:
            part = self.value(node, steps)
            if part is None or not part.exact:
                known = text + (part.text if part else "")
                # Only a whole folder is known: what follows could go on with the last name.
                return Value(posixpath.dirname(known), exact=False) if "/" in known else None
            text += part.text
        return Value(text)


def called(node: ast.Call) -> tuple[str, ast.expr | None]:
    """The last name of what is called, and what that belongs to: ``("join", os.path)``."""
    match node.func:
        case ast.Name(id=name):
            return name, None
        case ast.Attribute(attr=name, value=owner):
            return name, owner
    return "", None
