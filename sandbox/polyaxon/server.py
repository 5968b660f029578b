"""Run the real Polyaxon CE server in the foreground, with the settings that make it usable on SQLite and loopback.

The process becomes haupt itself (exec), so that whoever started it holds the server's pid.
Source of the settings: reference page polyaxon, section 1.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from sandbox.polyaxon.layout import HAUPT_BIN, Layout

HOST = "127.0.0.1"
MAX_CONCURRENCY = 8


def environment(layout: Layout, base: Mapping[str, str], max_concurrency: int = MAX_CONCURRENCY) -> dict[str, str]:
    """The environment haupt needs; POLYAXON_* of the caller is dropped, it would point the server elsewhere."""
    kept = {key: value for key, value in base.items() if not key.startswith("POLYAXON_") and key != "PYTHONPATH"}
    no_proxy = ",".join(filter(None, [base.get("NO_PROXY") or base.get("no_proxy"), HOST, "localhost"]))
    return kept | {
        "HOME": str(layout.home),
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
        "POLYAXON_MAX_CONCURRENCY": str(max_concurrency),
        # Both are needed for a page that works: static files with one worker, and React from here instead of a CDN.
        "POLYAXON_UI_IN_SANDBOX": "true",
        "POLYAXON_UI_OFFLINE": "true",
        "POLYAXON_ARCHIVES_ROOT": str(layout.archives),
        "POLYAXON_LOG_ROOT": str(layout.logs),
        "POLYAXON_DISABLE_ERRORS_REPORTING": "true",
        # Without these SQLite loses two thirds of parallel writes and answers 405 to them.
        "POLYAXON_DB_OPTIONS": json.dumps({"timeout": 30, "transaction_mode": "IMMEDIATE"}),
    }


def refusal(port: int, bin_dir: Path) -> str | None:
    """Why the server can't start here, in one sentence with the next step; None when it can."""
    haupt = bin_dir / "haupt"
    if not os.access(haupt, os.X_OK):
        return f"the Polyaxon server is not installed at {haupt}; run `make setup`"
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            return (
                f"can't listen on {HOST}:{port} ({error.strerror}); stop what uses the port "
                "or choose another one with --port (MLFLEET_POLYAXON_PORT)"
            )
    return None


def become_haupt(options: argparse.Namespace, layout: Layout) -> NoReturn:
    """Replace this process by haupt."""
    haupt = str(options.bin / "haupt")
    serve = ["sandbox", "start", "--host", HOST, "--port", str(options.port), "--workers", "1"]
    serve += ["--path", str(layout.data)]
    os.chdir(layout.state)
    os.execve(haupt, [haupt, *serve], environment(layout, os.environ, options.max_concurrency))


def main(argv: Sequence[str] | None = None) -> int:
    """Run haupt in the place of this process; returns 2 with a sentence on stderr when that can't work."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.polyaxon.server", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--state", type=Path, required=True, help="folder for the database and the runs' artifacts")
    parser.add_argument("--bin", type=Path, default=HAUPT_BIN, help="bin folder of the environment that has haupt")
    parser.add_argument(
        "--max-concurrency",
        type=int,
        default=MAX_CONCURRENCY,
        help="runs at a time; haupt counts running tunings, too: as many tunings as this at once block each other",
    )
    options = parser.parse_args(argv)
    layout = Layout(options.state.absolute())
    reason = refusal(options.port, options.bin)
    if reason:
        print(f"polyaxon server: {reason}", file=sys.stderr)
        return 2
    for folder in (layout.home, layout.data, layout.archives, layout.logs):
        folder.mkdir(parents=True, exist_ok=True)
    become_haupt(options, layout)


if __name__ == "__main__":
    sys.exit(main())
