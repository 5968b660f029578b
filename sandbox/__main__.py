"""``python -m sandbox up | down | status``: the outside world of mlfleet on this machine, on loopback only."""

from __future__ import annotations

import argparse
import sys

from rich.console import Console
from rich.table import Table

from sandbox.bring_up import Sandbox
from sandbox.settings import SandboxError, Settings


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; 0 done, 1 a fault that is explained on standard error."""
    parser = argparse.ArgumentParser(prog="sandbox", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up", help="start everything and wait until it is healthy")
    up.add_argument("--airflow", action="store_true", help="with an Airflow of its own")
    down = verbs.add_parser("down", help="end everything and delete its state")
    down.add_argument("--keep-state", action="store_true", help="end the processes only")
    verbs.add_parser("status", help="a line for each service")
    options = parser.parse_args(arguments)
    console = Console()
    try:
        settings = Settings.from_environment()
        if options.verb == "up":
            sandbox = Sandbox(settings, with_airflow=options.airflow)
            sandbox.up(lambda name, state: console.print(f"  {name:<24}{state}"))
            console.print(table(sandbox))
        elif options.verb == "down":
            killed = Sandbox(settings, with_airflow=True).down(options.keep_state)
            console.print(f"down{f'; ended singly: {killed}' if killed else ''}")
        else:
            console.print(table(Sandbox(settings, with_airflow=True)))
    except SandboxError as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 1
    return 0


def table(sandbox: Sandbox) -> Table:
    """The status table: service, state, process, port, page; narrow enough for a terminal of 80 columns."""
    logs = sandbox.settings.log("<service>")
    shown = Table("service", "state", "pid", "port", "page", box=None, padding=(0, 1), caption=f"logs: {logs}")
    for line in sandbox.supervisor.status(sandbox.services()):
        service = line.service
        state = {True: "healthy", False: f"{line.state}, not healthy", None: line.state}[line.healthy]
        port = ", ".join(str(sandbox.settings.ports[name]) for name in service.ports)
        shown.add_row(service.name, state, str(line.pid or ""), port, service.page or "")
    return shown


if __name__ == "__main__":
    sys.exit(main())
