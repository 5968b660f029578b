"""The folder that Airflow parses: one small Python file per project or group of projects, one per refused manifest.

Each file is complete in itself (it holds what its DAGs are built from) and appears by one rename, so whatever moment a
process dies or looks at, every file is an old or a new one. A file whose content would be the same is left alone: the
DAG processor parses a file again when its time of modification changes.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from mlfleet.bundles.definition import Definition

BROKEN = "broken"
_SUFFIX = ".py"
_TEMPORARY = ".tmp"
_MAX_BITS = 16
_FIELDS = ("name", "manifest", "environment", "digest", "commit")


class Layout:
    """One folder of laid-out files. Not safe against another writer: callers hold the bundle's lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._written: dict[str, object] = {}

    def write(self, files: Mapping[str, Sequence[Definition]], root: Path, commit: str | None,
              refusals: Mapping[str, str] | None = None) -> list[str]:  # fmt: skip
        """Makes the folder hold exactly these files; returns the names of those that were written, sorted.

        ``files``     definitions by file name, see `file_names`
        ``root``      the repository that holds the code
        ``commit``    of that code; None when the repository is to be asked when a DAG is built
        ``refusals``  by manifest (relative to the repository), why it is not in force
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        wanted: dict[str, object] = {}
        changed = []
        for name, definitions in files.items():
            wanted[name] = key = (str(root), commit, tuple((item.digest, item.commit) for item in definitions))
            if self._written.get(name) != key and self._put(name, loader_text(definitions, root, commit)):
                changed.append(name)
        for manifest, message in (refusals or {}).items():
            name = refusal_name(manifest)
            wanted[name] = message
            if self._written.get(name) != message and self._put(name, refusal_text(manifest, message)):
                changed.append(name)
        # Last, so that a project that moves to another file is never in none.
        for name in self._present():
            if name not in wanted:
                (self.folder / name).unlink(missing_ok=True)
        self._written = wanted
        return sorted(changed)

    def add(self, texts: Mapping[str, str]) -> None:
        """Writes the files, by name, that are not there yet."""
        self.folder.mkdir(parents=True, exist_ok=True)
        there = set(self.names())
        for name, text in texts.items():
            if name not in there:
                self._put(name, text)

    def names(self) -> list[str]:
        """The names of the files that hold projects."""
        return sorted(path.name for path in self.folder.glob(f"*{_SUFFIX}"))

    def definitions(self) -> dict[str, Definition]:
        """What the files of the folder hold now, by project; a file that cannot be read counts as absent."""
        found = {}
        for name in self.names():
            for definition in read_loader(self.folder / name):
                found[definition.name] = definition
        return found

    def definition(self, project: str, names: Iterable[str]) -> Definition | None:
        """What the first of the files called ``names`` that knows the project says of it; None when none does."""
        for name in names:
            for definition in read_loader(self.folder / name):
                if definition.name == project:
                    return definition
        return None

    def _put(self, name: str, text: str) -> bool:
        path = self.folder / name
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if path.read_text(encoding="utf-8") == text:
                return False
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}{_TEMPORARY}")
        temporary.write_text(text, encoding="utf-8")
        _make_newer(temporary, path)
        os.replace(temporary, path)
        return True

    def _present(self) -> Iterator[str]:
        """Every file of ours, also what a process that died has left behind."""
        for path in sorted(self.folder.rglob("*")):
            if path.suffix in (_SUFFIX, _TEMPORARY) and "__pycache__" not in path.parts:
                yield path.relative_to(self.folder).as_posix()


def file_names(projects: Iterable[str], per_file: int, standing: Iterable[str] = ()) -> dict[str, list[str]]:
    """Projects by the file that holds them.

    With ``per_file`` 1 a file is called like its project. Otherwise groups of about that size are named by the leading
    bits of a hash of the project's name: a new project moves no other one, until groups are so full that each is split
    in two. ``standing`` are the names of the present files; a fleet that shrinks or grows a little keeps its groups.
    """
    names = sorted(projects)
    if per_file <= 1:
        return {f"{name}{_SUFFIX}": [name] for name in names}
    bits = next((bits for bits in map(_bits_of, standing) if bits is not None), 0)
    while bits < _MAX_BITS and len(names) > 1.5 * per_file * 2**bits:
        bits += 1
    while bits > 0 and len(names) < per_file * 2**bits / 3:
        bits -= 1
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_group(name, bits), []).append(name)
    return groups


def possible_names(project: str, per_file: int) -> list[str]:
    """Every file name that `file_names` can give a project.

    Airflow tells a worker the version of a run, but for the name of its file whatever the newest version says; the
    group can have been split or joined in between.
    """
    if per_file <= 1:
        return [f"{project}{_SUFFIX}"]
    return [_group(project, bits) for bits in range(_MAX_BITS + 1)]


def loader_text(definitions: Sequence[Definition], root: Path, commit: str | None) -> str:
    """A loader file; the words DAG and airflow in it are what Airflow's safe mode looks for."""
    manifests = ", ".join(item.manifest for item in definitions)
    lines = [
        f'"""Airflow DAG from {manifests}. Made by mlfleet, which overwrites what is changed here."""',
        "",
        "from mlfleet.bundles.loader import dags_of",
        "",
        f"globals().update(dags_of({str(root)!r}, {commit!r}, [",
    ]
    for item in definitions:
        fields = "".join(f" {field!r}: {getattr(item, field)!r}," for field in _FIELDS)
        lines += [f"{{{fields} 'text': r'''", _quoted(item.text), "'''},"]
    return "\n".join([*lines, "]))", ""])


