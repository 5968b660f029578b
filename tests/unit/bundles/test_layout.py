"""The files that the DAG processor sees, over a plain folder."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from airflow.sdk import Param
from airflow.serialization.serialized_objects import DagSerialization

from mlfleet.bundles import ManifestDagBundle, layout, trial
from mlfleet.bundles.survey import Surroundings
from mlfleet.errors import ManifestError
from mlfleet.factory import dags
from mlfleet.manifest.loading import Repository, load_manifest
from tests.unit.bundles.conftest import ROOT, Repo, bag_of, files
from tests.unit.manifest.samples import FULL, MINIMAL

# What reads manifests, what speaks to systems: several times as long to import as a DAG takes to be built.
SLOW = ("mlfleet.clients", "mlfleet.manifest.models", "mlfleet.manifest.values", "mlfleet.remote", "mlfleet.systems",
        "mlfleet.triggers")  # fmt: skip
GOOD = {"cards.py", "prices.py", "toys.py"}


def changed(before: dict[str, tuple[int, int]], bundle: ManifestDagBundle) -> set[str]:
    after = files(bundle)
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def error_of(bundle: ManifestDagBundle, file: str) -> str:
    (message,) = bag_of(bundle.path / file, bundle.path).import_errors.values()
    return message


def test_one_file_per_project_and_airflow_finds_them(bundle: ManifestDagBundle) -> None:
    assert set(files(bundle)) == GOOD
    bag = bag_of(bundle.path, bundle.path)
    assert bag.import_errors == {}
    assert {dag_id: dag.relative_fileloc for dag_id, dag in bag.dags.items()} == {
        name: f"{name}.py" for name in ("cards", "prices", "toys")
    }


def test_nothing_changed_nothing_written(repo: Repo, bundle: ManifestDagBundle) -> None:
    before = files(bundle)
    bundle.refresh()
    again = repo.bundle()
    again.initialize()
    again.refresh()
    assert changed(before, bundle) == set()


def test_a_comment_in_a_manifest_is_no_change(repo: Repo, bundle: ManifestDagBundle) -> None:
    before = files(bundle)
    repo.write("cards", "# a comment\n" + MINIMAL.replace("prices", "cards"))
    bundle.refresh()
    assert changed(before, bundle) == set()


def test_only_the_edited_one_is_written(repo: Repo, bundle: ManifestDagBundle) -> None:
    before = files(bundle)
    repo.write("cards", MINIMAL.replace("prices", "cards") + "tags: [new]\n")
    bundle.refresh()
    assert changed(before, bundle) == {"cards.py"}
    assert "new" in bag_of(bundle.path, bundle.path).dags["cards"].tags


def test_edits_of_one_second_and_one_size_are_all_seen(
    repo: Repo, bundle: ManifestDagBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Byte code of the file before would be taken for current."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    for tag in ("aa", "bb", "cc"):
        repo.write("cards", MINIMAL.replace("prices", "cards") + f"tags: [{tag}]\n")
        bundle.refresh()
        assert tag in bag_of(bundle.path / "cards.py", bundle.path).dags["cards"].tags


def test_code_of_a_project_counts_as_the_project(repo: Repo, bundle: ManifestDagBundle) -> None:
    before = files(bundle)
    (repo.root / "include/pipelines/prices/train.py").write_text("print('other')\n")
    bundle.refresh()
    assert changed(before, bundle) == {"prices.py"}


@pytest.mark.parametrize("line", ["from include.pipelines._lib import component", "import components.evaluate as e"])
def test_what_projects_share_counts_for_those_that_take_something_of_it(
    repo: Repo, bundle: ManifestDagBundle, line: str
) -> None:
    library = repo.root / "include/pipelines/_lib/__init__.py"
    library.parent.mkdir()
    library.write_text("")
    (repo.root / "include/pipelines/prices/features.py").write_text(f"{line}\n")
    bundle.refresh()
    before = files(bundle)
    library.write_text("VERSION = 2\n")
    bundle.refresh()
    assert changed(before, bundle) == {"prices.py"}
    before = files(bundle)
    bundle.refresh()
    assert changed(before, bundle) == set()
    component = repo.root / "include/components/evaluate/__init__.py"
    component.parent.mkdir(parents=True)
    component.write_text("")
    bundle.refresh()
    assert changed(before, bundle) == {"prices.py"}


def test_the_environment_counts_for_all(repo: Repo, bundle: ManifestDagBundle) -> None:
    before = files(bundle)
    path = repo.root / "include/environments/dev.yaml"
    path.write_text(path.read_text().replace("kfp_default", "other_kfp"))
    bundle.refresh()
    assert changed(before, bundle) == GOOD
    assert bag_of(bundle.path, bundle.path).dags["prices"].get_task("default.kfp").conn_id == "other_kfp"


def test_deleted_and_renamed(repo: Repo, bundle: ManifestDagBundle) -> None:
    before = files(bundle)
    repo.manifest("cards").unlink()
    repo.manifest("toys").rename(repo.manifest("games"))
    bundle.refresh()
    assert set(files(bundle)) == {"prices.py", "toys.py"}, "the file is called like the project, not like the manifest"
    assert changed(before, bundle) == {"cards.py", "toys.py"}
    repo.write("games", MINIMAL.replace("prices", "games"))
    bundle.refresh()
    assert set(files(bundle)) == {"prices.py", "games.py"}


def test_a_broken_one_stays_as_it_was_and_is_named(repo: Repo, bundle: ManifestDagBundle) -> None:
    before = files(bundle)
    repo.breaks("prices")
    bundle.refresh()
    assert changed(before, bundle) == {"broken/projects/prices.py"}
    bag = bag_of(bundle.path, bundle.path)
    assert set(bag.dags) == {"cards", "prices", "toys"}
    assert set(bag.import_errors) == {"broken/projects/prices.py"}
    message = error_of(bundle, "broken/projects/prices.py")
    assert "include/projects/prices.yaml:14:1: error MF010: unknown key 'experimnets'" in message
    assert "^^^^^^^^^^^" in message
    assert "did you mean 'experiments'" in message
    (digest,) = (item.digest for item in layout.read_loader(bundle.path / "prices.py"))
    assert f"in force: the last good definition of prices, content {digest[:12]}" in message


def test_mended_the_error_is_gone(repo: Repo, bundle: ManifestDagBundle) -> None:
    before = files(bundle)
    repo.breaks("prices")
    bundle.refresh()
    repo.write("prices", FULL)
    bundle.refresh()
    assert changed(before, bundle) == set()
    assert bag_of(bundle.path, bundle.path).import_errors == {}


def test_a_new_processor_over_the_same_storage_knows_the_last_good_one(repo: Repo, bundle: ManifestDagBundle) -> None:
    before = files(bundle)
    repo.breaks("prices")
    for _ in range(2):
        repo.bundle().initialize()
        assert changed(before, bundle) == {"broken/projects/prices.py"}


def test_without_a_last_good_one_only_the_error_shows(repo: Repo) -> None:
    repo.breaks("prices")
    bundle = repo.bundle()
    bundle.initialize()
    assert set(files(bundle)) == {"cards.py", "toys.py", "broken/projects/prices.py"}
    assert "in force: nothing" in error_of(bundle, "broken/projects/prices.py")


@pytest.mark.parametrize("text", ["name: [", "", "\tname: x", "name: cards\n", "kind: Project\nname: other\n"])
def test_whatever_is_wrong_with_it_the_file_is_known_by_its_path(
    repo: Repo, bundle: ManifestDagBundle, text: str
) -> None:
    before = files(bundle)
    repo.write("cards", text)
    bundle.refresh()
    assert changed(before, bundle) == {"broken/projects/cards.py"}
    assert "the last good definition of cards" in error_of(bundle, "broken/projects/cards.py")


def test_renamed_and_broken_at_once(repo: Repo, bundle: ManifestDagBundle) -> None:
    before = files(bundle)
    repo.breaks("cards")
    repo.manifest("cards").rename(repo.manifest("decks"))
    bundle.refresh()
    assert changed(before, bundle) == {"broken/projects/decks.py"}


def test_the_second_of_two_with_one_name_is_refused(repo: Repo, bundle: ManifestDagBundle) -> None:
    before = files(bundle)
    repo.write("another", MINIMAL.replace("prices", "cards"))
    bundle.refresh()
    assert changed(before, bundle) == {"broken/projects/another.py"}
    message = error_of(bundle, "broken/projects/another.py")
    assert "include/projects/another.yaml:2:7: error MF015: 'cards' is include/projects/cards.yaml already" in message
    assert "in force: include/projects/cards.yaml" in message


def test_a_copy_cannot_take_the_place_of_a_project_that_is_being_mended(repo: Repo, bundle: ManifestDagBundle) -> None:
    before = files(bundle)
    repo.breaks("cards")
    repo.write("another", MINIMAL.replace("prices", "cards"))
    bundle.refresh()
    assert changed(before, bundle) == {"broken/projects/cards.py", "broken/projects/another.py"}
    assert "'cards' is include/projects/cards.yaml already" in error_of(bundle, "broken/projects/another.py")


def test_a_broken_environment_stops_nobody(
    repo: Repo, bundle: ManifestDagBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(bundle)
    (repo.root / "include/environments/dev.yaml").write_text("name: [")
    bundle.refresh()
    assert changed(before, bundle) == {"broken/environments/dev.py"}
    assert "include/environments/dev.yaml:1:7" in error_of(bundle, "broken/environments/dev.py")
    monkeypatch.setenv("MLFLEET_ENV", "prd")
    other = repo.bundle()
    other.initialize()
    assert "Did you mean 'prod'" in error_of(other, "broken/environments/prd.py")


def test_a_fault_of_the_factory_stays_with_its_project(
    repo: Repo, bundle: ManifestDagBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = trial.build_dags

    def build(plan: object) -> object:
        if plan.project.name == "cards":  # type: ignore[attr-defined]
            raise RuntimeError("no such luck")
        return real(plan)  # type: ignore[arg-type]

    monkeypatch.setattr(trial, "build_dags", build)
    before = files(bundle)
    for name in ("cards", "toys"):
        repo.write(name, MINIMAL.replace("prices", name) + "tags: [new]\n")
    bundle.refresh()
    assert changed(before, bundle) == {"toys.py", "broken/projects/cards.py"}
    message = error_of(bundle, "broken/projects/cards.py")
    assert "error MF020: no DAG could be built" in message
    assert "RuntimeError: no such luck" in message


def test_a_form_that_contradicts_itself_is_a_fault_of_the_factory(
    repo: Repo, bundle: ManifestDagBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing in a manifest makes one. Parsing does not check the values of params: here is where it must show."""
    monkeypatch.setattr(dags, "form_of", lambda project: {"release": Param("perhaps", enum=["auto", "never"])})
    repo.write("cards", MINIMAL.replace("prices", "cards") + "tags: [new]\n")
    bundle.refresh()
    message = error_of(bundle, "broken/projects/cards.py")
    assert "error MF020: no DAG could be built" in message
    assert "ParamValidationError: Invalid input for param release: 'perhaps' is not one of" in message


