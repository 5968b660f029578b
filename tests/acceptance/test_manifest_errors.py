"""A broken manifest: named in Airflow's UI by file, line and column, alone, and gone when it is mended."""

from __future__ import annotations

from pathlib import Path

from tests.support.world import BROKEN, World, wait_for


def test_it_is_an_import_error_of_its_own_until_it_is_mended(world: World) -> None:
    world.wait_for_dag("price-suggestion")
    (error,) = wait_for(world.airflow.import_errors, 60, lambda: "an import error")
    assert error["filename"] == "broken_projects.py"
    assert "include/projects/broken.yaml:5:1" in error["stack_trace"]
    assert "did you mean 'experiments'" in error["stack_trace"]
    assert world.airflow.dag("broken") is None
    manifest = Path(world.environment["MLFLEET_DEPLOYMENT"]) / "include/projects/broken.yaml"
    manifest.write_text(BROKEN.replace("experimens", "experiments"))
    wait_for(lambda: not world.airflow.import_errors(), 120, lambda: str(world.airflow.import_errors()))
    world.wait_for_dag("broken")
