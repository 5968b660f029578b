"""``make demo``: one project manifest becomes a DAG, a trained model, an image, a release, a deployment and an answer.

Ends by itself with exit code 0 only if every step really happened and no process is left; its last line is one JSON
object. ``--stay`` keeps everything up until Ctrl-C.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.live import Live

from sandbox import processes
from sandbox.airflow import AirflowAPI
from sandbox.bring_up import Sandbox
from sandbox.demo_view import View
from sandbox.settings import SandboxError, Settings

PROJECT = "price-suggestion"
PARSE_SECONDS = 90
RUN_SECONDS = 420
FINISHED = {"success", "failed", "skipped", "upstream_failed", "removed"}


@dataclass
class Outcome:
    """What the demo found: each value is read from the system that knows it, never assumed."""

    tag: str
    digest: str
    metric: float
    baseline_metric: float
    prediction: float
    truth: float
    execution_url: str
    results: list[dict[str, Any]] = field(default_factory=list)


class MemoryWatch(threading.Thread):
    """Samples the memory of everything that the sandbox runs; ``peak`` is in bytes (proportional set size)."""

    def __init__(self, home: Path) -> None:
        super().__init__(daemon=True)
        self._home = home
        self._ended = threading.Event()
        self.peak = 0

    def run(self) -> None:
        """Samples every 3 seconds until `end`."""
        while not self._ended.wait(3):
            self.peak = max(self.peak, processes.resident_bytes(processes.marked(self._home)))

    def end(self) -> int:
        """Stops sampling and returns the peak in bytes."""
        self._ended.set()
        self.join()
        return self.peak


class Demo:
    """One walk from the manifest to the answered request."""

    def __init__(self, settings: Settings, view: View) -> None:
        self.settings = settings
        self.view = view
        self.sandbox = Sandbox(settings, with_airflow=True)
        self.airflow = AirflowAPI(settings.url("airflow"))

    def walk(self) -> Outcome:
        """Brings everything up, runs the project and asks the model; raises SandboxError with the cause of a fault."""
        self.sandbox.up(self.view.service)
        self.airflow.log_in()
        self._wait_for_dag()
        run_id = self._run()
        outcome = self._outcome(run_id)
        self.airflow.close()
        return outcome

    def _wait_for_dag(self) -> None:
        deadline = time.monotonic() + PARSE_SECONDS
        while self.airflow.dag(PROJECT) is None:
            if time.monotonic() > deadline:
                errors = "\n".join(error["stack_trace"] for error in self.airflow.import_errors())
                raise SandboxError(f"Airflow did not parse {PROJECT} in {PARSE_SECONDS} s.\n{errors}")
            time.sleep(0.5)
        self.view.say(f"DAG {PROJECT} parsed from include/projects/{PROJECT}.yaml")

    def _run(self) -> str:
        run_id = self._first_run()
        self.view.say(f"DAG run {run_id} started by the schedule")
        deadline = time.monotonic() + RUN_SECONDS
        while True:
            tasks = self.airflow.task_instances(PROJECT, run_id)
            for task in tasks:
                self.view.task(task, self._remote(run_id, task))
            state = self.airflow.run(PROJECT, run_id)["state"]
            if state in ("success", "failed"):
                break
            if time.monotonic() > deadline:
                raise SandboxError(f"the DAG run was still {state} after {RUN_SECONDS} s; see {self._run_page(run_id)}")
            time.sleep(1.5)
        self._require_success(run_id, tasks)
        return run_id

    def _first_run(self) -> str:
        """Unpausing is all it takes: the scheduler starts the run of the latest data interval at once."""
        self.airflow.unpause(PROJECT)
        deadline = time.monotonic() + PARSE_SECONDS
        while not (runs := self.airflow.runs(PROJECT)):
            if time.monotonic() > deadline:
                raise SandboxError(f"the scheduler started no run of {PROJECT} in {PARSE_SECONDS} s")
            time.sleep(0.5)
        return str(runs[0]["dag_run_id"])

    def _require_success(self, run_id: str, tasks: list[dict[str, Any]]) -> None:
        bad = [task for task in tasks if task["state"] != "success"]
        if not bad:
            return
        first = min(bad, key=lambda task: (task["state"] != "failed", task["start_date"] or "~"))
        log = self.airflow.log(PROJECT, run_id, first["task_id"]).splitlines()[-25:]
        raise SandboxError(
            f"task {first['task_id']} ended {first['state']}; the end of its log:\n"
            + "\n".join(f"  | {line}" for line in log)
        )

    def _remote(self, run_id: str, task: dict[str, Any]) -> str:
        """The remote job's own state, asked of the system it runs on, while the task waits for it."""
        if task["state"] not in ("deferred", "running"):
            return ""
        url = self.airflow.xcom(PROJECT, run_id, task["task_id"], "remote_url")
        return remote_state(self.settings, url) if isinstance(url, str) else ""

    def _run_page(self, run_id: str) -> str:
        return f"{self.settings.url('airflow')}/dags/{PROJECT}/runs/{run_id}"

    def _outcome(self, run_id: str) -> Outcome:
        deployed = self.airflow.xcom(PROJECT, run_id, "deploy")
        released = self.airflow.xcom(PROJECT, run_id, "release")
        if deployed["outcome"] != "deployed":
            raise SandboxError(f"the deployment ended {deployed['outcome']}; see {deployed['url']}")
        results = self.airflow.xcom(PROJECT, run_id, "evaluate")["results"]
        measured = self.airflow.xcom(PROJECT, run_id, "default.kfp")["outputs"]
        item, truth = real_item(self.settings.cache / "data" / "diamonds.csv")
        prediction = self._ask(item)
        self.view.say(f"asked the deployed model for the price of {describe(item)}")
        return Outcome(
            tag=released["tag"], digest=deployed["digest"], metric=measured["mae"],
            baseline_metric=measured["baseline_mae"], prediction=prediction, truth=truth,
            execution_url=deployed["url"], results=results,
        )  # fmt: skip

    def _ask(self, item: dict[str, Any]) -> float:
        url = f"{self.settings.url('serving')}/{PROJECT}/predict"
        try:
            answer = httpx.post(url, json={"experiment": "default", "items": [item]}, timeout=30)
            return float(answer.raise_for_status().json()["predictions"][0])
        except (httpx.HTTPError, LookupError, ValueError) as error:
            raise SandboxError(f"the deployed model did not answer POST {url}: {error}") from error


