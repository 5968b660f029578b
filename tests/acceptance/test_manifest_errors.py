"""A broken manifest: named in Airflow's UI by file, line and column, alone, and gone when it is mended."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import workers
from tests.support.processes import ProcessId
from tests.support.world import BROKEN, World, commit, git, wait_for

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


PROJECTS = ("patient", "patient-git")


@dataclass
class Broken:
    """A manifest that was broken while one run waited in the triggerer and the task of another one for a worker."""

    project: str
    manifest: Path
    gate: Path
    deferred: str
    commit: str
    queued: str = ""
    error: str = ""


@pytest.fixture(scope="module")
def held() -> set[ProcessId]:
    """Airflow's workers, while they take no task."""
    return set()


@pytest.fixture(scope="module")
def all_broken(world: World, held: set[ProcessId]) -> Iterator[dict[str, Broken]]:
    """One project of a folder and one of a git repository, broken at the same time."""
    world.wait_for_dag(OTHER)
    world.pool("patience", 4)
    found = {}
    for project in PROJECTS:
        world.wait_for_dag(project)
        world.airflow.unpause(project)
        root = repository(world, project)
        gate = root.with_name(f"{root.name}-gate")
        manifest = root / f"include/projects/{project}.yaml"
        found[project] = Broken(project, manifest, gate, world.airflow.trigger(project), head(root))
    for each in found.values():
        reaches(world, each.project, each.deferred, "deferred")
    good = {each.project: each.manifest.read_text() for each in found.values()}
    held.update(workers.hold(world.settings))
    try:
        for each in found.values():
            each.queued = world.airflow.trigger(each.project)
        for each in found.values():
            reaches(world, each.project, each.queued, "queued")
        for each in found.values():
            # The new bound would not let a run pass, so that it shows which definition it has.
            said = good[each.project].replace("max: 5", "max: 1").replace("evaluation:", "evaluaton:")
            change(each.manifest, said)
        for each in found.values():
            each.error = appears(world, each.project)
            reaches(world, each.project, each.queued, "queued")
        yield found
    finally:
        workers.let_go(held)
        for each in found.values():
            change(each.manifest, good[each.project])
            each.gate.touch()


@pytest.fixture(params=PROJECTS)
def broken(all_broken: dict[str, Broken], request: pytest.FixtureRequest) -> Broken:
    return all_broken[request.param]


def repository(world: World, project: str) -> Path:
    git = world.settings.git_deployment
    assert git is not None
    return git if project.endswith("-git") else world.deployment


def head(root: Path) -> str:
    return git(root, "rev-parse", "HEAD") if (root / ".git").exists() else ""


def change(manifest: Path, text: str) -> None:
    """Writes it, and commits it where there is git."""
    if manifest.read_text() == text:
        return
    manifest.write_text(text)
    root = manifest.parents[2]
    if (root / ".git").exists():
        commit(root)


def reaches(world: World, project: str, run_id: str, state: str) -> None:
    wait_for(lambda: world.states(project, run_id).get("default.polyaxon") == state, 120,
             lambda: str(world.states(project, run_id)))  # fmt: skip


def test_the_error_says_where_and_what_is_in_force(broken: Broken) -> None:
    where = f"include/projects/{broken.project}.yaml:13:1: error MF010: unknown key 'evaluaton'"
    assert where in broken.error
    assert "^^^^^^^^^" in broken.error
    what = f"commit {broken.commit}" if broken.commit else "content "
    assert f"in force: the last good definition of {broken.project}, {what}" in broken.error


def test_its_own_dag_and_all_others_are_as_they_were(world: World, broken: Broken) -> None:
    for project in (broken.project, OTHER):
        dag = world.airflow.dag(project)
        assert dag is not None
        assert (dag["has_import_errors"], dag["is_stale"]) == (False, False)
    assert error(world, OTHER) is None


def test_a_room_is_told_of_a_run_that_is_late(world: World, broken: Broken) -> None:
    """Airflow's deadline alert, which the triggerer sends."""
    line = f"{broken.project}: run {broken.deferred} is not done PT10S after it was queued"
    wait_for(lambda: [told for told in world.room.told if told.startswith(line)], 90, lambda: str(world.room.told))


def test_its_runs_end_and_another_one_starts_with_the_last_good_definition(
    world: World, broken: Broken, held: set[ProcessId]
) -> None:
    """The run that waited in the triggerer, the one whose task no worker had taken, and one that begins now."""
    broken.gate.touch()
    workers.let_go(held)
    project = broken.project
    for each in (broken.deferred, broken.queued, world.airflow.trigger(project)):
        assert world.wait_for_run(project, each, 180) == "success", world.logs_of_failures(project, each)
        assert "at most 5" in str(world.airflow.xcom(project, each, "evaluate"))
    assert error(world, project)
    done = f"{project}: run {broken.deferred} succeeded"
    wait_for(lambda: [told for told in world.room.told if told.startswith(done)], 90, lambda: str(world.room.told))


def test_its_file_is_not_parsed_more_often_since_a_room_was_told(world: World, broken: Broken) -> None:
    """The processor ran the callback; see `mlfleet.reparsing`. It parses a file once in 30 s."""
    parsed = set()
    for _ in range(10):
        parsed.add((world.airflow.dag(broken.project) or {})["last_parsed_time"])
        time.sleep(1)
    assert len(parsed) <= 2, parsed


def test_mended_the_error_is_gone(world: World, broken: Broken) -> None:
    change(broken.manifest, broken.manifest.read_text().replace("evaluaton:", "evaluation:"))
    vanishes(world, broken.project)
    assert error(world, OTHER) is None
