"""How often Airflow's DAG processor refreshes a bundle, asked as the processor asks it."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.bundles.base import BaseDagBundle
from airflow.dag_processing.bundles.local import LocalDagBundle
from airflow.dag_processing.manager import DagFileProcessorManager

from mlfleet.bundles import ManifestDagBundle
from mlfleet.bundles.bundle import UNCHANGED
from mlfleet.errors import ManifestError
from tests.unit.bundles.conftest import Repo, bag_of, files
from tests.unit.manifest.samples import MINIMAL

INTERVAL = 5


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What time.monotonic says: the sum."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: sum(now))
    return now


@pytest.fixture
def bundle(repo: Repo, clock: list[float]) -> ManifestDagBundle:
    made = repo.bundle(refresh_interval=INTERVAL)
    made.initialize()
    made.refresh()
    return made


def refreshed(bundle: ManifestDagBundle, since: float, seen: bool = True) -> bool:
    """Whether Airflow refreshes the bundle so many seconds after the last time."""
    return not DagFileProcessorManager(max_runs=1).should_skip_refresh(
        bundle=bundle, elapsed_time_since_refresh=since, current_version_matches_db=True, previously_seen=seen
    )


def test_a_folder_that_stays_as_it_is_is_refreshed_seldom(bundle: ManifestDagBundle, clock: list[float]) -> None:
    asked = []
    for since in range(1, UNCHANGED + 2):
        clock.append(1)
        asked.append(refreshed(bundle, since))
    assert asked == [False] * (UNCHANGED - 1) + [True, True]


def test_an_edit_is_refreshed_after_the_interval(repo: Repo, bundle: ManifestDagBundle, clock: list[float]) -> None:
    clock.append(INTERVAL)
    assert not refreshed(bundle, INTERVAL)
    repo.write("cards", MINIMAL.replace("prices", "cards") + "tags: [new]\n")
    clock.append(INTERVAL - 1)
    assert not refreshed(bundle, 2 * INTERVAL - 1)
    clock.append(1)
    assert refreshed(bundle, 2 * INTERVAL)
    # Airflow may not come to it at once, and another processor may have told the database of a refresh meanwhile.
    assert refreshed(bundle, 2 * INTERVAL + 1)
    assert not refreshed(bundle, 1)
    bundle.refresh()
    assert "new" in bag_of(bundle.path, bundle.path).dags["cards"].tags
    clock.append(INTERVAL)
    assert not refreshed(bundle, INTERVAL)


@pytest.mark.parametrize("what", ["a new project", "an environment", "defaults", "a project that is gone", "a fault"])
def test_whatever_manifests_are_made_of_is_seen_after_the_interval(
    repo: Repo, bundle: ManifestDagBundle, clock: list[float], what: str
) -> None:
    if what == "a new project":
        repo.write("shoes")
    elif what == "an environment":
        path = repo.root / "include/environments/dev.yaml"
        path.write_text(path.read_text() + "\n")
    elif what == "defaults":
        (repo.root / "include/defaults.yaml").write_text("labels: {team: pricing}\n")
    elif what == "a project that is gone":
        repo.manifest("toys").unlink()
    else:
        repo.breaks("cards")
    clock.append(INTERVAL)
    assert refreshed(bundle, INTERVAL)


def test_code_is_looked_at_once_a_minute(repo: Repo, bundle: ManifestDagBundle, clock: list[float]) -> None:
    (repo.root / "include/pipelines/prices/train.py").write_text("print('other')\n")
    before = files(bundle)
    clock.append(INTERVAL)
    assert not refreshed(bundle, INTERVAL)
    clock.append(UNCHANGED)
    assert refreshed(bundle, UNCHANGED)
    bundle.refresh()
    assert {name for name, found in files(bundle).items() if before[name] != found} == {"prices.py"}


def test_a_folder_is_looked_at_once_an_interval(
    bundle: ManifestDagBundle, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    brought = []
    monkeypatch.setattr(LocalDagBundle, "refresh", lambda self: brought.append(sum(clock)))
    for second in range(4 * INTERVAL):
        clock.append(1)
        refreshed(bundle, second)
    assert len(brought) == 4


def test_the_first_time_it_is_refreshed_whatever_there_is(bundle: ManifestDagBundle) -> None:
    assert refreshed(bundle, 1, seen=False)


def test_a_source_that_brings_its_files_is_asked(repo: Repo, tmp_path: Path, clock: list[float]) -> None:
    """As bundles over object storage do, which have no versions either."""
    kwargs = {"origin": str(repo.root), "to": str(tmp_path / "copy")}
    source = {"classpath": f"{__name__}.Copied", "kwargs": kwargs}
    bundle = ManifestDagBundle(name="projects", refresh_interval=INTERVAL, source=source)
    bundle.initialize()
    bundle.refresh()
    clock.append(INTERVAL)
    assert not refreshed(bundle, INTERVAL)
    repo.write("shoes")
    clock.append(INTERVAL)
    assert refreshed(bundle, 2 * INTERVAL)


def test_a_source_that_fails_is_left_to_the_refresh(
    bundle: ManifestDagBundle, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow catches what a refresh raises, and not what the question raises."""

    def fail(self: Any) -> None:
        raise OSError("the share is gone")

    monkeypatch.setattr(LocalDagBundle, "refresh", fail)
    clock.append(INTERVAL)
    assert refreshed(bundle, INTERVAL)
    with pytest.raises(OSError, match="the share is gone"):
        bundle.refresh()


def test_a_refresh_that_failed_is_tried_again_after_the_interval(
    repo: Repo, bundle: ManifestDagBundle, clock: list[float]
) -> None:
    """Also when nothing changes any more: what it should have laid out is not there yet."""
    projects = repo.manifest("cards").parent
    shutil.rmtree(projects)
    projects.symlink_to(projects.name)  # a loop, which cannot be read
    with pytest.raises(ManifestError, match="symbolic links"):
        bundle.refresh()
    for _ in range(3):
        clock.append(INTERVAL)
        assert refreshed(bundle, INTERVAL)


def test_a_git_source_has_versions_and_is_refreshed_as_ever(git_repo: Repo, clock: list[float]) -> None:
    bundle = git_repo.git_bundle(refresh_interval=INTERVAL)
    bundle.initialize()
    bundle.refresh()
    for _ in range(3):
        clock.append(INTERVAL)
        assert refreshed(bundle, INTERVAL)


class Copied(BaseDagBundle):
    """A bundle without versions whose files are elsewhere."""

    supports_versioning = False

    def __init__(self, *, origin: str, to: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._origin, self._to = origin, Path(to)

    @property
    def path(self) -> Path:
        return self._to

    def initialize(self) -> None:
        self.refresh()
        super().initialize()

    def refresh(self) -> None:
        shutil.copytree(self._origin, self._to, dirs_exist_ok=True)

    def get_current_version(self) -> None:
        return None