def remote_state(settings: Settings, url: str) -> str:
    """What the remote system says of the job behind a task's link now; an empty text when it can't be asked."""
    try:
        for pattern, reader in _READERS.items():
            if found := re.search(pattern, url):
                return reader(settings, *found.groups())
    except (httpx.HTTPError, LookupError, ValueError):
        return ""
    return ""


def _get(url: str, **params: Any) -> Any:
    return httpx.get(url, params=params, timeout=5).raise_for_status().json()


def _polyaxon_state(settings: Settings, project: str, uuid: str) -> str:
    base = f"{settings.url('polyaxon')}/api/v1/default/{project}/runs"
    run = _get(f"{base}/{uuid}")
    if run.get("kind") != "matrix":
        return f"Polyaxon: {run['status']}"
    children = _get(base, query=f"pipeline:{uuid}", limit=100)["results"]
    done = sum(child["status"] == "succeeded" for child in children)
    return f"Polyaxon: {run['status']}, {done} of {len(children)} runs done"


def _kfp_state(settings: Settings, run_id: str) -> str:
    run = _get(f"{settings.url('kfp')}/apis/v2beta1/runs/{run_id}")
    details = run.get("run_details", {}).get("task_details", [])
    running = [task["display_name"] for task in details if task.get("state") == "RUNNING"]
    return f"KFP: {run['state'].lower()}{' ' + ', '.join(running) if running else ''}"


