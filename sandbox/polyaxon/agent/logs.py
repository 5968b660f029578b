"""The log of a run, as one JSON object per line where the server's streams API reads it, also while the run goes on.

A file name ending in .jsonl matters: the server reads .plx with a pandas option that no longer exists (reference page
polyaxon, section 3).
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

MAX_LINE = 16_384
AGENT = "polyaxon-agent"


class LogFile:
    """Appends a run's output line by line; bytes that are no UTF-8 are replaced, very long lines are cut."""

    def __init__(self, path: Path, pod: str, container: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._base = pod
        self._pod = pod
        self._container = container
        self._rest = b""
        self.last = ""

    def start_attempt(self, attempt: int, text: str) -> None:
        """Begin an attempt, which a cluster would give a pod of its own, with a line from the agent."""
        self._pod = f"{self._base}-{attempt}"
        self.last = ""
        # The server parses the file with pandas, which turns a column of nothing but numbers into numbers: a run that
        # prints only figures stays text because of this line.
        self.note(text)

    def note(self, text: str) -> None:
        """A line of the agent's own."""
        self._append([text], AGENT)

    def write(self, data: bytes) -> None:
        """Take output as it comes; what follows the last newline waits for the rest of its line."""
        *lines, self._rest = (self._rest + data).replace(b"\r\n", b"\n").split(b"\n")
        *full, self._rest = pieces(self._rest)
        self._append_output([piece for line in lines for piece in pieces(line)] + full)

    def flush(self) -> None:
        """Write down an unfinished last line."""
        if self._rest:
            self._append_output([self._rest])
            self._rest = b""

    def close(self) -> None:
        """Finish the file."""
        self.flush()
        os.close(self._file)

    def _append_output(self, lines: list[bytes]) -> None:
        # A progress bar redraws its line with \r: only its last state is worth a line.
        texts = [line.rpartition(b"\r")[2].decode(errors="replace") for line in lines]
        self._append(texts, self._container)
        self.last = next((text.strip()[:300] for text in reversed(texts) if text.strip()), self.last)

    def _append(self, texts: list[str], container: str) -> None:
        if not texts:
            return
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        fields = {"timestamp": now, "node": "localhost", "pod": self._pod, "container": container}
        # One write for whole lines: a reader never sees half a line.
        os.write(self._file, "".join(json.dumps(fields | {"value": text}) + "\n" for text in texts).encode())


def pieces(line: bytes) -> list[bytes]:
    """A line cut into parts of at most MAX_LINE bytes; at least one."""
    return [line[start : start + MAX_LINE] for start in range(0, len(line), MAX_LINE)] or [b""]
