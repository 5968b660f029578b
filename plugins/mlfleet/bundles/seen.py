"""What a worker has read to lay a project out from a folder without versions, so that the next one need not read it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from mlfleet import __version__
from mlfleet.bundles.definition import Definition, fingerprint

_NAME = ".seen"


class Seen:
    """The fingerprint of all that a definition depends on, beside the file that holds it.

    ``folder``  where the worker lays its project out
    ``root``    the repository

    Not safe against another writer: callers hold the bundle's lock.
    """

    def __init__(self, folder: Path, root: Path) -> None:
        self._path, self._root = folder / _NAME, root
        self._looked = ""

    def still(self, definition: Definition) -> bool:
        """Whether everything is as it was when this definition was made; not known means no."""
        self.look(definition.name, definition.manifest)
        try:
            return self._path.read_text(encoding="utf-8") == self._looked
        except (OSError, UnicodeDecodeError):
            return False

    def look(self, project: str, manifest: str) -> None:
        """Before the reading: what is written meanwhile is another fingerprint."""
        include = self._root / "include"
        found = fingerprint(self._root / manifest, include / "pipelines" / project, include / "environments",
                            include / "defaults.yaml", include / "defaults.yml")  # fmt: skip
        self._looked = f"{__version__} {manifest} {found}"

    def forget(self) -> None:
        """What was read gave no definition of its own: the next one has to read it again."""
        self._looked = ""

    def keep(self) -> None:
        """After the definition is in place."""
        if not self._looked:
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()
            return
        temporary = self._path.with_name(f"{_NAME}.{os.getpid()}.tmp")
        temporary.write_text(self._looked, encoding="utf-8")
        os.replace(temporary, self._path)
