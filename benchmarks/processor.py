"""What a change, an unchanged fleet and a starting worker cost: the real DAG processor over a fleet of manifests.

Run with `make bench ARGS=processor`; `python benchmarks/processor.py --projects 100 --workers 200 --edits 5 --idle 20`
is the small one. A new Postgres where it and psycopg2 are installed, else SQLite. The machines are shared: CPU seconds
count, and waiting times are what a busy machine gives.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fleets import repository
from fleets.processor import SETTINGS, Database, Setup, cpu_of, environment, migrate, processor, wait
from waits.world import postgres_programs, running_postgres

# Projects a file, as the bundle has it by default.
KEPT = 1
DATABASE = "Postgres" if postgres_programs() else "SQLite"
BENCHMARKS = Path(__file__).resolve().parent


@dataclass
class Measured:
    """One setup. Seconds; ``idle`` is a fraction of one core, ``empty`` that of an Airflow without DAGs meanwhile."""

    setup: Setup
    full_pass: float = 0.0
    full_pass_cpu: float = 0.0
    idle: float = 0.0
    empty: float = 0.0
    edits: tuple[float, ...] = ()

    @property
    def p95(self) -> float:
        ordered = sorted(self.edits)
        return ordered[max(0, -(-len(ordered) * 95 // 100) - 1)]

    def __str__(self) -> str:
        return (
            f"{self.setup.source:6} {self.setup.layout:9} full pass {self.full_pass:6.1f} s ({self.full_pass_cpu:.0f} "
            f"CPU s)   idle {100 * self.idle:5.2f} % of a core (without DAGs {100 * self.empty:.2f} %)   "
            f"an edit is in the database after "
            f"{statistics.median(self.edits):.1f} s (median), {self.p95:.1f} s (p95 of {len(self.edits)})"
        )


def measure(setup: Setup, options: argparse.Namespace) -> Measured:
    """One Airflow from an empty database to its last edit."""
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mlfleet-processor-")))
        root = home / "repository"
        repository.make(root, options.projects)
        if setup.git:
            repository.commit(root, "first")
        pid, address = stack.enter_context(airflow(home, root, setup))
        began = time.monotonic()
        database = Database(address)
        stack.callback(database.close)
        found = Measured(setup)
        wait(lambda: database.dags() == options.projects, "all DAGs", 1800, 0.5)
        found.full_pass, found.full_pass_cpu = time.monotonic() - began, cpu_of(pid)
        with airflow(home / "empty", home / "empty" / "dags", None) as (empty, _):
            time.sleep(20)
            found.idle, found.empty = idle([pid, empty], options.idle)
        found.edits = tuple(edit(root, setup, database, number, options) for number in range(options.edits))
        if errors := database.errors():
            raise SystemExit(f"{errors} import errors; see {home}")
        return found


@contextlib.contextmanager
def airflow(home: Path, root: Path, setup: Setup | None) -> Iterator[tuple[int, str]]:
    """A DAG processor with a new database of its own: its pid and the database's address."""
    programs = postgres_programs()
    (home / "dags").mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(running_postgres(programs)) if programs else f"sqlite:///{home}/airflow.db"
        variables = environment(home, address, root, setup)
        migrate(variables, home / "migrate.log")
        yield stack.enter_context(processor(variables, home / "processor.log")), address


def idle(pids: Sequence[int], seconds: float) -> list[float]:
    """Each processor's share of one core while nothing changes."""
    before, began = [cpu_of(pid) for pid in pids], time.monotonic()
    time.sleep(seconds)
    return [(cpu_of(pid) - cpu) / (time.monotonic() - began) for pid, cpu in zip(pids, before, strict=True)]


def edit(root: Path, setup: Setup, database: Database, number: int, options: argparse.Namespace) -> float:
    """Seconds from the edit (or its commit) at any moment of the refresh interval to its tag in the database."""
    time.sleep(random.uniform(1, 1 + SETTINGS["REFRESH_INTERVAL"]))
    project, tag = number * 37 % options.projects, f"edit-{number}"
    repository.edit(root, project, tag)
    if setup.git:
        repository.commit(root, tag)
    return wait(lambda: database.tagged(repository.name_of(project), tag), f"edit {number}", 120)


