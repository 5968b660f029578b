"""A team's code in the DAG processor: whatever it does, one project has an error, and the last good DAG stays."""

from __future__ import annotations

import os
import time

import pytest

from mlfleet.bundles import ManifestDagBundle, trial
from tests.unit.bundles.conftest import Repo, bag_of, files
from tests.unit.manifest.samples import FULL

GOOD = """\
from airflow.sdk import task

def check(task_id, minimum=1):
    @task(task_id=task_id)
    def rows():
        return minimum
    return rows()
"""
STEPS = FULL + "steps:\n  before_training:\n    - {name: check-rows, callable: 'steps.py:check'}\n"


@pytest.fixture
def bundle(repo: Repo) -> ManifestDagBundle:
    (repo.root / "include/pipelines/prices/steps.py").write_text(GOOD)
    repo.write("prices", STEPS)
    made = repo.bundle()
    made.initialize()
    return made


def edit(repo: Repo, bundle: ManifestDagBundle, code: str) -> None:
    (repo.root / "include/pipelines/prices/steps.py").write_text(code)
    bundle.refresh()


def test_a_step_is_a_task_of_the_laid_out_dag(bundle: ManifestDagBundle) -> None:
    bag = bag_of(bundle.path, bundle.path)
    assert bag.import_errors == {}
    assert "check-rows" in bag.dags["prices"].task_ids


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("def check(task_id): return 5\n", "it returned int, and not a task"),
        ("def check(task_id): raise ValueError('no table')\n", "ValueError: no table"),
        ("import nowhere_to_be_found\ndef check(task_id): ...\n", "No module named 'nowhere_to_be_found'"),
        ("import os\ndef check(task_id): os._exit(3)\n", "the code of the project ended the process"),
        ("import sys\ndef check(task_id): sys.exit(3)\n", "the code of the project ended the process"),
        ("import time\ndef check(task_id): time.sleep(60)\n", "did not come back within 1 s"),
    ],
)
def test_a_step_that_makes_no_task(
    repo: Repo, bundle: ManifestDagBundle, monkeypatch: pytest.MonkeyPatch, code: str, told: str
) -> None:
    apart = trial._apart
    monkeypatch.setattr(trial, "_apart", lambda plan, seconds: apart(plan, 1.0))
    before, started = files(bundle), time.monotonic()
    edit(repo, bundle, code)
    assert time.monotonic() - started < 20
    assert {name for name, seen in files(bundle).items() if before.get(name) != seen} == {"broken/projects/prices.py"}
    (error,) = bag_of(bundle.path / "broken/projects/prices.py", bundle.path).import_errors.values()
    assert "MF025" in error
    assert told in error
    assert "- {name: check-rows" in error
    assert "in force: the last good definition of prices" in error
    edit(repo, bundle, GOOD)
    assert not [name for name in files(bundle) if name.startswith("broken")]


def test_what_a_step_changes_stays_in_its_own_process(repo: Repo, bundle: ManifestDagBundle) -> None:
    edit(repo, bundle, GOOD + "import os\nos.environ['LEFT_BEHIND'] = 'yes'\n")
    assert "LEFT_BEHIND" not in os.environ
    assert not [name for name in files(bundle) if name.startswith("broken")]


def test_a_timetable_that_cannot_be_made(repo: Repo, bundle: ManifestDagBundle) -> None:
    repo.write("prices", FULL.replace('cron: "0 3 * * *"', "timetable: {class: nowhere.Timetable}"))
    bundle.refresh()
    (error,) = bag_of(bundle.path / "broken/projects/prices.py", bundle.path).import_errors.values()
    assert "MF025: the timetable: ModuleNotFoundError: No module named 'nowhere'" in error
    assert "(at schedule.timetable.class)" in error


def test_a_timetable_of_an_experiment_that_cannot_be_made(repo: Repo, bundle: ManifestDagBundle) -> None:
    own = "    params: {segment: cards}\n    schedule: {timetable: {class: nowhere.Timetable}}\n"
    repo.write("prices", FULL.replace("    params: {segment: cards}\n", own))
    bundle.refresh()
    (error,) = bag_of(bundle.path / "broken/projects/prices.py", bundle.path).import_errors.values()
    assert "MF025: the timetable: ModuleNotFoundError: No module named 'nowhere'" in error
    assert "(at experiments[1].schedule.timetable.class)" in error
