"""Thousands of deferred waits in one real triggerer: our shared poll beside one request per trigger, in one run.

Run with `make bench ARGS=waiting`; `--jobs 300 --seconds 20 --many 0` is the small one. Each kind has a triggerer, a
remote server of our own (waits/remote.py) and a new Postgres, where one is installed, for itself (waits/kind.py). The
machines are shared, and how much CPU the same work takes changes within minutes by a factor of three: so all kinds are
measured in the same windows, and all net of what as many sleeping triggers cost in the same window.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from waits.kind import ALONE, FRUGAL, KFP, KINDS, MANY, PER_TRIGGERER, SLEEPING, SPINNAKER, WINDOWS, Row

CONSOLE = Console(width=120)
HERE = Path(__file__).resolve().parent


class Kind:
    """The process of one kind; it waits for the others at two points."""

    def __init__(self, name: str, jobs: int, options: argparse.Namespace) -> None:
        self.name = name
        command = [sys.executable, "-m", "waits.kind", name, "--jobs", str(jobs),
                   "--seconds", str(options.seconds), "--interval", str(options.interval)]  # fmt: skip
        self._process = subprocess.Popen(command, cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def reaches(self, word: str) -> Any:
        """What it says under this word; raises SystemExit when it ends before."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            # Airflow logs there, too.
            found = json.loads(line) if line.startswith("{") else {}
            if word in found.values() or word in found:
                return found.get(word)
        raise SystemExit(f"{self.name}: ended with {self._process.wait()} before it was {word}")

    def go_on(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def end(self, patience: float = 0) -> None:
        """It takes its servers with it; whoever has said everything ends by itself."""
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            self._process.wait(60)


class Benchmark:
    """All kinds together."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.rows: dict[str, Row] = {}
        self.many: Row | None = None
        self._began = time.monotonic()

    def run(self) -> None:
        """One after the other they start, together they wait, one after the other they end."""
        kinds: list[Kind] = []
        try:
            for name in KINDS:
                self._say(f"{self.options.jobs} waits: {name}")
                kinds.append(Kind(name, self.options.jobs, self.options))
                kinds[-1].reaches("waiting")
            time.sleep(1.5 * self.options.interval)
            self._say(f"all wait: {WINDOWS} windows of {self.options.seconds / 2:g} s")
            for kind in kinds:
                kind.go_on()
            for kind in kinds:
                kind.reaches("measured")
            for kind in kinds:
                self._say(f"the end of: {kind.name}")
                kind.go_on()
                self.rows[kind.name] = row_of(kind.reaches("row"))
                kind.end(patience=60)
            if self.options.many:
                self._say(f"{self.options.many} waits in {math.ceil(self.options.many / PER_TRIGGERER)} triggerers")
                kinds.append(Kind(MANY, self.options.many, self.options))
                self.many = row_of(kinds[-1].reaches("row"))
                kinds[-1].end(patience=60)
        finally:
            for kind in kinds:
                kind.end()

    def _say(self, what: str) -> None:
        CONSOLE.print(f"[dim]{time.monotonic() - self._began:4.0f} s  {what} (load {os.getloadavg()[0]:.1f})[/dim]")

    # What is shown

    def net(self, kind: str) -> float:
        """CPU beyond that of the sleeping triggers, in seconds per minute: the median of the windows."""
        asleep = self.rows[SLEEPING].windows
        return statistics.median(
            max(0.0, mine - none) for mine, none in zip(self.rows[kind].windows, asleep, strict=True)
        )

    def ratio(self, kind: str, baseline: str = ALONE) -> float:
        """The net CPU of a kind over that of another one in the same window: the median of the windows."""
        asleep, mine, theirs = (self.rows[each].windows for each in (SLEEPING, kind, baseline))
        return statistics.median(
            max(0.0, one - none) / ((other - none) or math.nan)
            for one, other, none in zip(mine, theirs, asleep, strict=True)
        )

    def table(self) -> Table:
        table = Table(title=f"{self.options.jobs} waits in one triggerer, poll interval {self.options.interval:g} s")
        for name in ("", "requests\na round", "CPU s/min\nmedian", "min to max", f"net CPU,\nx {ALONE}",
                     "RSS MiB\npar. + child", "delay s\nmedian / p99", "drain\n1/s", "all asked\nafter s"):  # fmt: skip
            table.add_column(name, justify="left" if not name else "right")
        for kind, row in self.rows.items():
            delays = f"{statistics.median(row.delays):.1f} / {row.delay(99):.1f}" if row.delays else ""
            table.add_row(
                kind,
                f"{row.requests:.1f}",
                f"{statistics.median(row.windows):.1f}",
                f"{min(row.windows):.1f} to {max(row.windows):.1f}",
                "" if kind == SLEEPING else f"{self.net(kind):.1f}, {self.ratio(kind):.2f}",
                f"{row.rss[0]:.0f} + {row.rss[1]:.0f}",
                delays,
                f"{row.drain:.0f}" if row.drain else "",
                f"{row.ramp:.0f}",
            )
        return table

    def notes(self) -> str:
        size, spinnaker = self.rows[KFP].bytes, self.rows[SPINNAKER]
        server = max(row.server_cpu for row in self.rows.values()) / 60
        lines = [
            f"baseline: {ALONE}, as the providers' triggers do it, each with its own session (waits/triggers.py).",
            f"CPU is that of the triggerer and its child, median of {WINDOWS} windows; net is beyond {SLEEPING}.",
            f"A KFP run has {size['kfp']} bytes, an execution {size['spinnaker']} ({size['spinnaker_light']} without "
            f"contexts). A server was busy for {server:.0%} of a core at most.",
            f"Spinnaker, before executions appear: {spinnaker.searching or 0:.2f} searches per application and round.",
            f"Drain of the {SLEEPING} is Airflow's own rate; of {KFP}, the one after all jobs ended at once.",
        ]
        if self.many and self.many.seconds is not None:
            lines.append(f"{self.options.many} waits in {math.ceil(self.options.many / PER_TRIGGERER)} triggerers: "
                         f"started, all ended at once and stored in {self.many.seconds:.0f} s")  # fmt: skip
        return "\n".join(lines)

    def figures(self) -> dict[str, Any]:
        """The last line; of KFP and Spinnaker the worse figure stands for both."""
        ours = {"kfp": self.rows[KFP], "spinnaker": self.rows[SPINNAKER]}
        names = (("kfp", KFP), ("spinnaker", SPINNAKER))
        requests = {name: round(row.requests / self.options.jobs * 100, 3) for name, row in ours.items()}
        ratios = {name: round(self.ratio(kind), 3) for name, kind in names}
        frugal = {name: round(self.ratio(kind, FRUGAL), 3) for name, kind in names}
        delays = {name: round(row.delay(99), 2) for name, row in ours.items()}
        memory = {name: round(sum(row.rss)) for name, row in ours.items()}
        counted = [*self.rows.values(), *([self.many] if self.many else [])]
        return {
            "requests_per_100_jobs": max(requests.values()), "cpu_ratio": max(ratios.values()),
            "delay_p99_s": max(delays.values()), "poll_interval_s": self.options.interval,
            "rss_mib": max(memory.values()),
            **{name: sum(getattr(row, name) for row in counted) for name in ("lost", "doubled", "wrong", "ended")},
            "jobs": self.options.jobs, "many": self.options.many, "requests_per_100_jobs_of": requests,
            "cpu_ratio_of": ratios, "cpu_ratio_to_one_session_of": frugal, "delay_p99_s_of": delays,
            "rss_mib_of": memory, "searches_per_application": round(ours["spinnaker"].searching or 0.0, 2),
            "drain_per_s": {"airflow": _rounded(self.rows[SLEEPING].drain), "kfp": _rounded(self.rows[KFP].drain)},
            "database": self.rows[KFP].database, "seconds": round(time.monotonic() - self._began),
        }  # fmt: skip


def row_of(found: dict[str, Any]) -> Row:
    return Row(**{**found, "rss": tuple(found["rss"])})


def _rounded(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(value, 1)


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=3000, help="waits in one triggerer (default 3000)")
    parser.add_argument("--seconds", type=float, default=40.0, help="length of each measurement (default 40)")
    parser.add_argument("--interval", type=float, default=10.0, help="poll interval of all triggers (default 10)")
    parser.add_argument("--many", type=int, default=10_000, help="waits in several triggerers, 0 for none")
    return parser.parse_args(arguments)


def main() -> None:
    # The default action would leave the processes of the worlds behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    benchmark = Benchmark(parsed())
    benchmark.run()
    CONSOLE.print(benchmark.table())
    CONSOLE.print(benchmark.notes(), highlight=False)
    print(json.dumps(benchmark.figures()))


if __name__ == "__main__":
    main()
