"""What a Python file takes from other files when it is imported, read from its text; nothing is run or imported.

Bodies of components are left out: they run in a pod, where no file of the repository is. All else counts whether it
would run or not, so what is told may be too much, and is never too little. Where the text does not tell what a file
reads, `Facts.unknown` says so.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from mlfleet.fleet.path_values import Evaluator, Value, called

# What is read is the first argument of these functions ...
_FUNCTIONS = frozenset((
    "open", "load_component_from_file", "load_from_file", "run_path", "listdir", "scandir", "walk",
))  # fmt: skip
# ... or what these methods are called on.
_METHODS = frozenset(("read_text", "read_bytes", "iterdir", "glob", "rglob", "open", "walk"))
# `x.open("a")` and `x.glob("a")` may be of anything; unless they are told to be of a path, they are something else.
_AMBIGUOUS = frozenset(("open", "glob", "walk"))
_FOLDERS = frozenset(("iterdir", "glob", "rglob", "walk", "listdir", "scandir"))
_MODULES = frozenset(("import_module", "__import__", "run_module"))
_RUNNERS = frozenset(("exec", "eval", "run_path", "spec_from_file_location", "SourceFileLoader"))
# Calls that make a path of their arguments, and so do nothing with it yet.
_MAKERS = frozenset(("Path", "PurePath", "PosixPath", "PurePosixPath", "str", "fspath", "join", "joinpath", "dirname",
                     "abspath", "realpath", "normpath", "with_name", "with_suffix", "with_stem"))  # fmt: skip
_MODE = re.compile(r"[rwxabt+U]{1,4}")
_PATH_LIKE = re.compile(r"[\w@+ .,=~/-]{1,200}")
# Parameters of a lightweight component (kfp/dsl/types/type_annotations.py).
_ARTIFACTS = frozenset(("Input", "Output", "InputPath", "OutputPath"))


@dataclass(frozen=True)
class Import:
    """``from ..module import names``, with ``level`` dots; ``import module`` has no names."""

    module: str
    level: int = 0
    names: tuple[str, ...] = ()


@dataclass
class Facts:
    """What one module takes.

    ``reads``    paths that it opens, relative to the top of the repository with a leading ``/``, else to where it runs
    ``mentions`` paths that it makes and hands on, to whatever may open them
    ``folders``  paths that it looks for modules in
    ``texts``    its constants that could be a path, wherever they end
    ``unknown``  why it cannot be told what it reads, with its line; "" when it can
    ``runs``     whether it runs code that it reads
    """

    imports: list[Import] = field(default_factory=list)
    reads: list[Value] = field(default_factory=list)
    mentions: list[Value] = field(default_factory=list)
    folders: list[Value] = field(default_factory=list)
    texts: set[str] = field(default_factory=set)
    unknown: str = ""
    runs: bool = False


def facts_of(source: bytes, file: str) -> Facts:
    """The facts of a module; what is no Python takes nothing (compiling it says so)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Facts()
    reader = _Reader(file, module)
    for node in _at_import(module):
        reader.read(node)
    return reader.facts


