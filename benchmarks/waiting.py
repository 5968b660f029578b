"""Thousands of deferred waits in one real triggerer: our shared poll beside one request per trigger, in one run.

Run with `make bench ARGS=waiting`; `--jobs 300 --seconds 20 --many 0` is the small one. The remote server is one of our
own (waits/remote.py), the database a new Postgres where one is installed. The machines are shared, so CPU seconds
count, all net of what as many sleeping triggers cost in the same run.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from rich.console import Console
from rich.table import Table
from waits import answers
from waits.processes import TriggererCost, triggerer_cost
from waits.world import World, wait_for, world

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger

CONSOLE = Console(width=120)
PER_SECOND = 10.0
# Waits in one of several triggerers; a triggerer does not take more than its capacity.
PER_TRIGGERER, CAPACITY = 3500, 4000
# Seconds in which thousands of triggers must have started; they take two minutes when nothing else runs. With other work
# on the machine ten were not enough, probably because Airflow stores the page of each execution that has appeared.
PATIENCE = 1200
ASKING = {"one request per trigger": ["kfp_get"], "the same, one session": ["kfp_get"], "KFP, shared": ["kfp_list", "kfp_get"],
          "Spinnaker, shared": ["executions", "execution_get", "search"]}  # fmt: skip
SLEEPING, ALONE, FRUGAL, KFP, SPINNAKER = "sleeping triggers", *ASKING
# Windows in which CPU is measured, an odd number; each is half of `--seconds`, which should be several poll intervals.
WINDOWS = 5
# What a task's log says of a job that runs.
FIRST_WORDS = {KFP: "is RUNNING", SPINNAKER: "is running"}


@dataclass
class Row:
    """What one kind of trigger costs and how late it is. Requests per poll interval; CPU in seconds per minute.

    ``spread`` is the CPU of the least and of the most expensive window.
    """

    requests: float = 0.0
    parent_cpu: float = 0.0
    child_cpu: float = 0.0
    server_cpu: float = 0.0
    spread: tuple[float, float] = (0.0, 0.0)
    memory: TriggererCost | None = None
    delays: list[float] = field(default_factory=list)
    ramp: float = 0.0
    drain: float | None = None

    @property
    def cpu(self) -> float:
        return self.parent_cpu + self.child_cpu

    def delay(self, percent: int) -> float:
        ordered = sorted(self.delays)
        return ordered[math.ceil(len(ordered) * percent / 100) - 1] if ordered else math.nan


class Benchmark:
    """One world and everything that is measured in it."""

    def __init__(self, place: World, options: argparse.Namespace) -> None:
        self.world, self.options = place, options
        self.rows: dict[str, Row] = {}
        self.lost = self.doubled = self.wrong = self.ended = 0
        self.searching: float | None = None
        self.many_seconds: float | None = None
        self._began = time.monotonic()
        self._http = httpx.Client(base_url=place.remote, trust_env=False, timeout=30)

    def tell(self, verb: str, **query: Any) -> dict[str, Any]:
        told: dict[str, Any] = self._http.get(f"/control/{verb}", params=query).raise_for_status().json()
        return told

    # What waits

    def trigger(self, kind: str, gate: Path) -> Callable[[int], BaseTrigger]:
        """Makes the trigger of job N."""
        from waits import triggers

        from mlfleet.triggers.kfp import KFPTrigger
        from mlfleet.triggers.spinnaker import SpinnakerTrigger

        interval, remote = self.options.interval, self.world.remote

        def sleeping(number: int) -> BaseTrigger:
            return triggers.SleepingTrigger(answers.fill(answers.RUN_ID, number), str(gate))

        def alone(number: int) -> BaseTrigger:
            run_id = answers.fill(answers.RUN_ID, number)
            make = triggers.OneRequestTrigger if kind == ALONE else triggers.FrugalTrigger
            return make(run_id, f"{remote}/apis/v2beta1/runs/{run_id}", interval)

        def kfp(number: int) -> BaseTrigger:
            run_id = answers.fill(answers.RUN_ID, number)
            page = f"{remote}/#/runs/details/{run_id}"
            return KFPTrigger(conn_id="kfp_default", job_id=run_id, poll_interval=interval, with_logs=False, url=page)

        def spinnaker(number: int) -> BaseTrigger:
            deployment = {
                "application": answers.fill(answers.APPLICATION, number), "pipeline": answers.PIPELINE,
                "repository": answers.fill(answers.REPOSITORY, number), "tag": answers.fill(answers.TAG, number),
                "digest": answers.DIGEST, "since_ms": answers.BORN_MS, "start_timeout": 86_400.0,
            }  # fmt: skip
            return SpinnakerTrigger(
                conn_id="spinnaker_default", job_id=self.job_id(SPINNAKER, number), deployment=deployment,
                poll_interval=interval, with_logs=False,
            )  # fmt: skip

        return {SLEEPING: sleeping, ALONE: alone, FRUGAL: alone, KFP: kfp, SPINNAKER: spinnaker}[kind]

    def job_id(self, kind: str, number: int) -> str:
        if kind == SPINNAKER:
            return answers.fill(f"{answers.REPOSITORY}:{answers.TAG}", number)
        return answers.fill(answers.RUN_ID, number)

    # Phases

    def run(self, kind: str) -> None:
        """One kind of trigger from its start to a mass end."""

        row = self.rows[kind] = Row()
        gate = self.world.home / f"gate-{len(self.rows)}"
        jobs = self.options.jobs
        self._seed(kind, jobs, gate)
        with self.world.triggerers(1, max(CAPACITY, jobs)) as [triggerer]:
            began = time.monotonic()
            # Each trigger's first word opens a file.
            wait_for(
                lambda: sum(1 for _ in self.world.logs()) == jobs, f"{jobs} triggers to start", PATIENCE, pause=1.0
            )
            if kind == SPINNAKER:
                self._search(jobs)
            if kind != SLEEPING:
                wait_for(lambda: self.tell("told")["asked"] == jobs, f"{jobs} jobs to be asked about", PATIENCE)
            row.ramp = time.monotonic() - began
            if kind in FIRST_WORDS:
                self._all_told(FIRST_WORDS[kind], jobs)
            time.sleep(1.5 * self.options.interval)
            self._steady(kind, row, triggerer.pid)
            if kind == SLEEPING:
                gate.touch()
                row.drain = self._drain(jobs, patience=self.options.seconds)
                return
            if kind == FRUGAL:
                return
            self._ends(kind, row)
            if kind == KFP:
                row.drain = self._mass_end(jobs)
            self._check(kind)

    def _seed(self, kind: str, jobs: int, gate: Path) -> None:
        from waits import seeding

        CONSOLE.print(f"[dim]{time.monotonic() - self._began:4.0f} s  {jobs} waits: {kind}[/dim]")
        self.tell("reset", jobs=jobs, appeared=str(kind != SPINNAKER).lower())
        seeding.empty()
        seeding.defer(jobs, self.trigger(kind, gate))

    def _search(self, jobs: int) -> None:
        """While no execution is there yet: requests per application and poll interval."""
        wait_for(lambda: self.tell("told")["searched"] == jobs, f"{jobs} jobs to be searched", PATIENCE)
        before = self.tell("told")["requests"]["search"]
        time.sleep(self.options.seconds / 2)
        asked = self.tell("appear")["requests"]["search"] - before
        applications = min(answers.GROUPS, jobs)
        self.searching = asked / applications / (self.options.seconds / 2) * self.options.interval

    def _all_told(self, word: str, jobs: int) -> None:
        """Ours say in each task's log how its job is, forty of them a second: that is the start, not the wait."""
        told: set[Path] = set()

        def all_told() -> bool:
            told.update(log for log in self.world.logs() if log not in told and word in log.read_text(errors="replace"))
            return len(told) == jobs

        wait_for(all_told, f"{jobs} logs to say {word!r}", PATIENCE, pause=2.0)

    def _steady(self, kind: str, row: Row, pid: int) -> None:
        """Nothing ends, everybody waits: CPU is that of the median of some windows, for what else the machine does."""
        asked, since = self.tell("told"), time.monotonic()
        windows = sorted((self._window(pid) for _ in range(WINDOWS)), key=sum)
        told, took = self.tell("told"), time.monotonic() - since
        row.parent_cpu, row.child_cpu = windows[WINDOWS // 2]
        row.spread = (sum(windows[0]), sum(windows[-1]))
        row.server_cpu = (told["cpu_s"] - asked["cpu_s"]) / took * 60
        row.memory = triggerer_cost(pid)
        requests = sum(told["requests"].get(name, 0) - asked["requests"].get(name, 0) for name in ASKING.get(kind, ()))
        row.requests = requests / (took / self.options.interval)

    def _window(self, pid: int) -> tuple[float, float]:
        """CPU of the triggerer and of its child, in seconds per minute."""
        before, since = triggerer_cost(pid), time.monotonic()
        time.sleep(self.options.seconds / 2)
        after, minutes = triggerer_cost(pid), (time.monotonic() - since) / 60
        return (after.parent.cpu - before.parent.cpu) / minutes, (after.child.cpu - before.child.cpu) / minutes

    def _ends(self, kind: str, row: Row) -> None:
        """Ten jobs end each second: from the end of each to its event in the database."""
        from waits import seeding

        count = min(self.options.jobs // 2, int(PER_SECOND * self.options.seconds))
        self.tell("end", count=count, per_second=PER_SECOND)
        time.sleep(count / PER_SECOND)
        jobs = self.options.jobs
        # Who has not come three intervals later is counted as lost by the check.
        self._patiently(lambda: seeding.waiting() <= jobs - count, 3 * self.options.interval + 30)
        ends = self.tell("told")["ends"]
        row.delays = [event.at - ends[str(number)] for number, event in seeding.stored().items() if str(number) in ends]

    def _mass_end(self, jobs: int) -> float:
        self.tell("end", count=jobs)
        return self._drain(jobs, patience=max(60.0, jobs / 10))

    def _drain(self, jobs: int, patience: float) -> float:
        """Everybody that is left is due: events stored per second, from the first to the last one."""
        from waits import seeding

        since = time.time()
        self._patiently(lambda: seeding.waiting() == 0, patience)
        times = sorted(event.at for event in seeding.stored().values() if event.at >= since)
        return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 and times[-1] > times[0] else math.nan

    @staticmethod
    def _patiently(probe: Callable[[], object], patience: float) -> None:
        try:
            wait_for(probe, "events", patience, pause=1.0)
        except TimeoutError as exc:
            CONSOLE.print(f"[yellow]{exc}[/yellow]")

    def _check(self, kind: str) -> None:
        """Every ended job has one event of its own, and nobody else has one."""
        from waits import seeding

        time.sleep(2.0)
        ends = {int(number) for number in self.tell("told")["ends"]}
        events = seeding.stored()
        self.ended += len(ends)
        self.lost += len(ends - events.keys())
        self.wrong += len(events.keys() - ends)
        self.wrong += sum(event.job_id != self.job_id(kind, number) for number, event in events.items())
        fired = [log.read_text(errors="replace").count("Trigger fired event") for log in self.world.logs()]
        self.doubled += sum(count - 1 for count in fired if count > 1)

    def many(self, count: int) -> None:
        """More waits than one triggerer takes, in several; all end at once."""
        from waits import seeding

        self._seed(KFP, count, self.world.home / "gate")
        with self.world.triggerers(math.ceil(count / PER_TRIGGERER), CAPACITY):
            began = time.monotonic()
            wait_for(lambda: self.tell("told")["asked"] == count, f"{count} jobs to be asked about", 2 * PATIENCE)
            self.tell("end", count=count)
            self._patiently(lambda: seeding.waiting() == 0, max(60.0, count / 20))
            self.many_seconds = time.monotonic() - began
            self._check(KFP)

    # What is shown

    def net(self, kind: str) -> float:
        return max(0.0, self.rows[kind].cpu - self.rows[SLEEPING].cpu)

    def ratio(self, kind: str, baseline: str = ALONE) -> float:
        return self.net(kind) / (self.net(baseline) or math.nan)

    def table(self) -> Table:
        table = Table(title=f"{self.options.jobs} waits in one triggerer, poll interval {self.options.interval:g} s")
        for name in ("", "requests\na round", "CPU s/min\nparent + child", "CPU s/min\nmin to max", "net CPU,\nx baseline", "RSS MiB\npar. + child",
                     "delay s\nmedian / p99", "drain\n1/s", "all asked\nafter s"):  # fmt: skip
            table.add_column(name, justify="left" if not name else "right")
        for kind, row in self.rows.items():
            memory = row.memory
            delays = f"{statistics.median(row.delays):.1f} / {row.delay(99):.1f}" if row.delays else ""
            table.add_row(
                kind,
                f"{row.requests:.1f}",
                f"{row.parent_cpu:.1f} + {row.child_cpu:.1f}",
                f"{row.spread[0]:.1f} to {row.spread[1]:.1f}",
                "" if kind == SLEEPING else f"{self.net(kind):.1f}, {self.ratio(kind):.2f}",
                f"{memory.parent.rss:.0f} + {memory.child.rss:.0f}" if memory else "",
                delays,
                f"{row.drain:.0f}" if row.drain else "",
                f"{row.ramp:.0f}",
            )
        return table

    def figures(self) -> dict[str, Any]:
        """The last line; of KFP and Spinnaker the worse figure stands for both."""
        ours = {"kfp": self.rows[KFP], "spinnaker": self.rows[SPINNAKER]}
        hundreds = self.options.jobs / 100
        requests = {name: round(row.requests / hundreds, 3) for name, row in ours.items()}
        names = (("kfp", KFP), ("spinnaker", SPINNAKER))
        ratios = {name: round(self.ratio(kind), 3) for name, kind in names}
        frugal = {name: round(self.ratio(kind, FRUGAL), 3) for name, kind in names}
        delays = {name: round(row.delay(99), 2) for name, row in ours.items()}
        memory = {name: round(row.memory.rss) for name, row in ours.items() if row.memory}
        return {
            "requests_per_100_jobs": max(requests.values()), "cpu_ratio": max(ratios.values()),
            "delay_p99_s": max(delays.values()), "poll_interval_s": self.options.interval,
            "rss_mib": max(memory.values()), "lost": self.lost, "doubled": self.doubled, "wrong": self.wrong,
            "ended": self.ended, "jobs": self.options.jobs, "many": self.options.many,
            "requests_per_100_jobs_of": requests, "cpu_ratio_of": ratios, "cpu_ratio_to_one_session_of": frugal,
            "delay_p99_s_of": delays, "rss_mib_of": memory,
            "searches_per_application": round(self.searching or 0.0, 2),
            "drain_per_s": {"airflow": _rounded(self.rows[SLEEPING].drain), "kfp": _rounded(self.rows[KFP].drain)},
        }  # fmt: skip


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
    options = parsed()
    # The default action would leave the processes of the world behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.monotonic()
    with world() as (place, database):
        benchmark = Benchmark(place, options)
        CONSOLE.print(f"{database}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; ready after "
                      f"{time.monotonic() - began:.0f} s")  # fmt: skip
        for kind in (SLEEPING, ALONE, FRUGAL, KFP, SPINNAKER):
            benchmark.run(kind)
        if options.many:
            benchmark.many(options.many)
        size = benchmark.tell("told")["bytes"]
    CONSOLE.print(benchmark.table())
    server = max(row.server_cpu for row in benchmark.rows.values()) / 60
    CONSOLE.print(
        f"baseline: {ALONE}, as the providers' triggers do it, each with its own session (waits/triggers.py).\n"
        f"CPU is that of the median of {WINDOWS} windows of {options.seconds / 2:g} s; net is beyond that of the {SLEEPING}.\n"
        f"A KFP run has {size['kfp']} bytes, an execution {size['spinnaker']} ({size['spinnaker_light']} without "
        f"contexts). The server was busy for {server:.0%} of a core at most.\n"
        f"Spinnaker, before executions appear: {benchmark.searching:.2f} searches per application and round.\n"
        f"Drain of the {SLEEPING} is Airflow's own rate; of {KFP}, the one after all jobs ended at once."
    )
    if benchmark.many_seconds is not None:
        CONSOLE.print(f"{options.many} waits in {math.ceil(options.many / PER_TRIGGERER)} triggerers: started, all "
                      f"ended at once and stored in {benchmark.many_seconds:.0f} s")  # fmt: skip
    figures = {**benchmark.figures(), "database": database, "seconds": round(time.monotonic() - began)}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
