"""A project with an experiment that has a schedule of its own: two DAGs from one file, one for a worker."""

from __future__ import annotations

from mlfleet.bundles import ManifestDagBundle
from tests.unit.bundles.conftest import Repo, bag_of
from tests.unit.manifest.test_parts import APART


def test_both_dags_come_from_the_projects_file(repo: Repo, bundle: ManifestDagBundle) -> None:
    repo.write("prices", APART)
    bundle.refresh()
    bag = bag_of(bundle.path / "prices.py", bundle.path)
    assert not bag.import_errors
    assert sorted(bag.dags) == ["prices", "prices.trading-cards"]


def test_a_worker_lays_out_the_project_and_builds_the_one_dag(repo: Repo) -> None:
    repo.write("prices", APART)
    for dag_id in ("prices", "prices.trading-cards"):
        dag, bag, folder = repo.worker(dag_id, repo.bundle)
        assert dag is not None, bag.import_errors
        assert list(bag.dags) == [dag_id]
        assert [path.name for path in folder.glob("*.py")] == ["prices.py"]


def test_a_part_that_is_gone_is_not_found_and_breaks_nothing(repo: Repo, bundle: ManifestDagBundle) -> None:
    dag, bag, _ = repo.worker("prices.trading-cards", repo.bundle)
    assert dag is None
    assert not bag.dags
    assert not bag.import_errors