class _Reader:
    def __init__(self, file: str, module: ast.Module) -> None:
        self.facts = Facts()
        self._file = file
        self._values = Evaluator(file, _names_set_once(module))

    def read(self, node: ast.AST) -> None:
        match node:
            case ast.Import(names=names):
                self.facts.imports += [Import(alias.name) for alias in names]
            case ast.ImportFrom(module=module, names=names, level=level):
                self.facts.imports.append(Import(module or "", level, tuple(alias.name for alias in names)))
            case ast.Constant(value=str(text)) if _is_path_like(text):
                self.facts.texts.add(text)
            case ast.Call():
                self._call(node)
            case ast.Return(value=value):
                self._mention([value])
            case ast.arguments(defaults=defaults, kw_defaults=kw_defaults):
                self._mention([*defaults, *kw_defaults])
            case ast.List(elts=elements) | ast.Tuple(elts=elements) | ast.Set(elts=elements):
                self._mention(elements)
            case ast.Dict(values=values):
                self._mention(values)

    def _mention(self, nodes: Iterable[ast.expr | None]) -> None:
        """Paths that are made of parts; a text in one piece is looked at by itself."""
        made = (self._values.value(node) for node in nodes if not isinstance(node, ast.Constant))
        self.facts.mentions += [value for value in made if value is not None]

    def _call(self, node: ast.Call) -> None:
        name, owner = called(node)
        self.facts.runs = self.facts.runs or name in _RUNNERS
        if name not in _MAKERS:
            self._mention([*node.args, *(word.value for word in node.keywords)])
        if name in _MODULES:
            self._import(node)
        elif name in ("spec_from_file_location", "SourceFileLoader"):
            self._reads(node, node.args[1] if len(node.args) > 1 else None)
        elif owner is not None and name in ("insert", "append", "extend") and ast.unparse(owner) == "sys.path":
            self._searches(node)
        elif owner is not None and name in _METHODS:
            self._method(node, name, owner)
        elif name in _FUNCTIONS:
            first = node.args[0] if node.args else next((word.value for word in node.keywords), None)
            self._reads(node, first, folder=name in _FOLDERS)

    def _method(self, node: ast.Call, name: str, owner: ast.expr) -> None:
        """``path.read_text()``, and ``os.walk(path)``."""
        value = self._values.value(owner)
        if value is not None:
            self._add(Value(value.text, exact=False) if name in _FOLDERS else value)
        elif isinstance(owner, ast.Name) and owner.id in ("os", "io", "glob", "codecs", "gzip"):
            self._reads(node, node.args[0] if node.args else None, folder=name in _FOLDERS)
        elif name not in _AMBIGUOUS or (name == "open" and _opens_itself(node)):
            self._give_up(node)

    def _reads(self, node: ast.Call, what: ast.expr | None, folder: bool = False) -> None:
        value = self._values.value(what)
        if value is None:
            self._give_up(node)
        else:
            self._add(Value(value.text, exact=False) if folder else value)

    def _add(self, value: Value) -> None:
        self.facts.reads.append(value)

    def _import(self, node: ast.Call) -> None:
        """``import_module(name)``, and ``import_module(".name", package)``."""
        told = [self._values.value(each) for each in (*node.args, *(word.value for word in node.keywords))]
        name = told[0] if told else None
        dots = len(name.text) - len(name.text.lstrip(".")) if name else 0
        package = told[1] if dots and len(told) > 1 else Value("")
        if name is None or package is None or not (name.exact and package.exact) or (dots and not package.text):
            self._give_up(node)
            return
        above = package.text.split(".")[: -(dots - 1) or None] if dots else []
        self.facts.imports.append(Import(".".join([*above, name.text[dots:]])))

    def _searches(self, node: ast.Call) -> None:
        value = self._values.value(node.args[-1] if node.args else None)
        if value is None:
            self._give_up(node)
        else:
            self.facts.folders.append(value)

    def _give_up(self, node: ast.Call) -> None:
        self.facts.unknown = self.facts.unknown or f"{self._file}:{node.lineno} reads what only running it would tell"


def _opens_itself(node: ast.Call) -> bool:
    """Whether ``x.open()`` opens x: it is given a mode at most, and not what to open."""
    first = node.args[0] if node.args else None
    return first is None or (
        isinstance(first, ast.Constant) and isinstance(first.value, str) and bool(_MODE.fullmatch(first.value))
    )


def _is_path_like(text: str) -> bool:
    return bool(_PATH_LIKE.fullmatch(text) and text.strip("./") and ("/" in text or "." in text))


def _at_import(node: ast.AST) -> Iterator[ast.AST]:
    """The node and all below it, without the bodies of components."""
    yield node
    inner = ast.iter_child_nodes(node)
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and _is_component(node):
        inner = iter([*node.decorator_list, node.args])
    for child in inner:
        yield from _at_import(child)


def _is_component(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    names = [_last_name(decorator) for decorator in node.decorator_list]
    if "container_component" in names or "pipeline" in names:
        return False
    arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
    return "component" in names or any(
        isinstance(argument.annotation, ast.Subscript) and _last_name(argument.annotation.value) in _ARTIFACTS
        for argument in arguments
    )


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Call):
        node = node.func
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _names_set_once(module: ast.Module) -> dict[str, ast.expr]:
    """Variables with the one value that they have anywhere in the file."""
    found: dict[str, ast.expr] = {}
    spoiled: set[str] = set()
    for node in ast.walk(module):
        match node:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ):
                spoiled |= {name} & found.keys()
                found[name] = value
            case ast.Assign(targets=targets):
                spoiled |= {inner.id for target in targets for inner in ast.walk(target) if isinstance(inner, ast.Name)}
            case ast.arg(arg=name):
                spoiled.add(name)
            case ast.For() | ast.AsyncFor() | ast.comprehension() | ast.AugAssign() | ast.NamedExpr():
                spoiled |= {inner.id for inner in ast.walk(node.target) if isinstance(inner, ast.Name)}
            case ast.withitem(optional_vars=ast.expr() as target):
                spoiled |= {inner.id for inner in ast.walk(target) if isinstance(inner, ast.Name)}
    return {name: value for name, value in found.items() if name not in spoiled}
