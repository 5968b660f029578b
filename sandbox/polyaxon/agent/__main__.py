"""`python -m sandbox.polyaxon.agent`: run the agent in the foreground until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from sandbox.polyaxon.agent.api import AgentApi
from sandbox.polyaxon.agent.journal import Journal
from sandbox.polyaxon.agent.loop import Agent, Rhythm
from sandbox.polyaxon.agent.workspace import Workspace
from sandbox.polyaxon.layout import Layout


def main(argv: Sequence[str] | None = None) -> int:
    """Run the agent; returns 2 with a sentence on stderr when there already is one for this state folder."""
    options = _parser().parse_args(argv)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO, stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    layout = Layout(options.state.absolute())
    journal = Journal(layout.agent / "runs")
    # Two agents would each get half of the runs. The lock ends with the process, however that ends.
    lock = os.open(layout.agent / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"polyaxon agent: another agent already works on {layout.state}; stop it first", file=sys.stderr)
        return 2
    bin_dir = options.python_path.absolute() if options.python_path else None
    workspace = Workspace(url=options.url, data=layout.data, bin=bin_dir, grace=options.grace)
    api = AgentApi(options.url)
    agent = Agent(api, journal, workspace, Rhythm(reconcile=options.reconcile))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: agent.ended.set())
    logging.info("agent of %s, state in %s", options.url, layout.state)
    agent.loop()
    agent.shut_down(options.keep_runs)
    api.close()
    logging.info("agent ended")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sandbox.polyaxon.agent", description=__doc__)
    parser.add_argument("--url", required=True, help="the server, for example http://127.0.0.1:28000")
    parser.add_argument("--state", type=Path, required=True, help="the state folder that the server was given")
    parser.add_argument("--python-path", type=Path, help="bin folder that comes first on the PATH of the runs")
    parser.add_argument("--grace", type=float, default=5.0, help="seconds between SIGTERM and SIGKILL for a run")
    parser.add_argument("--reconcile", type=float, default=15.0, help="seconds between comparisons with the server")
    parser.add_argument("--keep-runs", action="store_true", help="on SIGTERM leave the runs to the next agent")
    return parser


if __name__ == "__main__":
    sys.exit(main())
