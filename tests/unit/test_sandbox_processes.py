"""Which processes of a sandbox still run."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from sandbox import processes


def test_a_process_that_nobody_has_waited_for_has_ended(tmp_path: Path) -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE,
                               env={processes.MARK: str(tmp_path)})  # fmt: skip
    try:
        assert processes.live([sleeper.pid, 2**22 + 1]) == [sleeper.pid]
        assert processes.marked(tmp_path) == [sleeper.pid]
        sleeper.kill()
        deadline = time.monotonic() + 10
        while processes.live([sleeper.pid]):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert Path(f"/proc/{sleeper.pid}").exists()
        assert processes.marked(tmp_path) == []
    finally:
        sleeper.kill()
        sleeper.communicate()
