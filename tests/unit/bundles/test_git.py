"""The bundle over a real git repository: versions, workers of other machines, and what history says of broken ones."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest
from airflow.dag_processing.bundles.base import BundleVersion

from mlfleet.bundles import layout
from mlfleet.errors import ManifestError
from mlfleet.operators.base import find_file
from tests.support.delivery import Run
from tests.unit.bundles.conftest import Repo, bag_of, files
from tests.unit.manifest.samples import FULL, MINIMAL


def tagged(name: str, tag: str) -> str:
    return MINIMAL.replace("prices", name) + f"tags: [{tag}]\n"


def start_again(repo: Repo) -> None:
    """Another machine: nothing is stored there."""
    shutil.rmtree(repo.storage)


def commit_of(dag: Any) -> str:
    """What the tasks of a DAG are told of the commit that they run."""
    return str(dag.get_task("default.kfp").references["static"]["git.commit"])


def test_it_has_the_versions_of_its_source(git_repo: Repo) -> None:
    first = git_repo.git("rev-parse", "HEAD")
    bundle = git_repo.git_bundle()
    assert bundle.supports_versioning
    bundle.initialize()
    assert bundle.get_current_version() == BundleVersion(first)
    git_repo.write("toys", tagged("toys", "new"))
    second = git_repo.commit()
    bundle.refresh()
    assert bundle.get_current_version() == BundleVersion(second)
    assert git_repo.git_bundle(first).get_current_version() == BundleVersion(first)


def test_a_commit_writes_the_files_of_the_projects_that_it_touches(git_repo: Repo) -> None:
    bundle = git_repo.git_bundle()
    bundle.initialize()
    before = files(bundle)
    (git_repo.root / "README.md").write_text("nothing for us")
    git_repo.commit()
    bundle.refresh()
    assert files(bundle) == before
    git_repo.write("toys", tagged("toys", "new"))
    git_repo.commit()
    bundle.refresh()
    after = files(bundle)
    assert {name for name in before if before[name] != after[name]} == {"toys.py"}


def test_a_run_of_an_old_version_finds_its_dag_and_its_code(git_repo: Repo) -> None:
    first = git_repo.git("rev-parse", "HEAD")
    (git_repo.root / "include/pipelines/prices/train.py").write_text("print('second')\n")
    git_repo.write("prices", FULL.replace("max: 800", "max: 900"))
    git_repo.manifest("toys").unlink()
    git_repo.commit()
    dag, bag, folder = git_repo.worker("prices", git_repo.git_bundle, version=first)
    assert bag.import_errors == {}
    assert [path.name for path in folder.iterdir() if path.is_file()] == ["prices.py"]
    assert {item["max"] for item in dag.get_task("evaluate").evaluations} == {800}
    assert commit_of(dag) == first
    code = find_file("include/pipelines/prices/train.py", {"dag": dag})  # type: ignore[typeddict-item]
    assert code.read_text() == ""
    assert git_repo.worker("toys", git_repo.git_bundle, version=first)[0] is not None


def test_a_rerun_trains_the_commit_of_its_run(git_repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cleared task keeps the version of its run, and so clones the commit that it trained before."""
    monkeypatch.setenv("MLFLEET_DATA_ROOT", "/data")
    cloned = FULL.replace("    timeout: PT20M\n", "    timeout: PT20M\n    code: {connection: fleet}\n")
    component = (
        "{kind: component, inputs: [{name: data}, {name: segment}, {name: depth}], run: {kind: job, container: {}}}"
    )
    (git_repo.root / "include/pipelines/prices/polyaxonfile.yaml").write_text(component)
    git_repo.write("prices", cloned)
    first = git_repo.commit()
    spec = train_spec(git_repo, first)
    (git_repo.root / "include/pipelines/prices/train.py").write_text("print('second')\n")
    second = git_repo.commit()
    assert (revision(spec), spec["labels"]["commit"]) == (first, first)
    assert train_spec(git_repo, first) == spec
    assert revision(train_spec(git_repo, second)) == second


def train_spec(git_repo: Repo, version: str) -> dict[str, Any]:
    """What the Polyaxon task of a run of this version sends, made by another worker each time."""
    dag, bag, _ = git_repo.worker("prices", git_repo.git_bundle, version=version)
    assert bag.import_errors == {}
    task, context = dag.get_task("default.polyaxon"), Run().context()
    context["dag"], context["ti"].bundle_instance = dag, git_repo.git_bundle(version)
    found: dict[str, Any] = task.make_spec(task.values(context), context)
    return found


def revision(spec: dict[str, Any]) -> str:
    return str(json.loads(spec["content"])["component"]["run"]["init"][0]["git"]["revision"])


def test_a_version_is_laid_out_once(git_repo: Repo) -> None:
    first = git_repo.git("rev-parse", "HEAD")
    _, _, folder = git_repo.worker("prices", git_repo.git_bundle, version=first)
    before = (folder / "prices.py").stat().st_mtime_ns
    git_repo.worker("prices", git_repo.git_bundle, version=first)
    assert (folder / "prices.py").stat().st_mtime_ns == before


