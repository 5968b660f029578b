"""The folders and files a run finds when it starts: a /plx-context of its own, on this machine's file system.

In a pod /plx-context is a volume of that pod alone. Here it is a folder of the run, and every mention of /plx-context
in command, arguments, environment and init files is rewritten to it; only the run's own artifacts are shared with the
server.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox.polyaxon.agent.content import CONTEXT, Container, InitFile, UnsupportedContent, expand
from sandbox.polyaxon.agent.journal import Process, Run, RunFolder

_CONTEXT = re.compile(re.escape(CONTEXT) + r"(?![\w-])")
_FOLDERS = ("plxlogs", "outputs", "events", "assets")
# Variables of the agent's own Python or of another Polyaxon would mislead the run.
_DROPPED = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE")


@dataclass(frozen=True)
class Workspace:
    """How runs are set up: server URL for the SDK, `data` (artifacts of all runs), `bin` first on the search path."""

    url: str
    data: Path
    bin: Path | None
    grace: float

    def prepare(self, folder: RunFolder, run: Run, container: Container, base: Mapping[str, str]) -> Process:
        """Make folders and init files, and say what to execute.

        Raises UnsupportedContent when a file or working directory lies where a local process has nothing to say.
        """
        artifacts = self._make_folders(folder, run.uuid)
        for file in container.files:
            self._write(file, folder.context, self.data / run.uuid)
        environment = self._environment(folder, run, container, base)
        words = [expand(word, environment) for word in container.command + container.args]
        return Process(
            argv=[localise(word, folder.context) for word in words],
            environment=environment,
            directory=str(self._directory(container.working_dir, folder.context, artifacts)),
            log=str(self.data / run.uuid / "plxlogs" / f"{run.uuid}.jsonl"),
            container=container.name,
            max_retries=container.max_retries,
            timeout=container.timeout,
            grace=self.grace,
        )

    def _make_folders(self, folder: RunFolder, uuid: str) -> Path:
        for name in _FOLDERS:
            (self.data / uuid / name).mkdir(parents=True, exist_ok=True)
        artifacts = folder.context / "artifacts"
        artifacts.mkdir(parents=True, exist_ok=True)
        link = artifacts / uuid
        if not link.is_symlink():
            link.symlink_to(self.data / uuid, target_is_directory=True)
        return artifacts

    def _write(self, file: InitFile, context: Path, run_data: Path) -> None:
        """Write an init file and, as Polyaxon's initialiser does, a copy among the run's outputs."""
        path = Path(os.path.normpath(localise(file.path, context)))
        if context not in path.parents:
            raise UnsupportedContent(f"The init file {file.path} does not lie below {CONTEXT}.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(localise(file.content, context))
        if file.mode:
            subprocess.run(["chmod", "--", file.mode, path], check=True)
        copy = run_data / "outputs" / path.name
        if path.resolve() != copy.resolve():
            shutil.copy2(path, copy)

    def _environment(
        self, folder: RunFolder, run: Run, container: Container, base: Mapping[str, str]
    ) -> dict[str, str]:
        environment = {
            key: value for key, value in base.items() if not key.startswith("POLYAXON_") and key not in _DROPPED
        }
        if self.bin:
            environment["PATH"] = f"{self.bin}:{base.get('PATH', os.defpath)}"
        environment |= {
            "POLYAXON_HOST": self.url,
            "POLYAXON_RUN_INSTANCE": run.instance,
            "POLYAXON_IS_MANAGED": "true",
            "POLYAXON_COLLECT_ARTIFACTS": "true",
            "POLYAXON_CONTEXT_ROOT": str(folder.context),
            "POLYAXON_HOME": str(folder.context / ".home"),  # where the SDK would look for the settings of a person
            "PYTHONUNBUFFERED": "1",  # or a log that is read live would stand still
        }
        own = {name: localise(value, folder.context) for name, value in container.env.items()}
        # The run is found again by this variable: it can't be another one.
        return environment | own | {"POLYAXON_RUN_INSTANCE": run.instance}

    @staticmethod
    def _directory(wanted: str | None, context: Path, artifacts: Path) -> Path:
        """The working directory; without one (an image would have its own) the place where init files land."""
        if not wanted:
            return artifacts
        directory = Path(os.path.normpath(artifacts / localise(wanted, context)))
        if context in (directory, *directory.parents):
            directory.mkdir(parents=True, exist_ok=True)
        elif not directory.is_dir():
            raise UnsupportedContent(f"The working directory {wanted} does not exist on this machine.")
        return directory


def localise(text: str, context: Path) -> str:
    """`text` with /plx-context replaced by the run's own folder."""
    return _CONTEXT.sub(lambda _: str(context), text)
