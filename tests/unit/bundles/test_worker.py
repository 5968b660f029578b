"""What a worker need not do again: its project is laid out, and nothing has changed since."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlfleet.bundles import ManifestDagBundle, survey
from tests.unit.bundles.conftest import Repo
from tests.unit.manifest.samples import FULL


@pytest.fixture
def brought(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The versions that were asked of the source."""
    found: list[str] = []
    real = ManifestDagBundle._bring

    def bring(self: ManifestDagBundle, version: str | None) -> Any:
        found.append(str(version))
        return real(self, version)

    monkeypatch.setattr(ManifestDagBundle, "_bring", bring)
    return found


@pytest.fixture
def examined(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The manifests that were read."""
    found: list[str] = []
    real: Callable[..., Any] = survey.examine

    def examine(path: Path, *others: Any, **named: Any) -> Any:
        found.append(path.name)
        return real(path, *others, **named)

    monkeypatch.setattr(survey, "examine", examine)
    return found


class TestVersion:
    def test_the_second_task_asks_the_source_for_nothing(self, git_repo: Repo, brought: list[str]) -> None:
        first = git_repo.git("rev-parse", "HEAD")
        dag, _, _ = git_repo.worker("prices", git_repo.git_bundle, version=first)
        assert brought == [first]
        # As if the repository and its connection were gone.
        shutil.move(git_repo.root, git_repo.root.with_name("moved"))
        again, bag, _ = git_repo.worker("prices", git_repo.git_bundle, version=first)
        assert bag.import_errors == {}
        assert brought == [first]
        assert again.task_dict.keys() == dag.task_dict.keys()
        assert again.get_task("evaluate").evaluations == dag.get_task("evaluate").evaluations

    def test_it_has_its_version_and_its_files(self, git_repo: Repo, brought: list[str]) -> None:
        first = git_repo.git("rev-parse", "HEAD")
        git_repo.worker("prices", git_repo.git_bundle, version=first)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "prices")
            bundle = git_repo.git_bundle(first)
        assert bundle.supports_versioning
        version = bundle.get_current_version()
        assert version is not None
        assert version.version == first
        assert brought == [first]

    def test_another_project_or_version_is_laid_out(self, git_repo: Repo, brought: list[str]) -> None:
        first = git_repo.git("rev-parse", "HEAD")
        git_repo.worker("prices", git_repo.git_bundle, version=first)
        assert git_repo.worker("toys", git_repo.git_bundle, version=first)[0] is not None
        git_repo.write("prices", FULL.replace("max: 800", "max: 900"))
        second = git_repo.commit()
        dag, _, _ = git_repo.worker("prices", git_repo.git_bundle, version=second)
        assert brought == [first, first, second]
        assert {item["max"] for item in dag.get_task("evaluate").evaluations} == {900}

    @pytest.mark.parametrize("lost", ["source", "file"])
    def test_what_airflow_has_cleaned_up_is_brought_again(self, git_repo: Repo, brought: list[str], lost: str) -> None:
        first = git_repo.git("rev-parse", "HEAD")
        _, _, folder = git_repo.worker("prices", git_repo.git_bundle, version=first, projects_per_file=8)
        if lost == "source":
            shutil.rmtree(git_repo.git_bundle().versions_dir / first)
        else:
            min(folder.glob("group-*.py")).unlink()
        brought.clear()
        dag, _, _ = git_repo.worker("prices", git_repo.git_bundle, version=first, projects_per_file=8)
        assert dag is not None
        assert brought == [first]

    def test_the_last_good_definition_of_another_commit_keeps_that_commit(
        self, git_repo: Repo, brought: list[str]
    ) -> None:
        """Its files must not be cleaned up while it is in use, so the source is asked."""
        good = git_repo.git("rev-parse", "HEAD")
        git_repo.breaks("prices")
        broken = git_repo.commit()
        for _ in range(2):
            brought.clear()
            assert git_repo.worker("prices", git_repo.git_bundle, version=broken)[0] is not None
            assert brought == [broken, good]


class TestFolder:
    def test_the_second_task_reads_no_manifest(self, repo: Repo, examined: list[str]) -> None:
        dag, _, _ = repo.worker("prices", repo.bundle)
        again, bag, _ = repo.worker("prices", repo.bundle)
        assert bag.import_errors == {}
        assert again.task_dict.keys() == dag.task_dict.keys()
        assert examined == ["prices.yaml"]

    @pytest.mark.parametrize("what", ["manifest", "code", "environment", "defaults", "selected"])
    def test_a_change_is_read(
        self, repo: Repo, examined: list[str], what: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        repo.worker("prices", repo.bundle)
        if what == "manifest":
            repo.write("prices", FULL.replace("max: 800", "max: 900"))
        elif what == "code":
            (repo.root / "include/pipelines/prices/train.py").write_text("print('new')\n")
        elif what == "environment":
            path = repo.root / "include/environments/dev.yaml"
            path.write_text(path.read_text() + "# changed\n")
        elif what == "defaults":
            (repo.root / "include/defaults.yaml").write_text("retries: {count: 7}\n")
        else:
            monkeypatch.setenv("MLFLEET_ENV", "prod")
        dag, bag, _ = repo.worker("prices", repo.bundle)
        assert bag.import_errors == {}
        assert examined == ["prices.yaml"] * 2
        if what == "manifest":
            assert {item["max"] for item in dag.get_task("evaluate").evaluations} == {900}
        if what == "defaults":
            assert dag.default_args["retries"] == 7

    def test_a_broken_manifest_is_read_again_by_each_task(self, repo: Repo, examined: list[str]) -> None:
        """What is in force for it can change without it."""
        repo.bundle().initialize()
        repo.breaks("prices")
        for _ in range(2):
            examined.clear()
            assert repo.worker("prices", repo.bundle)[0] is not None
            assert examined == ["prices.yaml"]

    def test_mended_to_what_it_was_it_is_not_taken_for_the_broken_one(self, repo: Repo, examined: list[str]) -> None:
        repo.worker("prices", repo.bundle)
        text = repo.manifest("prices").read_text()
        repo.breaks("prices")
        repo.worker("prices", repo.bundle)
        repo.write("prices", text)
        repo.worker("prices", repo.bundle)
        assert examined == ["prices.yaml"] * 3
