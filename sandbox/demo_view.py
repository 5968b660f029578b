"""What the demo shows while it runs: services, then tasks with the state of their remote job."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from sandbox.settings import Settings

STYLES = {"success": "green", "healthy": "green", "failed": "red", "upstream_failed": "red", "skipped": "magenta",
          "running": "yellow", "deferred": "cyan", "starting": "yellow"}  # fmt: skip


class View:
    """A rich renderable that keeps itself current; where the output is no terminal each change is one plain line."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._services: dict[str, str] = {}
        self._tasks: dict[str, tuple[str, str]] = {}
        self._said: list[str] = []

    def service(self, name: str, state: str) -> None:
        """A service changed its state."""
        if self._services.get(name) != state:
            self._services[name] = state
            self._plain(f"{name}: {state}")

    def task(self, task: Mapping[str, Any], remote: str) -> None:
        """A task instance as Airflow's API gives it, and its remote job's state."""
        shown = (task["state"] or "waiting", remote)
        if self._tasks.get(task["task_id"]) != shown:
            before = self._tasks.get(task["task_id"])
            self._tasks[task["task_id"]] = shown
            if before is None and shown[0] == "waiting":
                return
            self._plain(f"{task['task_id']}: {' · '.join(part for part in shown if part)}")

    def say(self, text: str) -> None:
        """Something that happened once."""
        self._said.append(f"{self._clock()} {text}")
        self._plain(text)

    def conclude(self, settings: Settings, outcome: Mapping[str, Any]) -> None:
        """Prints what came of it all and where to look."""
        table = Table(title="what happened", show_header=False)
        error = (
            f"{outcome['metric']:,.0f} US$ mean absolute error (a simple baseline: {outcome['baseline_metric']:,.0f})"
        )
        table.add_row("model", error)
        for result in outcome["results"]:
            table.add_row(f"  {result['experiment']}", f"{result['metric']} {result['value']:,.1f}: {result['reason']}")
        table.add_row("image", f"{outcome['tag']}\n{outcome['digest']}")
        table.add_row("deployed by", outcome["execution_url"])
        table.add_row("answer", f"{outcome['prediction']:,.0f} US$ (the seller asked {outcome['truth']:,.0f})")
        for page in ("airflow", "polyaxon", "kfp", "spinnaker"):
            table.add_row(page, settings.url(page) + ("/ui/" if page == "polyaxon" else "/"))
        self._console.print(table)

    def _plain(self, text: str) -> None:
        if not self._console.is_terminal:
            self._console.print(f"{self._clock()} {text}", highlight=False)

    def _clock(self) -> str:
        seconds = int(time.monotonic() - self._began)
        return f"{seconds // 60}:{seconds % 60:02d}"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not console.is_terminal:
            return
        services = Text(" ").join(
            Text(f"● {name}", STYLES.get(state.split(",")[0], "")) for name, state in self._services.items()
        )
        table = Table("task", "state", "remote job", box=None, padding=(0, 2))
        for name, (state, remote) in self._tasks.items():
            table.add_row(name, Text(state, STYLES.get(state, "dim")), remote)
        said = Text("\n".join(self._said[-4:]), "dim")
        yield Panel(Group(services, table, said), title=f"mlfleet demo {self._clock()}")
