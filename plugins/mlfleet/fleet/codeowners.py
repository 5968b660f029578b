"""``.github/CODEOWNERS`` from the owners in the manifests.

The lines between two markers are mlfleet's, all others are somebody's and stay as they are. GitHub takes the last line
that fits a file, so rules for everything belong above the block, and exceptions below it (its docs: about code owners).
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mlfleet.errors import ConfigError, ManifestError
from mlfleet.fleet.git import Git
from mlfleet.manifest.diagnostics import Diagnostic, errors
from mlfleet.manifest.document import at
from mlfleet.manifest.environments import environment_names
from mlfleet.manifest.loading import Fleet, Loaded, Repository, load_fleet
from mlfleet.manifest.naming import selected_name

FILE = ".github/CODEOWNERS"
BEGIN = "# BEGIN mlfleet: from the manifests' owners, written by `mlfleet codeowners`"
END = "# END mlfleet"
# GitHub reads the first of these that exists, and ignores a file of 3 MB or more (its docs: CODEOWNERS file size).
_ELSEWHERE = ("CODEOWNERS", "docs/CODEOWNERS")
_MAX_BYTES = 3 * 1024 * 1024
# GitHub's rule for the names of users and organisations, and what the slug of a team consists of.
_OWNER = re.compile(r"@(?!.*--)[A-Za-z0-9][A-Za-z0-9-]{0,38}(/[A-Za-z0-9_.-]{1,255})?")
# What a pattern of the file cannot say, even escaped.
_UNSAYABLE = re.compile(r"[\[\]*?\\!#\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Rule:
    """A path from the top of the git repository, with a leading ``/``, and who answers for it."""

    path: str
    owners: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join((self.path.replace(" ", "\\ "), *self.owners))


@dataclass(frozen=True)
class Ownership:
    """The file as it is (None when there is none) and as it should be."""

    path: Path
    shown: str
    present: str | None
    wanted: str

    @property
    def is_stale(self) -> bool:
        """Whether it must be written."""
        return self.present != self.wanted

    def difference(self) -> str:
        """A unified diff from what is to what should be; "" when there is none."""
        before = (self.present or "").splitlines(keepends=True)
        name = self.shown if self.present is not None else "/dev/null"
        return "".join(_ended(difflib.unified_diff(before, self.wanted.splitlines(keepends=True), name, self.shown)))

    def write(self) -> None:
        """Puts the wanted text in place at once: whoever reads meanwhile sees the old file or the new one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        target = self.path.resolve()
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            temporary.write_text(self.wanted, encoding="utf-8", newline="")
            if target.exists():
                temporary.chmod(target.stat().st_mode & 0o777)
            os.replace(temporary, target)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise ConfigError(f"{self.shown} cannot be written: {error.strerror or error}") from error


def ownership(repository: Repository) -> Ownership:
    """What the manifests make of the file.

    An owner of one environment's target owns the project everywhere: files are the same in all environments. A manifest
    with errors keeps its owners, as far as they and its name can be read. Raises ManifestError where they cannot, and
    ConfigError when the file cannot be changed safely.
    """
    git = Git.around(repository.root)
    top, prefix = (git.top, git.prefix) if git else (repository.root, "")
    path = top / FILE
    for other in _ELSEWHERE:
        if (top / other).is_file() and not path.exists():
            raise ConfigError(f"the owners stand in {other}, which GitHub no longer reads once there is a {FILE}", "",
                              f"Move it: git mv {other} {FILE}")  # fmt: skip
    present = _read(path)
    wanted = _with_block(present or "", rules(repository, prefix))
    if len(wanted.encode()) >= _MAX_BYTES:
        raise ConfigError(f"{FILE} would have {len(wanted.encode())} bytes, and GitHub ignores one of 3 MB", "",
                          "Name teams instead of many users")  # fmt: skip
    return Ownership(path, FILE, present, wanted)


def rules(repository: Repository, prefix: str = "") -> list[Rule]:
    """A rule for each manifest and, after these, one for each project's folder. Raises ManifestError."""
    names = environment_names(repository.environments) or [selected_name()]
    fleets = [load_fleet(repository, environment=name) for name in names]
    faults = [fault for fleet in fleets for fault in _faults(fleet)]
    if faults:
        raise ManifestError(list(dict.fromkeys(faults)))
    manifests, folders = [], []
    for entries in zip(*(fleet.manifests for fleet in fleets), strict=True):
        owners = tuple(dict.fromkeys(owner for loaded in entries for _, owner in _owners(loaded)))
        project = at(entries[0].document.data, "name")
        manifests.append(Rule(f"/{prefix}{entries[0].document.file}", owners))
        folders.append(Rule(f"/{prefix}include/pipelines/{project}/", owners))
    return [*sorted(manifests, key=lambda rule: rule.path), *sorted(folders, key=lambda rule: rule.path)]


def _owners(loaded: Loaded) -> Iterator[tuple[int, str]]:
    """Position and name, with the ``@`` that a manifest need not write."""
    listed = at(loaded.document.data, "owners")
    for index, owner in enumerate(listed if isinstance(listed, list) else ()):
        name = at(owner, "github")
        if isinstance(name, str):
            yield index, f"@{name.removeprefix('@')}"


def _faults(fleet: Fleet) -> Iterator[Diagnostic]:
    """Why owners or paths cannot be told, one finding each."""
    for loaded in fleet.manifests:
        document = loaded.document
        told = {found.path for found in errors(document.diagnostics)}
        for index, owner in _owners(loaded):
            place = ("owners", index, "github")
            if not _OWNER.fullmatch(owner) and document.written(place) not in told:
                document.report("MF012", place, f"{owner!r} cannot be a GitHub user or team",
                                "a user has letters, digits and single hyphens, at most 39")  # fmt: skip
        if _UNSAYABLE.search(document.file):
            document.report("MF018", (), f"{FILE} has no way to write the name of this file",
                            "rename it to letters, digits and hyphens")  # fmt: skip
        for found in errors(document.diagnostics):
            if document.data is None or found.id == "MF018" or found.path.startswith(("owners", "name")):
                yield found


def _with_block(text: str, wanted: Iterable[Rule]) -> str:
    """The text with the rules between its markers; without markers the block becomes its end."""
    end = "\r\n" if "\r\n" in text else "\n"
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n") if text else []
    block = [BEGIN, *map(str, wanted), END]
    begins = [number for number, line in enumerate(lines) if line.startswith("# BEGIN mlfleet")]
    ends = [number for number, line in enumerate(lines) if line.startswith(END)]
    if not begins and not ends:
        above = [*lines, ""] if lines and lines[-1].strip() else lines
        return end.join([*above, *block, ""])
    if len(begins) != 1 or len(ends) != 1 or begins[0] > ends[0]:
        places = ", ".join(str(number + 1) for number in sorted([*begins, *ends]))
        raise ConfigError(f"the markers of mlfleet's block in {FILE} do not make one pair (lines {places})", "",
                          "Delete the marker lines and what mlfleet wrote between them, then run it again")  # fmt: skip
    return end.join([*lines[: begins[0]], *block, *lines[ends[0] + 1 :], ""])


def _read(path: Path) -> str | None:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{FILE} cannot be read: {error}", "", "Save it as UTF-8") from error


def _ended(lines: Iterable[str]) -> Iterator[str]:
    """Each line with an end, as `diff` shows a file that lacks its last one."""
    for line in lines:
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
