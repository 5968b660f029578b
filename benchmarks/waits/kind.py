"""One kind of trigger in a world of its own, from its start to a mass end, in step with the other kinds.

Run by waiting.py: ``python -m waits.kind KIND ...``. It prints one line of JSON at each point where it waits for the
others, and goes on when it reads a line.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from waits import answers
from waits.processes import triggerer_cost
from waits.world import World, wait_for, world

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger

# Jobs that end each second while delays are measured.
PER_SECOND = 10.0
# Waits in one of several triggerers; a triggerer does not take more than its capacity.
PER_TRIGGERER, CAPACITY = 3500, 4000
# Seconds in which thousands of triggers must have started; they take two minutes when nothing else runs.
PATIENCE = 1200
ASKING = {"one request per trigger": ["kfp_get"], "the same, one session": ["kfp_get"], "KFP, shared": ["kfp_list", "kfp_get"],
          "Spinnaker, shared": ["executions", "execution_get", "search"]}  # fmt: skip
SLEEPING, ALONE, FRUGAL, KFP, SPINNAKER = "sleeping triggers", *ASKING
KINDS = (SLEEPING, ALONE, FRUGAL, KFP, SPINNAKER)
MANY = "many"
# What a task's log says of a job that runs.
FIRST_WORDS = {KFP: "is RUNNING", SPINNAKER: "is running"}
# Windows in which CPU is measured; each is half of `--seconds`, which should be several poll intervals.
WINDOWS = 7


@dataclass
class Row:
    """What one kind of trigger costs and how late it is.

    ``requests`` per poll interval; ``parent`` and ``child`` CPU of the triggerer and its child in seconds per minute,
    window after window; ``rss`` of both in MiB; ``delays`` in seconds, sorted.
    """

    requests: float = 0.0
    parent: list[float] = field(default_factory=list)
    child: list[float] = field(default_factory=list)
    server_cpu: float = 0.0
    rss: tuple[float, float] = (0.0, 0.0)
    delays: list[float] = field(default_factory=list)
    ramp: float = 0.0
    drain: float | None = None
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    ended: int = 0
    searching: float | None = None
    seconds: float | None = None
    database: str = ""
    bytes: dict[str, int] = field(default_factory=dict)

    @property
    def windows(self) -> list[float]:
        return [parent + child for parent, child in zip(self.parent, self.child, strict=True)]

    def delay(self, percent: int) -> float:
        return self.delays[math.ceil(len(self.delays) * percent / 100) - 1] if self.delays else math.nan


class Measurement:
    """One kind in one world."""

    def __init__(self, place: World, kind: str, options: argparse.Namespace) -> None:
        self.world, self.kind, self.options = place, kind, options
        self.row = Row()
        self._gate = place.home / "gate"
        self._http = httpx.Client(base_url=place.remote, trust_env=False, timeout=30)

    def tell(self, verb: str, **query: Any) -> dict[str, Any]:
        told: dict[str, Any] = self._http.get(f"/control/{verb}", params=query).raise_for_status().json()
        return told

    # What waits

    def trigger(self) -> Callable[[int], BaseTrigger]:
        """Makes the trigger of job N."""
        from mlfleet.triggers.kfp import KFPTrigger
        from mlfleet.triggers.spinnaker import SpinnakerTrigger
        from waits import triggers

        interval, remote, gate = self.options.interval, self.world.remote, self._gate

        def sleeping(number: int) -> BaseTrigger:
            return triggers.SleepingTrigger(answers.fill(answers.RUN_ID, number), str(gate))

        def alone(number: int) -> BaseTrigger:
            run_id = answers.fill(answers.RUN_ID, number)
            make = triggers.OneRequestTrigger if self.kind == ALONE else triggers.FrugalTrigger
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
                conn_id="spinnaker_default", job_id=self.job_id(number), deployment=deployment,
                poll_interval=interval, with_logs=False,
            )  # fmt: skip

        makers = {SLEEPING: sleeping, ALONE: alone, FRUGAL: alone, KFP: kfp, MANY: kfp, SPINNAKER: spinnaker}
        return makers[self.kind]

    def job_id(self, number: int) -> str:
        if self.kind == SPINNAKER:
            return answers.fill(f"{answers.REPOSITORY}:{answers.TAG}", number)
        return answers.fill(answers.RUN_ID, number)

    # Phases

    def run(self) -> None:
        jobs, kind, row = self.options.jobs, self.kind, self.row
        self._seed(jobs)
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
            in_step("waiting")
            self._steady(triggerer.pid)
            in_step("measured")
            if kind == SLEEPING:
                self._gate.touch()
                row.drain = self._drain(patience=self.options.seconds)
            elif kind != FRUGAL:
                self._ends()
                if kind == KFP:
                    self.tell("end", count=jobs)
                    row.drain = self._drain(patience=max(60.0, jobs / 10))
                self._check()

    def many(self) -> None:
        """More waits than one triggerer takes, in several; all end at once."""
        from waits import seeding

        count = self.options.jobs
        self._seed(count)
        with self.world.triggerers(math.ceil(count / PER_TRIGGERER), CAPACITY):
            began = time.monotonic()
            wait_for(lambda: self.tell("told")["asked"] == count, f"{count} jobs to be asked about", 2 * PATIENCE)
            self.tell("end", count=count)
            self._patiently(lambda: seeding.waiting() == 0, max(60.0, count / 20))
            self.row.seconds = time.monotonic() - began
            self._check()

    def _seed(self, jobs: int) -> None:
        from waits import seeding

        self.tell("reset", jobs=jobs, appeared=str(self.kind != SPINNAKER).lower())
        seeding.defer(jobs, self.trigger())

    def _search(self, jobs: int) -> None:
        """While no execution is there yet: requests per application and poll interval."""
        wait_for(lambda: self.tell("told")["searched"] == jobs, f"{jobs} jobs to be searched", PATIENCE)
        before = self.tell("told")["requests"]["search"]
        time.sleep(self.options.seconds / 2)
        asked = self.tell("appear")["requests"]["search"] - before
        applications = min(answers.GROUPS, jobs)
        self.row.searching = asked / applications / (self.options.seconds / 2) * self.options.interval

    def _all_told(self, word: str, jobs: int) -> None:
        """Ours say in each task's log how its job is, forty of them a second: that is the start, not the wait."""
        told: set[Path] = set()

        def all_told() -> bool:
            told.update(log for log in self.world.logs() if log not in told and word in log.read_text(errors="replace"))
            return len(told) == jobs

        wait_for(all_told, f"{jobs} logs to say {word!r}", PATIENCE, pause=2.0)

    def _steady(self, pid: int) -> None:
        """Nothing ends, everybody waits."""
        asked, since = self.tell("told"), time.monotonic()
        for _ in range(WINDOWS):
            before, began = triggerer_cost(pid), time.monotonic()
            time.sleep(self.options.seconds / 2)
            after, minutes = triggerer_cost(pid), (time.monotonic() - began) / 60
            self.row.parent.append((after.parent.cpu - before.parent.cpu) / minutes)
            self.row.child.append((after.child.cpu - before.child.cpu) / minutes)
        told, took, cost = self.tell("told"), time.monotonic() - since, triggerer_cost(pid)
        self.row.rss = (cost.parent.rss, cost.child.rss)
        self.row.server_cpu = (told["cpu_s"] - asked["cpu_s"]) / took * 60
        names = ASKING.get(self.kind, ())
        requests = sum(told["requests"].get(name, 0) - asked["requests"].get(name, 0) for name in names)
        self.row.requests = requests / (took / self.options.interval)

    def _ends(self) -> None:
        """Ten jobs end each second: from the end of each to its event in the database."""
        from waits import seeding

        count = min(self.options.jobs // 2, int(PER_SECOND * self.options.seconds))
        self.tell("end", count=count, per_second=PER_SECOND)
        time.sleep(count / PER_SECOND)
        jobs = self.options.jobs
        # Who has not come three intervals later is counted as lost by the check.
        self._patiently(lambda: seeding.waiting() <= jobs - count, 3 * self.options.interval + 30)
        ends = self.tell("told")["ends"]
        self.row.delays = sorted(
            event.at - ends[str(number)] for number, event in seeding.stored().items() if str(number) in ends
        )

    def _drain(self, patience: float) -> float:
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
            print(exc, file=sys.stderr)

    def _check(self) -> None:
        """Every ended job has one event of its own, and nobody else has one."""
        from waits import seeding

        time.sleep(2.0)
        ends = {int(number) for number in self.tell("told")["ends"]}
        events = seeding.stored()
        self.row.ended += len(ends)
        self.row.lost += len(ends - events.keys())
        self.row.wrong += len(events.keys() - ends)
        self.row.wrong += sum(event.job_id != self.job_id(number) for number, event in events.items())
        fired = [log.read_text(errors="replace").count("Trigger fired event") for log in self.world.logs()]
        self.row.doubled += sum(count - 1 for count in fired if count > 1)


def in_step(word: str) -> None:
    """Says how far this kind is, and waits for leave to go on."""
    print(json.dumps({"at": word}), flush=True)
    if not sys.stdin.readline():
        raise SystemExit("nobody is left to go on for")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=[*KINDS, MANY])
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--interval", type=float, required=True)
    options = parser.parse_args()
    # The default action would leave the processes of the world behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with world() as (place, database):
        measured = Measurement(place, options.kind, options)
        measured.row.database = database
        measured.many() if options.kind == MANY else measured.run()
        measured.row.bytes = measured.tell("told")["bytes"]
    print(json.dumps({"row": asdict(measured.row)}), flush=True)


if __name__ == "__main__":
    main()