def on_demand(bundle: str, version: str, names: Iterable[str]) -> dict[str, str]:
    """Files that find their projects as of a version when they are parsed, by name."""
    return {
        name: "\n".join([
            f'"""Airflow DAGs as of {version}, for callbacks. Made by mlfleet."""',
            "",
            "from mlfleet.bundles.loader import dags_at",
            "",
            f"globals().update(dags_at({bundle!r}, {version!r}, {name!r}))",
            "",
        ])
        for name in names
    }  # fmt: skip


def read_loader(path: Path) -> list[Definition]:
    """The definitions in a loader file, as `loader_text` wrote them; empty when it is none."""
    try:
        module = ast.parse(path.read_text(encoding="utf-8"))
        last = module.body[-1]
        assert isinstance(last, ast.Expr)
        assert isinstance(last.value, ast.Call)
        call = last.value.args[0]
        assert isinstance(call, ast.Call)
        return [Definition(**{**entry, "text": entry["text"].strip()}) for entry in ast.literal_eval(call.args[2])]
    except (OSError, ValueError, SyntaxError, LookupError, TypeError, AssertionError):
        return []


def refusal_name(manifest: str) -> str:
    """The file that raises for a manifest: ``broken/projects/prices.py`` for ``include/projects/prices.yaml``."""
    path = Path(manifest).relative_to("include") if manifest.startswith("include/") else Path(Path(manifest).name)
    ending = "" if path.suffix == ".yaml" else f"-{path.suffix[1:]}" if path.suffix else ""
    return (Path(BROKEN) / path.parent / f"{path.stem}{ending}{_SUFFIX}").as_posix()


def refusal_text(manifest: str, message: str) -> str:
    """A file that does nothing but raise the message, where a DAG processor of airflow shows it."""
    return "\n".join([
        f'"""Why Airflow has no new DAG from {manifest}. Made by mlfleet; goes away when the manifest is mended."""',
        "",
        "from mlfleet.errors import ManifestError",
        "",
        f"MESSAGE = {message!r}",
        "raise ManifestError([MESSAGE])",
        "",
    ])  # fmt: skip


def _make_newer(path: Path, than: Path) -> None:
    """Moves a file into a later second than the one that it replaces.

    Python takes byte code for current when size and whole seconds of its source are as they were.
    """
    with contextlib.suppress(FileNotFoundError):
        before = than.stat().st_mtime
        if int(path.stat().st_mtime) <= int(before):
            os.utime(path, (before + 1, before + 1))


def _quoted(text: str) -> str:
    """JSON without the character that would end the literal around it; JSON has an escape for it."""
    return text.replace("'", "\\u0027")


def _group(project: str, bits: int) -> str:
    number = int.from_bytes(hashlib.blake2b(project.encode(), digest_size=2).digest(), "big")
    return f"group-{number >> (_MAX_BITS - bits):0{bits}b}{_SUFFIX}" if bits else f"group-all{_SUFFIX}"


def _bits_of(name: str) -> int | None:
    told = name.removeprefix("group-").removesuffix(_SUFFIX)
    if not name.startswith("group-"):
        return None
    return 0 if told == "all" else len(told) if set(told) <= {"0", "1"} else None
