"""Work for the children of a fork server in tests."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any


def work(given: Any) -> Any:
    """By the kind of what it gets: an answer of its length, an exception, or none at all."""
    match given:
        case str():
            return len(given)
        case float():
            time.sleep(given)
        case int():
            os.kill(os.getpid(), signal.SIGKILL)
        case Path():
            given.touch()
            return given.exists()
        case dict():
            return given["missing"]
    return (os.getpid(), os.getsid(0), os.environ.get("MLFLEET_TEST_MARK"))
