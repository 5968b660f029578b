"""Callbacks of runs with a version: the DAG processor brings and reads what the callback's own file needs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from mlfleet.bundles import ManifestDagBundle
from tests.unit.bundles.conftest import GIT, Repo, bag_of, files
from tests.unit.manifest.test_parts import APART

Configure = Callable[..., None]


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Tells Airflow of the bundle, as each of its processes knows it."""

    def configure(**kwargs: Any) -> None:
        source = {"classpath": GIT, "kwargs": {"tracking_ref": "main", "git_conn_id": "fleet"}}
        bundle = {"name": "projects", "classpath": "mlfleet.bundles.ManifestDagBundle",
                  "kwargs": {"source": source, **kwargs}}  # fmt: skip
        monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps([bundle]))

    configure()
    return configure


def at(repo: Repo, version: str, **kwargs: Any) -> ManifestDagBundle:
    """What the DAG processor makes for a callback (dag_processing/manager.py, ``prepare_callback_bundle``)."""
    bundle = repo.git_bundle(version, **kwargs)
    bundle.initialize()
    return bundle


def moved_on(repo: Repo, **kwargs: Any) -> str:
    """A run's version, after which `prices` was changed; the DAG processor has laid out the newest one."""
    first = repo.git("rev-parse", "HEAD")
    repo.manifest("prices").write_text(repo.manifest("prices").read_text() + "\ndescription: Newer\n")
    repo.commit()
    repo.git_bundle(**kwargs).initialize()
    return first


def test_the_file_of_a_callback_is_that_of_the_run(git_repo: Repo, configured: Configure) -> None:
    bundle = at(git_repo, first := moved_on(git_repo))
    bag = bag_of(bundle.path / "prices.py", bundle.path)
    assert not bag.import_errors
    (dag,) = bag.dags.values()
    assert dag.dag_id == "prices"
    assert "Newer" not in str(dag.description)
    assert dag.get_task("default.kfp").references["static"]["git.commit"] == first


def test_nothing_is_brought_before_and_no_other_project_is_looked_at(git_repo: Repo, configured: Configure) -> None:
    """The processor does it between two looks at its files, so it must not depend on the size of the fleet."""
    bundle = at(git_repo, first := moved_on(git_repo))
    stored = git_repo.storage / "projects"
    assert set(files(bundle)) == {"cards.py", "prices.py", "toys.py"}
    assert not (stored / "versions" / first).exists()
    bag_of(bundle.path / "prices.py", bundle.path)
    assert [path.name for path in (stored / "workers" / first).iterdir()] == ["prices"]


def test_the_next_callback_of_the_version_writes_nothing(git_repo: Repo, configured: Configure) -> None:
    first = moved_on(git_repo)
    assert files(at(git_repo, first)) == files(at(git_repo, first))


def test_versions_without_a_callback_for_a_day_are_forgotten(git_repo: Repo, configured: Configure) -> None:
    first = moved_on(git_repo)
    old, recent = at(git_repo, first).path, at(git_repo, git_repo.git("rev-parse", "HEAD")).path
    a_day_ago = time.time() - 86_401
    os.utime(old, (a_day_ago, a_day_ago))
    assert at(git_repo, git_repo.git("rev-parse", "HEAD")).path == recent
    assert (old.exists(), recent.exists()) == (False, True)
    assert files(at(git_repo, first))


def test_a_refresh_of_the_fleet_leaves_them_alone(git_repo: Repo, configured: Configure) -> None:
    """The processor may refresh the bundle between noting a callback and running it."""
    bundle = at(git_repo, moved_on(git_repo))
    git_repo.write("games")
    git_repo.commit()
    git_repo.git_bundle().initialize()
    git_repo.worker("toys", git_repo.git_bundle, version=git_repo.git("rev-parse", "HEAD"))
    assert list(bag_of(bundle.path / "prices.py", bundle.path).dags) == ["prices"]


def test_a_file_that_came_later_is_there_too(git_repo: Repo, configured: Configure) -> None:
    """Airflow names the file of a callback as of today; a group may have been split since."""
    first = moved_on(git_repo)
    at(git_repo, first)
    git_repo.write("games")
    git_repo.commit()
    git_repo.git_bundle().initialize()
    bundle = at(git_repo, first)
    assert list(bag_of(bundle.path / "games.py", bundle.path).dags) == ["games"]


def test_all_dags_of_a_project(git_repo: Repo, configured: Configure) -> None:
    git_repo.write("prices", APART)
    git_repo.commit()
    bundle = at(git_repo, moved_on(git_repo))
    assert sorted(bag_of(bundle.path / "prices.py", bundle.path).dags) == ["prices", "prices.trading-cards"]


def test_a_project_that_was_no_good_then_takes_no_callback_from_its_group(
    git_repo: Repo, configured: Configure
) -> None:
    configured(projects_per_file=8)
    git_repo.write("games")
    git_repo.breaks("games")
    git_repo.commit()
    first = git_repo.git("rev-parse", "HEAD")
    git_repo.write("games")
    git_repo.commit()
    git_repo.git_bundle(projects_per_file=8).initialize()
    bundle = at(git_repo, first, projects_per_file=8)
    (name,) = files(bundle)
    bag = bag_of(bundle.path / name, bundle.path)
    assert sorted(bag.dags) == ["cards", "games", "prices", "toys"]
    assert not bag.import_errors
