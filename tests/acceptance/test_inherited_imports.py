"""What the process of a task has from the program that forked it, in a running Airflow."""

from __future__ import annotations

from mlfleet.starting import PRELOADED
from tests.support.world import World


def test_a_task_of_local_executor_finds_all_of_it_imported(world: World) -> None:
    world.wait_for_dag("inherited")
    world.airflow.unpause("inherited")
    run = world.airflow.trigger("inherited")
    assert world.wait_for_run("inherited", run, 120) == "success", world.logs_of_failures("inherited", run)
    assert set(PRELOADED) <= set(world.airflow.xcom("inherited", run, "modules"))