FOUND = {
    "find_dag_ms": "forked",
    "find_dag_cold_ms": "cold",
    "find_dag_first_ms": "first",
    "find_dag_cold_first_ms": "cold_first",
}


def find_dag(setup: Setup, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Medians over new worker processes that look for their DAG among many, in milliseconds; by how they start.

    ``forked`` and ``cold`` find it laid out by an earlier task of the machine; ``first`` and ``cold_first`` are that one.
    """
    with tempfile.TemporaryDirectory(prefix="mlfleet-worker-") as folder:
        home, root = Path(folder), Path(folder, "repository")
        repository.make(root, options.workers)
        version = []
        if setup.git:
            repository.commit(root, "first")
            version = [repository.git(root, "rev-parse", "HEAD")]
        variables = environment(home, f"sqlite:///{home}/none.db", root, setup)
        rows: dict[str, list[dict[str, float]]] = {"first": [], "forked": [], "cold": [], "cold_first": []}
        # The first one of a git version clones it, which all others of the machine find done.
        for number in range(options.starts + 1):
            for when, found in rows.items():
                dag_id = repository.name_of((number * 397 + (when == "cold_first")) % options.workers)
                how = "cold" if when.startswith("cold") else "forked"
                ran = subprocess.run([sys.executable, "-m", "fleets.worker", how, dag_id, *version], cwd=BENCHMARKS,
                                     env={**os.environ, **variables}, capture_output=True, text=True, check=False)  # fmt: skip
                if ran.returncode:
                    raise SystemExit(ran.stderr[-3000:])
                found.append(json.loads(ran.stdout.splitlines()[-1]))
        return {when: {name: statistics.median(row[name] for row in found[1:]) for name in found[0]}
                for when, found in rows.items()}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--projects", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=5000, help="projects among which a worker finds its own")
    parser.add_argument("--edits", type=int, default=20)
    parser.add_argument("--idle", type=float, default=60, help="seconds")
    parser.add_argument("--starts", type=int, default=7, help="worker processes; 0 leaves them out")
    parser.add_argument("--setups", default="local:1,local:8,git:1,git:8", help="source:projects per file, ...")
    options = parser.parse_args()
    # Ended from outside it takes its servers with it, too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    print(f"{options.projects} projects of eleven tasks, refresh every {SETTINGS['REFRESH_INTERVAL']} s")
    results = []
    setups = [word.split(":") for word in options.setups.split(",") if word]
    for setup in [Setup(int(per_file), git=source == "git") for source, per_file in setups]:
        measured = measure(setup, options)
        results.append(measured)
        print(f"{DATABASE}: {measured}", flush=True)
    finding = {}
    for setup in (Setup(KEPT, git=False), Setup(KEPT, git=True)) if options.starts else ():
        finding[setup.source] = found = find_dag(setup, options)
        told = ", ".join(
            f"{when} {each['find_ms']:.1f} ms (own CPU {each['cpu_ms']:.1f})" for when, each in found.items()
        )
        print(f"{setup.source:6} a worker finds its DAG among {options.workers}: {told}", flush=True)
    rows = {layout: [each for each in results if each.setup.layout == layout] for layout in ("one_each", "grouped")}
    print(json.dumps({layout: _figures(found) for layout, found in rows.items() if found}))
    kept = Setup(KEPT, git=False).layout
    figures = _figures(rows[kept]) if rows[kept] else {}
    if finding:
        for name, when in FOUND.items():
            figures[name] = round(max(found[when]["find_ms"] for found in finding.values()), 1)
    print(json.dumps({**figures, "layout": kept, "projects": options.projects, "database": DATABASE}))


def _figures(rows: list[Measured]) -> dict[str, float | str]:
    """The worse of a local folder and git."""
    return {
        "edit_to_live_p95_s": round(max(row.p95 for row in rows), 2),
        "idle_cpu_fraction": round(max(row.idle for row in rows), 4),
        "idle_cpu_without_dags": round(max(row.empty for row in rows), 4),
        "full_pass_s": round(max(row.full_pass for row in rows), 1),
    }


if __name__ == "__main__":
    main()