def _spinnaker_state(settings: Settings, execution_id: str) -> str:
    execution = _get(f"{settings.url('spinnaker')}/pipelines/{execution_id}")
    stages = [stage["name"] for stage in execution["stages"] if stage["status"] == "RUNNING"]
    return f"Spinnaker: {execution['status'].lower()}{' ' + ', '.join(stages) if stages else ''}"


_READERS: dict[str, Callable[..., str]] = {
    r"/([^/]+)/runs/([0-9a-f]{32})": _polyaxon_state,
    r"#/runs/details/([^/?]+)": _kfp_state,
    r"/executions/details/([^/?]+)": _spinnaker_state,
}


def real_item(data: Path) -> tuple[dict[str, Any], float]:
    """A real diamond (the data's 20,000th row) and the price that was asked for it, in US dollars."""
    with data.open(newline="") as rows:
        row = next(row for number, row in enumerate(csv.DictReader(rows), 1) if number == 20_000)
    numbers = ("carat", "depth", "table", "x", "y", "z")
    item: dict[str, Any] = {name: float(row[name]) for name in numbers}
    item.update({name: row[name] for name in ("cut", "color", "clarity")})
    return item, float(row["price"])


def describe(item: dict[str, Any]) -> str:
    """One line for people."""
    return f"a {item['carat']} carat diamond, cut {item['cut']}, colour {item['color']}, clarity {item['clarity']}"


def main(arguments: list[str] | None = None) -> int:
    """Runs the demo; 0 only if all of it happened and nothing is left running (with ``--stay``: until Ctrl-C)."""
    parser = argparse.ArgumentParser(prog="make demo ARGS=…", description=__doc__)
    parser.add_argument("--stay", action="store_true", help="keep everything up until Ctrl-C or `make down`")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    console = Console()
    settings = Settings.from_environment()
    view = View(console)
    watch = MemoryWatch(settings.home)
    watch.start()
    demo = Demo(settings, view)
    outcome: Outcome | None = None
    try:
        with Live(view, console=console, refresh_per_second=4, transient=False):
            outcome = demo.walk()
        view.conclude(settings, outcome.__dict__)
        if options.stay:
            wait_for_ctrl_c(console)
    except (SandboxError, httpx.HTTPError) as error:
        outcome = None
        print(f"demo: {error}\n  logs: {settings.home / 'logs'}", file=sys.stderr)
    except KeyboardInterrupt:
        console.print("interrupted")
    peak = watch.end()
    clean = take_down(demo, console)
    seconds = time.monotonic() - began
    if outcome is None or not clean:
        return 1
    print(json.dumps(summary(outcome, seconds, peak)))
    return 0


def wait_for_ctrl_c(console: Console) -> None:
    """Keeps everything up; Ctrl-C ends it."""
    console.print("everything stays up; Ctrl-C (or `make down` elsewhere) takes it down")
    try:
        while True:
            time.sleep(1)
    except KeyboardInterrupt:
        console.print()


def take_down(demo: Demo, console: Console) -> bool:
    """Ends everything and says so; False when a process had to be ended singly or is still there."""
    if demo.sandbox.supervisor.is_up():
        console.print("taking everything down …")
    killed = demo.sandbox.down()
    left = processes.marked(demo.settings.home)
    if killed or left:
        print(f"demo: processes did not end by themselves: {killed or left}", file=sys.stderr)
        return False
    return True


def summary(outcome: Outcome, seconds: float, peak_bytes: int) -> dict[str, Any]:
    """The last line: ``seconds`` from the first command to the end, ``peak_mib`` of all processes together."""
    return {
        "seconds": round(seconds, 1), "tag": outcome.tag, "digest": outcome.digest, "metric": outcome.metric,
        "baseline_metric": outcome.baseline_metric, "prediction": outcome.prediction,
        "peak_mib": round(peak_bytes / 2**20),
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