def test_a_repository_without_manifests(tmp_path: Path, repo: Repo) -> None:
    bundle = ManifestDagBundle(name="empty", path=str(tmp_path / "nowhere"))
    bundle.initialize()
    assert files(bundle) == {}
    assert bundle.path.is_dir()


@pytest.mark.parametrize("after", range(5))
def test_a_crash_leaves_old_or_new_files_and_the_next_one_ends_the_work(
    repo: Repo, bundle: ManifestDagBundle, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """The process dies at one rename or delete after another."""
    for name in ("cards", "toys"):
        repo.write(name, MINIMAL.replace("prices", name) + "tags: [new]\n")
    repo.manifest("prices").unlink()
    steps = iter(range(100))

    def die(real: object) -> object:
        def step(*args: object, **kwargs: object) -> object:
            if next(steps) >= after:
                raise KeyboardInterrupt
            return real(*args, **kwargs)  # type: ignore[operator]

        return step

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", die(os.replace))
        patch.setattr(Path, "unlink", die(Path.unlink))
        if after < 3:
            with pytest.raises(KeyboardInterrupt):
                repo.bundle().initialize()
        else:
            repo.bundle().initialize()
    bag = bag_of(bundle.path, bundle.path)
    assert bag.import_errors == {}
    assert {"cards", "toys"} <= set(bag.dags)
    assert all(dag.tags in ({"mlfleet", "@acme/pricing"}, {"mlfleet", "@acme/pricing", "new"})
               for name, dag in bag.dags.items() if name != "prices")  # fmt: skip
    repo.bundle().initialize()
    assert {path.name for path in bundle.path.iterdir() if path.name != "__pycache__"} == {"cards.py", "toys.py"}
    assert all("new" in dag.tags for dag in bag_of(bundle.path, bundle.path).dags.values())


def test_two_processes_at_once(repo: Repo) -> None:
    """Each lays out again and again while the manifests change under them; whoever looks finds whole files."""
    script = (
        "import sys\nfrom mlfleet.bundles import ManifestDagBundle\n"
        "for _ in range(10):\n"
        f"    ManifestDagBundle(name='projects', path={str(repo.root)!r}).initialize()\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": "plugins"},
                                stderr=subprocess.PIPE) for _ in range(2)]  # fmt: skip
    folder = repo.bundle().path
    number = 0
    while any(process.poll() is None for process in running):
        number += 1
        repo.write("toys", MINIMAL.replace("prices", "toys") + f"tags: [t{number}]\n")
        for path in folder.glob("*.py"):
            compile(path.read_text(), str(path), "exec")
            assert layout.read_loader(path)
        time.sleep(0.02)
    for process in running:
        assert process.wait() == 0, process.stderr and process.stderr.read().decode()
        assert process.stderr
        process.stderr.close()
    bundle = repo.bundle()
    bundle.initialize()
    assert set(files(bundle)) == GOOD
    assert not list(folder.glob(".*.tmp"))


