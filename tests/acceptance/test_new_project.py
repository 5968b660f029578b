"""A project as ``mlfleet new`` writes it, while Airflow runs: it appears, trains, is built and released."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.world import World

PROJECT = "newcomer"


def test_a_new_project_runs_as_it_stands(world: World) -> None:
    made = subprocess.run(
        [Path(sys.executable).with_name("mlfleet"), "--root", world.deployment, "new", PROJECT, "--owner", "@acme/new",
         "--no-deploy", "--no-ask"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    world.wait_for_dag(PROJECT)
    world.airflow.unpause(PROJECT)
    run_id = world.airflow.trigger(PROJECT)
    assert world.wait_for_run(PROJECT, run_id) == "success", world.logs_of_failures(PROJECT, run_id)
    (judged,) = world.airflow.xcom(PROJECT, run_id, "evaluate")["results"]
    assert 0.5 < judged["value"] < 1
    built = world.airflow.xcom(PROJECT, run_id, "build_image")
    released = world.airflow.xcom(PROJECT, run_id, "release")
    assert released["digest"] == built["digest"]
