"""The last commit in which a project could be used: what stays in force while its manifest is broken.

Found in the history itself, so that the DAG processor and workers on other machines come to the same answer without
telling each other.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mlfleet.bundles.definition import Definition
from mlfleet.bundles.survey import Surroundings, examine
from mlfleet.errors import ConfigError, ManifestError
from mlfleet.manifest.loading import Repository

# Commits that touched the project, newest first, before the search is given up.
DEPTH = 50
_TIMEOUT = 120


@dataclass(frozen=True)
class History:
    """The commits of a git repository.

    ``store``   its git directory
    ``prefix``  folder of the commits' trees that holds ``include``; empty for the top
    """

    store: Path
    prefix: str = ""

    def last_good(self, commit: str, manifest: str, name: str | None) -> Definition | None:
        """The newest usable definition of the project at or before ``commit``; None when there is none.

        ``manifest`` is its path relative to the repository; a manifest that was renamed is not followed.
        Raises ConfigError when git cannot read the repository.
        """
        folder = f"include/pipelines/{name or Path(manifest).stem}"
        paths = [self._inside(path) for path in (manifest, folder, "include/environments", "include/defaults.yaml")]
        for touched in self._git("log", f"--max-count={DEPTH}", "--format=%H", commit, "--", *paths).split():
            found = self._at(touched, manifest)
            if found is not None:
                return found
        return None

    def _at(self, commit: str, manifest: str) -> Definition | None:
        with tempfile.TemporaryDirectory(prefix="mlfleet-history-") as folder:
            root = Path(folder, "tree")
            if not self._lay_out(commit, root):
                return None
            try:
                surroundings = Surroundings.of(Repository(root))
            except (ConfigError, ManifestError):
                return None
            definition = examine(root / manifest, surroundings).definition
        return definition._replace(commit=commit) if definition else None

    def _lay_out(self, commit: str, root: Path) -> bool:
        """Writes ``include`` as of the commit below ``root``; False when the commit has none."""
        # With an index of its own a bare repository writes files anywhere, and nothing of it is changed.
        apart = {"GIT_INDEX_FILE": str(root.parent / "index"), "GIT_WORK_TREE": str(root)}
        tree = f"{commit}:{self._inside('include')}"
        if not self._git("rev-parse", "--verify", "--quiet", tree, fails=True):
            return False
        root.mkdir()
        self._git("read-tree", "--prefix=include/", tree, environment=apart)
        self._git("checkout-index", "--all", f"--prefix={root}/", environment=apart)
        return True

    def _inside(self, path: str) -> str:
        return f"{self.prefix}/{path}" if self.prefix else path

    def _git(self, *words: str, environment: dict[str, str] | None = None, fails: bool = False) -> str:
        try:
            ran = subprocess.run(
                ["git", f"--git-dir={self.store}", *words],
                capture_output=True, text=True, timeout=_TIMEOUT, check=False,
                env={**os.environ, **(environment or {})},
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ConfigError(f"git {words[0]} did not run: {error}", str(self.store)) from error
        if ran.returncode and not fails:
            raise ConfigError(f"git {words[0]} failed: {ran.stderr.strip()}", str(self.store))
        return ran.stdout.strip()
