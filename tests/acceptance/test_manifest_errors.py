"""A broken manifest: named in Airflow's UI by file, line and column, alone, and gone when it is mended."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.world import BROKEN, World, wait_for

OTHER = "delay-follower"


def error(world: World, project: str) -> str | None:
    """The import error about a manifest."""
    found = {each["filename"]: each["stack_trace"] for each in world.airflow.import_errors()}
    return found.get(f"broken/projects/{project}.py")


def appears(world: World, project: str) -> str:
    return str(wait_for(lambda: error(world, project), 120, lambda: f"an import error about {project}"))


def vanishes(world: World, project: str) -> None:
    wait_for(lambda: error(world, project) is None, 120, lambda: f"no import error about {project}")


def test_it_is_an_import_error_of_its_own_until_it_is_mended(world: World) -> None:
    world.wait_for_dag("price-suggestion")
    told = appears(world, "broken")
    assert "include/projects/broken.yaml:5:1" in told
    assert "did you mean 'experiments'" in told
    assert "in force: nothing" in told
    assert world.airflow.dag("broken") is None
    manifest = world.deployment / "include/projects/broken.yaml"
    manifest.write_text(BROKEN.replace("experimens", "experiments"))
    vanishes(world, "broken")
    world.wait_for_dag("broken")


@pytest.fixture(scope="module")
def broken(world: World) -> Iterator[tuple[str, str]]:
    """A run that waits in the triggerer, and what Airflow says of the manifest that was broken meanwhile."""
    world.wait_for_dag("patient")
    world.wait_for_dag(OTHER)
    world.airflow.unpause("patient")
    run_id = world.airflow.trigger("patient")
    wait_for(lambda: world.states("patient", run_id).get("default.polyaxon") == "deferred", 120,
             lambda: str(world.states("patient", run_id)))  # fmt: skip
    manifest = world.deployment / "include/projects/patient.yaml"
    good = manifest.read_text()
    # The new bound would not let the run pass, so that it shows which definition it has.
    manifest.write_text(good.replace("max: 5", "max: 1").replace("evaluation:", "evaluaton:"))
    try:
        yield run_id, appears(world, "patient")
    finally:
        manifest.write_text(good)
        (world.deployment / "gate").touch()


def test_the_error_says_where_and_what_is_in_force(broken: tuple[str, str]) -> None:
    _, told = broken
    assert "include/projects/patient.yaml:10:1: error MF010: unknown key 'evaluaton'" in told
    assert "^^^^^^^^^" in told
    assert "in force: the last good definition of patient, content " in told


def test_its_own_dag_and_all_others_are_as_they_were(world: World, broken: tuple[str, str]) -> None:
    for project in ("patient", OTHER):
        dag = world.airflow.dag(project)
        assert dag is not None
        assert (dag["has_import_errors"], dag["is_stale"]) == (False, False)
    assert error(world, OTHER) is None


def test_the_run_ends_and_another_one_starts_with_the_last_good_definition(
    world: World, broken: tuple[str, str]
) -> None:
    run_id, _ = broken
    (world.deployment / "gate").touch()
    for each in (run_id, world.airflow.trigger("patient")):
        assert world.wait_for_run("patient", each, 180) == "success", world.logs_of_failures("patient", each)
        assert "at most 5" in str(world.airflow.xcom("patient", each, "evaluate"))
    assert error(world, "patient")


def test_mended_the_error_is_gone(world: World, broken: tuple[str, str]) -> None:
    manifest = world.deployment / "include/projects/patient.yaml"
    manifest.write_text(manifest.read_text().replace("evaluaton:", "evaluation:"))
    vanishes(world, "patient")
    assert error(world, OTHER) is None