def test_the_default_is_the_folder_around_dags(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow.settings.DAGS_FOLDER", str(repo.root / "dags"))
    bundle = ManifestDagBundle(name="projects")
    bundle.initialize()
    assert set(files(bundle)) == GOOD
    assert (bundle.supports_versioning, bundle.get_current_version()) == (False, None)


def test_awkward_texts_survive(repo: Repo, bundle: ManifestDagBundle) -> None:
    repo.write("cards", MINIMAL.replace("prices", "cards") + "title: \"'''\\\\ Ä \\u2028 'x'\"\ntags: [\"'''\"]\n")
    bundle.refresh()
    dag = bag_of(bundle.path, bundle.path).dags["cards"]
    assert dag.dag_display_name == "'''\\ Ä \u2028 'x'"
    before = files(bundle)
    repo.breaks("cards")
    repo.bundle().initialize()
    repo.bundle().initialize()
    assert changed(before, bundle) == {"broken/projects/cards.py"}


def test_the_projects_of_this_repository(repo: Repo) -> None:
    bundle = ManifestDagBundle(name="ours", path=str(ROOT))
    bundle.initialize()
    bag = bag_of(bundle.path, bundle.path)
    assert bag.import_errors == {}
    assert {"price-suggestion", "flight-delay"} <= set(bag.dags)


class TestGroups:
    def test_about_so_many_share_a_file_and_one_edit_touches_one_file(self, repo: Repo) -> None:
        for number in range(40):
            repo.write(f"p{number}")
        bundle = repo.bundle(projects_per_file=8)
        bundle.initialize()
        before = files(bundle)
        assert 3 <= len(before) <= 8
        bag = bag_of(bundle.path, bundle.path)
        assert (len(bag.dags), bag.import_errors) == (43, {})
        repo.write("p7", MINIMAL.replace("prices", "p7") + "tags: [new]\n")
        bundle.refresh()
        (file,) = changed(before, bundle)
        before = files(bundle)
        repo.breaks("p7")
        bundle.refresh()
        assert changed(before, bundle) == {"broken/projects/p7.py"}
        assert bag_of(bundle.path / file, bundle.path).dags["p7"].tags >= {"new"}

    def test_a_new_project_moves_no_other_one(self) -> None:
        names = [f"p{number}" for number in range(100)]
        before = layout.file_names(names, 8)
        after = layout.file_names([*names, "one-more"], 8, before)
        assert {file: [name for name in group if name != "one-more"] for file, group in after.items()} == before

    def test_groups_split_and_join_late(self) -> None:
        names = [f"p{number}" for number in range(96)]
        split = layout.file_names([*names, "one-more"], 8, layout.file_names(names, 8))
        assert len(split) > len(layout.file_names(names, 8))
        assert layout.file_names(names, 8, split).keys() == split.keys(), "going back does not join at once"

    def test_a_worker_writes_every_name_its_file_can_have(self, repo: Repo) -> None:
        for count in (1, 10, 100, 1000):
            names = [f"p{number}" for number in range(count)]
            (file,) = [file for file, group in layout.file_names(names, 8).items() if "p0" in group]
            assert file in layout.possible_names("p0", 8)
        _, _, folder = repo.worker("cards", repo.bundle, projects_per_file=8)
        assert {path.name for path in folder.glob("*.py")} == set(layout.possible_names("cards", 8))
        for file in folder.glob("*.py"):
            assert set(bag_of(file, folder).dags) == {"cards"}


def test_what_an_older_mlfleet_has_laid_out_is_built_alike(repo: Repo, bundle: ManifestDagBundle) -> None:
    """Before `manifest.kept` a definition held the project as a manifest has it."""
    (new,) = layout.read_loader(bundle.path / "prices.py")
    around = Surroundings.of(Repository(repo.root))
    environment = around.environment
    project = load_manifest(repo.manifest("prices"), around.repository, around.all_environments).require()
    data = {
        "project": project.model_dump(mode="json", by_alias=True, exclude_none=True),
        "environment": environment.model_dump(mode="json"),
    }
    old = new._replace(text=json.dumps(data))
    (was,), (now,) = (dags.build_dags(each.plan(repo.root, "c")) for each in (old, new))
    assert DagSerialization.to_dict(was) == DagSerialization.to_dict(now)


class TestWorker:
    def test_it_lays_out_and_builds_its_own_dag_only(self, repo: Repo, bundle: ManifestDagBundle) -> None:
        repo.write("toys", "name: [")
        before = files(bundle)
        dag, bag, folder = repo.worker("prices", repo.bundle)
        assert dag.task_dict["default.kfp"]
        assert bag.import_errors == {}
        assert [path.name for path in folder.rglob("*.py")] == ["prices.py"]
        assert folder != bundle.path
        assert changed(before, bundle) == set(), "what the DAG processor has laid out is not a worker's to change"

    def test_it_imports_no_system_of_others(self, repo: Repo) -> None:
        """Airflow's look for an asset's scheme would import the google provider: seconds in every task process."""
        script = textwrap.dedent(f"""
            import sys
            from airflow.dag_processing.dagbag import DagBag
            from mlfleet.bundles import ManifestDagBundle
            bundle = ManifestDagBundle(name="projects", path={str(repo.root)!r})
            bundle.initialize()
            bag = DagBag(bundle.path / "prices.py", bundle_path=bundle.path)
            assert set(bag.dags) == {{"prices"}}, bag.import_errors
            heavy = ("airflow.providers.google.", "google.cloud.", "kfp", "polyaxon", "kubernetes")
            print([name for name in sys.modules if name.startswith(heavy) and not name.endswith("get_provider_info")])
            print([name for name in sys.modules if name.startswith("mlfleet.")])
            """)
        environment = {**os.environ, "PYTHONPATH": "plugins", "_AIRFLOW_PARSING_CONTEXT_DAG_ID": "prices"}
        for first in (True, False):
            ran = subprocess.run(
                [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
            )
            heavy, ours = map(ast.literal_eval, ran.stdout.splitlines()[-2:])
            assert heavy == []
            # Laid out already, the DAG is built from nothing but the factory and the operators.
            assert first or {name for name in ours if name.startswith(SLOW)} == {
                "mlfleet.remote", "mlfleet.remote.policies", "mlfleet.systems", "mlfleet.systems.labels",
                "mlfleet.systems.polyaxon_training", "mlfleet.triggers", "mlfleet.triggers.events",
            }  # fmt: skip

    def test_its_tasks_find_the_files_of_the_repository(self, repo: Repo) -> None:
        from mlfleet.operators.base import find_file

        dag, _, _ = repo.worker("prices", repo.bundle)
        task = dag.get_task("default.polyaxon")
        assert find_file(task.polyaxonfile, {"dag": dag}) == repo.root / task.polyaxonfile  # type: ignore[typeddict-item]

    def test_broken_meanwhile_it_runs_what_the_processor_has_laid_out(
        self, repo: Repo, bundle: ManifestDagBundle
    ) -> None:
        repo.breaks("prices")
        dag, _, _ = repo.worker("prices", repo.bundle)
        assert dag is not None

    def test_on_another_machine_it_runs_what_it_ran_before(self, repo: Repo) -> None:
        repo.worker("prices", repo.bundle)
        repo.breaks("prices")
        dag, _, _ = repo.worker("prices", repo.bundle)
        assert dag is not None

    def test_without_a_last_good_one_it_is_told_why(self, repo: Repo) -> None:
        repo.breaks("prices")
        with pytest.raises(ManifestError, match=r"include/projects/prices\.yaml:14:1: error MF010"):
            repo.worker("prices", repo.bundle)
        with pytest.raises(ManifestError, match="there is no manifest of a project 'nobody'"):
            repo.worker("nobody", repo.bundle)

    def test_folders_of_projects_that_are_gone_are_removed(self, repo: Repo, bundle: ManifestDagBundle) -> None:
        _, _, folder = repo.worker("cards", repo.bundle)
        repo.manifest("cards").unlink()
        bundle.refresh()
        assert not folder.exists()


def test_a_change_of_the_defaults_is_one_of_the_projects_that_it_changes(repo: Repo, bundle: ManifestDagBundle) -> None:
    defaults = repo.root / "include/defaults.yaml"
    repo.write("cards", MINIMAL.replace("prices", "cards") + "schedule: {cron: '@daily'}\n")
    repo.write("toys", MINIMAL.replace("prices", "toys") + "tags: [own]\n")
    bundle.refresh()
    before = files(bundle)
    defaults.write_text("schedule: {timezone: Asia/Tokyo}\n")
    bundle.refresh()
    assert "cards.py" in changed(before, bundle)
    assert "toys.py" not in changed(before, bundle)
    assert bag_of(bundle.path / "cards.py", bundle.path).dags["cards"].timezone.name == "Asia/Tokyo"
    before = files(bundle)
    defaults.unlink()
    bundle.refresh()
    assert "cards.py" in changed(before, bundle)
    assert "toys.py" not in changed(before, bundle)


def test_broken_defaults_are_told_once_and_change_no_project(repo: Repo, bundle: ManifestDagBundle) -> None:
    before = files(bundle)
    (repo.root / "include/defaults.yaml").write_text("retires: {count: 2}\n")
    bundle.refresh()
    assert changed(before, bundle) == {"broken/defaults.py"}
    error = error_of(bundle, "broken/defaults.py")
    assert "include/defaults.yaml:1:1: error MF010" in error
    assert "in force: every project as it was" in error


def test_a_target_makes_the_dag_of_its_environment(
    repo: Repo, bundle: ManifestDagBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repo.root / "include/environments/prod.yaml").write_text(
        (repo.root / "include/environments/dev.yaml").read_text().replace("name: dev", "name: prod")
    )
    repo.write("toys", MINIMAL.replace("prices", "toys") + "targets: {dev: {tags: [small]}, prod: {tags: [live]}}\n")
    bundle.refresh()
    assert "small" in bag_of(bundle.path / "toys.py", bundle.path).dags["toys"].tags
    monkeypatch.setenv("MLFLEET_ENV", "prod")
    live = repo.bundle()
    live.initialize()
    assert "live" in bag_of(live.path / "toys.py", live.path).dags["toys"].tags