def test_a_worker_for_another_environment_lays_out_anew(git_repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    first = git_repo.git("rev-parse", "HEAD")
    git_repo.worker("prices", git_repo.git_bundle, version=first)
    monkeypatch.setenv("MLFLEET_ENV", "prod")
    dag, _, _ = git_repo.worker("prices", git_repo.git_bundle, version=first)
    assert dag.get_task("default.kfp").conn_id == "kfp_prod"


class TestBroken:
    @pytest.fixture
    def commits(self, git_repo: Repo) -> list[str]:
        """Good, good with other code, broken, broken with an unrelated change after it."""
        commits = [git_repo.git("rev-parse", "HEAD")]
        (git_repo.root / "include/pipelines/prices/train.py").write_text("print('last good')\n")
        commits.append(git_repo.commit())
        (git_repo.root / "include/pipelines/prices/train.py").write_text("print('newest')\n")
        git_repo.breaks("prices")
        commits.append(git_repo.commit())
        git_repo.write("toys", tagged("toys", "new"))
        return [*commits, git_repo.commit()]

    def test_the_last_good_commit_stays_in_force_and_the_error_names_it(
        self, git_repo: Repo, commits: list[str]
    ) -> None:
        bundle = git_repo.git_bundle()
        bundle.initialize()
        bag = bag_of(bundle.path, bundle.path)
        assert set(bag.dags) == {"cards", "prices", "toys"}
        assert set(bag.import_errors) == {"broken/projects/prices.py"}
        message = bag.import_errors["broken/projects/prices.py"]
        assert "include/projects/prices.yaml:14:1: error MF010" in message
        assert f"in force: the last good definition of prices, commit {commits[1]}" in message
        before = files(bundle)
        git_repo.write("prices", FULL)
        git_repo.commit()
        bundle.refresh()
        after = files(bundle)
        assert before.keys() - after.keys() == {"broken/projects/prices.py"}
        assert (before["cards.py"], before["toys.py"]) == (after["cards.py"], after["toys.py"])

    def test_a_worker_of_any_machine_runs_it_with_the_code_of_that_commit(
        self, git_repo: Repo, commits: list[str]
    ) -> None:
        for version in commits[2:]:
            dag, _, _ = git_repo.worker("prices", git_repo.git_bundle, version=version)
            assert commit_of(dag) == commits[1]
            code = find_file("include/pipelines/prices/train.py", {"dag": dag})  # type: ignore[typeddict-item]
            assert code.read_text() == "print('last good')\n"

    def test_it_finds_the_code_again_when_airflow_has_cleaned_it_up(self, git_repo: Repo, commits: list[str]) -> None:
        git_repo.worker("prices", git_repo.git_bundle, version=commits[3])
        shutil.rmtree(git_repo.storage / "projects" / "versions" / commits[1])
        dag, _, _ = git_repo.worker("prices", git_repo.git_bundle, version=commits[3])
        assert find_file("include/pipelines/prices/train.py", {"dag": dag}).is_file()  # type: ignore[typeddict-item]

    def test_processor_and_workers_agree(self, git_repo: Repo, commits: list[str]) -> None:
        bundle = git_repo.git_bundle()
        bundle.initialize()
        (laid_out,) = layout.read_loader(bundle.path / "prices.py")
        start_again(git_repo)
        _, _, folder = git_repo.worker("prices", git_repo.git_bundle, version=commits[3])
        (ran,) = layout.read_loader(folder / "prices.py")
        assert (laid_out.text, laid_out.commit) == (ran.text, ran.commit)

    def test_a_project_that_never_was_good_is_only_an_error(self, git_repo: Repo) -> None:
        git_repo.write("games", tagged("games", "new").replace("kind: Project", "kind: Projekt"))
        version = git_repo.commit()
        bundle = git_repo.git_bundle()
        bundle.initialize()
        assert "games.py" not in files(bundle)
        assert "in force: nothing" in bag_of(bundle.path, bundle.path).import_errors["broken/projects/games.py"]
        with pytest.raises(ManifestError, match=r"games\.yaml:1:7"):
            git_repo.worker("games", git_repo.git_bundle, version=version)

    def test_a_broken_environment_stops_no_worker(self, git_repo: Repo) -> None:
        first = git_repo.git("rev-parse", "HEAD")
        (git_repo.root / "include/environments/dev.yaml").write_text("name: [")
        version = git_repo.commit()
        dag, _, _ = git_repo.worker("prices", git_repo.git_bundle, version=version)
        assert commit_of(dag) == first


def test_below_a_folder_of_the_repository(git_repo: Repo) -> None:
    git_repo.git("mv", "include", "moved")
    (git_repo.root / "ml").mkdir()
    (git_repo.root / "moved").rename(git_repo.root / "ml" / "include")
    good = git_repo.commit()
    path = git_repo.root / "ml/include/projects/prices.yaml"
    path.write_text("name: [")
    version = git_repo.commit()
    source = {
        "classpath": "airflow.providers.git.bundles.git.GitDagBundle",
        "kwargs": {"tracking_ref": "main", "git_conn_id": "fleet", "subdir": "ml"},
    }

    def make(version: str) -> Any:
        from mlfleet.bundles import ManifestDagBundle

        return ManifestDagBundle(name="projects", source=source, version=version)

    assert commit_of(git_repo.worker("prices", make, version=version)[0]) == good


def test_folders_of_versions_that_airflow_has_cleaned_up_are_removed(git_repo: Repo) -> None:
    first = git_repo.git("rev-parse", "HEAD")
    _, _, folder = git_repo.worker("prices", git_repo.git_bundle, version=first)
    git_repo.write("toys", tagged("toys", "new"))
    second = git_repo.commit()
    shutil.rmtree(git_repo.storage / "projects" / "versions" / first)
    git_repo.worker("prices", git_repo.git_bundle, version=second)
    assert not folder.exists()
