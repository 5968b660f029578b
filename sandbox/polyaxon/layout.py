"""Where the Polyaxon server and its agent keep what they keep, below one state directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
HAUPT_BIN = REPOSITORY / ".sandbox" / "polyaxon" / "bin"


@dataclass(frozen=True)
class Layout:
    """Folders of one Polyaxon (absolute paths); `data` is haupt's root: its database and the artifacts of all runs."""

    state: Path

    @property
    def home(self) -> Path:
        """A home directory that haupt may write its settings to instead of the user's."""
        return self.state / "home"

    @property
    def data(self) -> Path:
        """The `--path` of haupt: `.polyaxon/plx.db` and `<run uuid>/{plxlogs,events,outputs,assets}`."""
        return self.state / "data"

    @property
    def archives(self) -> Path:
        """Where haupt's streams copy files to before they serve them (by default a shared folder below /tmp)."""
        return self.state / "archives"

    @property
    def logs(self) -> Path:
        """Where haupt's processes keep a log each (by default /tmp/logs, which only its first user can write to)."""
        return self.state / "logs"

    @property
    def agent(self) -> Path:
        """The agent's journal."""
        return self.state / "agent"

    def run_data(self, uuid: str) -> Path:
        """The artifacts of one run, as the server's streams API looks for them."""
        return self.data / uuid
