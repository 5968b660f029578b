"""How long plan and apply take for a fleet, against the sandbox's real Polyaxon server and its KFP server.

Run with `make bench ARGS=plan`; `python benchmarks/plan.py --projects 20` is the small one. Each command is a cold
process, as CI starts it: interpreter, imports, all manifests, all requests. The servers are new; apply makes everything
from nothing, and the plan after it finds nothing to do. Requests are those of that plan. Beside it stands what looking
each thing up by itself costs, over as many connections as apply uses, and without starting a process or reading a file.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
from plans.world import servers, write_repository

from mlfleet.fleet.apply import CONCURRENCY
from mlfleet.fleet.connecting import Wire
from mlfleet.fleet.preparing import Prepared, prepare_environment
from mlfleet.fleet.resources import Kind
from mlfleet.manifest.loading import Repository


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--projects", type=int, default=175, help="each with three experiments")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mlfleet-plan-") as name:
        home = Path(name)
        write_repository(home / "repository", options.projects)
        with servers(home) as connections:
            apply_s, applied = command(home, connections, "apply", "--yes")
            plan_s, planned = command(home, connections, "plan")
            requests, prepared = count_requests(home, connections)
            one_by_one_s = asyncio.run(look_up(prepared, connections))
    things = options.projects * 4
    outcomes = [step["outcome"] for step in applied["applied"]]
    assert outcomes == ["done"] * things, outcomes
    assert planned["changes"] == [], planned["changes"][:3]
    assert planned["summary"]["unchanged"] == things
    print(f"apply from nothing: {things} things in {apply_s:.1f} s")
    print(f"plan without a change: {plan_s:.1f} s, {requests} requests; one look-up a thing: {one_by_one_s:.1f} s")
    figures = {
        "plan_s": round(plan_s, 2), "apply_s": round(apply_s, 2),
        "requests_per_100_objects": round(100 * requests / things, 3),
    }  # fmt: skip
    print(json.dumps(figures))


def command(home: Path, connections: dict[str, str], *words: str) -> tuple[float, dict]:
    """Seconds of one cold call, and its JSON."""
    began = time.monotonic()
    called = [sys.executable, "-m", "mlfleet.cli", "--root", str(home / "repository"), *words, "--output", "json"]
    ran = subprocess.run(
        called, env={**os.environ, **connections}, capture_output=True, text=True, timeout=600, check=False
    )  # fmt: skip
    seconds = time.monotonic() - began
    if ran.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {ran.returncode}:\n{ran.stderr[-2000:]}")
    return seconds, json.loads(ran.stdout)


class Counting(httpx.AsyncHTTPTransport):
    """The network, and how often it was used."""

    count = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        Counting.count += 1
        return await super().handle_async_request(request)

    async def aclose(self) -> None:
        """Left open: the clients of both systems share it."""


def count_requests(home: Path, connections: dict[str, str]) -> tuple[int, Prepared]:
    prepared = prepare_environment(Repository(home / "repository"), "dev", Wire(connections, Counting()))
    assert prepared.plan().changes == ()
    return Counting.count, prepared


async def look_up(prepared: Prepared, connections: dict[str, str]) -> float:
    """Seconds of one request for each thing that is wanted."""
    ports = {name.split("_")[2].lower(): json.loads(value)["port"] for name, value in connections.items()}
    gate = asyncio.Semaphore(CONCURRENCY)
    async with httpx.AsyncClient(timeout=60, trust_env=False) as client:

        async def ask(kind: Kind, name: str) -> None:
            async with gate:
                if kind is Kind.PROJECT:
                    url, params = f"http://127.0.0.1:{ports['polyaxon']}/api/v1/default/{name}", {}
                else:
                    predicate = {"operation": "EQUALS", "key": "display_name", "string_value": name}
                    url = f"http://127.0.0.1:{ports['kfp']}/apis/v2beta1/experiments"
                    params = {"filter": json.dumps({"predicates": [predicate]})}
                (await client.get(url, params=params)).raise_for_status()

        began = time.monotonic()
        await asyncio.gather(*(ask(each.kind, each.name) for each in prepared.wanted.resources))
        return time.monotonic() - began


if __name__ == "__main__":
    main()
