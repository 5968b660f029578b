from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mlfleet.errors import ManifestError
from mlfleet.manifest.diagnostics import Diagnostic, errors
from mlfleet.manifest.loading import Loaded, Repository, check_against_rest, find_manifest, load_fleet, load_manifest
from tests.unit.manifest.samples import FULL, MINIMAL

DATA = Path(__file__).parents[2] / "data"
KFP = "training: {kfp: {pipeline: 'pipeline.py:p'}}\n"
POLYAXON = "training:\n  polyaxon:\n    polyaxonfile: polyaxonfile.yaml\n"
Load = Callable[[str], Loaded]


def only(loaded: Loaded) -> Diagnostic:
    assert len(loaded.diagnostics) == 1, "\n".join(map(str, loaded.diagnostics))
    return loaded.diagnostics[0]


def test_the_deck_manifest_is_valid_as_it_stands(repository: Repository) -> None:
    loaded = load_manifest(DATA / "deck-manifest.yml", repository)
    project = loaded.require()
    assert project.name == "mercari-us-ml-price-suggestion"
    assert [experiment.name for experiment in project.experiments] == ["Default", "Sneakers", "Trading Cards"]
    assert [experiment.slug for experiment in project.experiments] == ["default", "sneakers", "trading-cards"]
    assert [(found.id, found.severity, found.line, found.column) for found in loaded.diagnostics] == [
        ("MF007", "warning", line, 11) for line in (5, 6, 7)
    ]


def test_a_full_manifest_has_no_findings(load: Load) -> None:
    loaded = load(FULL)
    assert loaded.diagnostics == []
    project = loaded.require()
    assert project.schedule is not None
    assert project.window.days == 7
    assert project.training is not None
    assert project.training.kfp is not None
    assert project.training.kfp.file == "pipeline.py"


@pytest.mark.parametrize(
    ("old", "new", "id", "place", "says"),
    [
        ("title:", "titel:", "MF010", (4, 1), "did you mean 'title'"),
        ("    files:", "    file:", "MF010", (22, 5), "did you mean 'files'"),
        ("concurrency: 2", "concurency: 2", "MF010", (24, 26), "did you mean 'concurrency'"),
        ('  - github: "@acme/pricing"\n    email', "  - email", "MF011", (6, 5), "'github' is missing"),
        ("kind: Project", "kidn: Project", "MF010", (2, 1), "did you mean 'kind'"),
        ("kind: Project\n", "", "MF011", (1, 1), "'kind' is missing"),
        ("kind: Project", "kind: project", "MF012", (2, 7), "did you mean 'Project'"),
        ("mlfleet/v1", "mlfleet/v2", "MF012", (1, 13), "'mlfleet/v1'"),
        ("name: prices", "name: Prices!", "MF012", (3, 7), "'prices'"),
        ("catchup: false", 'catchup: "false"', "MF012", (13, 89), "true or false"),
        ("direction: min, max", "direction: lowest, max", "MF012", (31, 38), "min, max"),
        ("max: 800", 'max: "800"', "MF012", (31, 48), "expected a number"),
        ("concurrency: 2", "concurrency: 0", "MF012", (24, 39), "greater than or equal to 1"),
        ("tags: [regression]", "tags: regression", "MF012", (10, 7), "expected a list"),
        ("title: Price suggestion", "title: 5", "MF012", (4, 8), 'put it in quotes: "5"'),
        ("0 3 * * *", "0 3 * *", "MF012", (13, 18), "five fields"),
        ("Europe/Berlin", "Europe/Berlim", "MF012", (13, 65), "did you mean 'Europe/Berlin'"),
        ("timeout: 90m", "timeout: 90", "MF012", (30, 14), "a duration is text"),
        ("2026-11-01", "2026-11-31", "MF012", (13, 43), "no day"),
        ("ml/prices", "registry.example.com:5000/ml/prices", "MF012", (33, 15), "no registry host"),
        ("pipeline.py:package", "pipeline.py", "MF012", (28, 15), "file and function"),
        ("title: Price suggestion", 'title: "{{ ds }}"', "MF013", (4, 8), "no Jinja"),
        ("${data.end}", "${data.ende}", "MF014", (29, 61), "did you mean 'data.end'"),
        ("${env.data_root}", "${env.dataroot}", "MF014", (23, 20), "did you mean 'data_root'"),
        ("${env.base_image}", "${experiment.name}", "MF014", (34, 16), "has no value here"),
        ("title: Price suggestion", 'title: "${project.name}"', "MF014", (4, 8), "takes no references"),
        ("segment: cards", "segmnt: cards", "MF014", (23, 58), "'Trading Cards' has no param 'segment'"),
        ("    best_by: {metric: mae, direction: min}\n", "", "MF014", (28, 21), "no value here"),
        ("name: Trading Cards", "name: default", "MF015", (17, 11), "taken on line 15"),
        ("name: Trading Cards", "name: Release", "MF015", (17, 11), "choose another name"),
        ("files: [train.py, ", "files: [trian.py, ", "MF017", (22, 13), "did you mean 'train.py'"),
        ("files: [train.py, ", "files: [../../../../outside.py, ", "MF018", (22, 13), "leaves the repository"),
        ("files: [train.py, ", "files: [../other/train.py, ", "MF018", (22, 13), "leaves the project's folder"),
        ("polyaxonfile: polyaxonfile.yaml", "polyaxonfile: /etc/hosts", "MF018", (21, 19), "leaves the repository"),
    ],
)  # fmt: skip
def test_one_fault_one_finding(load: Load, old: str, new: str, id: str, place: tuple[int, int], says: str) -> None:
    assert FULL.count(old) >= 1
    loaded = load(FULL.replace(old, new, 1))
    found = only(loaded)
    assert (found.id, (found.line, found.column)) == (id, place), str(found)
    assert says in str(found)
    assert found.file == "include/projects/prices.yaml"
    assert loaded.project is None


@pytest.mark.parametrize(
    ("added", "id", "says"),
    [
        ("deploy: {spinnaker: {application: a, pipeline: b}}", "MF016", "needs `image`"),
        ("evaluation: {metric: mae, direction: min, max: 1}", "MF016", "needs `training`"),
        ("training: {}", "MF016", "`polyaxon` or `kfp`"),
        (f"{KFP}evaluation: {{metric: mae, direction: min}}", "MF011", "`min` or `max`"),
        (f"{KFP}evaluation: {{metric: m, direction: min, min: 2, max: 1}}", "MF012", "both"),
        ("schedule: {cron: '@daily', asset: other}", "MF012", "either"),
        ("schedule: {asset: prices}", "MF012", "its own"),
        ("schedule: {cron: '@daily', catchup: true}", "MF011", "start_date"),
        (f"{POLYAXON}    matrix: {{kind: random, params: {{a: 1}}}}", "MF011", "numRuns"),
        (f"{POLYAXON}    matrix: {{kind: grid}}", "MF011", "`params`"),
        (f"{POLYAXON}    best_by: {{metric: a, direction: min}}", "MF016", "matrix"),
    ],
)  # fmt: skip
def test_sections_that_need_each_other(load: Load, added: str, id: str, says: str) -> None:
    found = only(load(f"{MINIMAL}{added}\n"))
    assert found.id == id
    assert says in str(found)


def test_all_errors_at_once(load: Load) -> None:
    text = FULL.replace("title:", "titel:", 1).replace("0 3 * * *", "x").replace("train.py", "gone.py")
    text = text.replace("${data.end}", "${data.now}").replace("catchup: false", "catchup: no")
    loaded = load(text)
    assert {found.id for found in loaded.diagnostics} == {"MF005", "MF010", "MF012", "MF014", "MF017"}
    with pytest.raises(ManifestError) as caught:
        loaded.require()
    assert str(caught.value).count("include/projects/prices.yaml:") == len(errors(loaded.diagnostics))


def test_a_folder_of_manifests_that_cannot_be_read_is_not_an_empty_one(tmp_path: Path) -> None:
    """Else a share that fails would take every DAG away."""
    (tmp_path / "include").mkdir()
    assert Repository(tmp_path).manifests() == []
    (tmp_path / "include/projects").symlink_to("projects")  # a loop
    with pytest.raises(ManifestError, match="include/projects: Too many levels of symbolic links"):
        Repository(tmp_path).manifests()


def test_what_an_editor_keeps_beside_a_manifest_is_none(repository: Repository) -> None:
    before = repository.manifests()
    (repository.projects / ".#prices.yaml").symlink_to("somebody@host.1234")
    (repository.projects / ".prices.yaml").write_text("half")
    (repository.projects / "lost.yaml").symlink_to("nowhere.yaml")
    assert repository.manifests() == sorted([*before, repository.projects / "lost.yaml"])


def test_a_link_may_lead_within_the_repository_and_not_out_of_it(
    load: Load, repository: Repository, tmp_path: Path
) -> None:
    shared = repository.root / "include" / "components"
    shared.mkdir()
    (shared / "train.py").write_text("")
    file = repository.folder_of("prices") / "train.py"
    file.unlink()
    os.symlink("../../components/train.py", file)
    assert load(FULL).diagnostics == []
    file.unlink()
    os.symlink("/etc/hostname", file)
    assert only(load(FULL)).id == "MF018"


def test_files_that_cannot_be_read(repository: Repository) -> None:
    for name, content in (("big.yaml", b"a: b\n" * 60_000), ("latin.yaml", b"name: \xe4"), ("empty.yaml", b"")):
        (repository.projects / name).write_bytes(content)
    found = {loaded.path.name: only(loaded).id for loaded in load_fleet(repository).manifests}
    assert found == {"big.yaml": "MF001", "latin.yaml": "MF001", "empty.yaml": "MF003"}
    assert only(load_manifest(repository.projects / "gone.yaml", repository)).id == "MF001"


def test_a_newcomer_cannot_take_a_name(repository: Repository) -> None:
    (repository.projects / "prices.yaml").write_text(MINIMAL)
    (repository.projects / "a-newcomer.yml").write_text(MINIMAL)
    newcomer, holder = load_fleet(repository).manifests
    assert holder.project is not None
    assert newcomer.project is None
    assert "include/projects/prices.yaml" in str(only(newcomer))


def test_a_broken_holder_keeps_its_name(repository: Repository) -> None:
    """Otherwise a copy would take the place of its DAG while it is being mended."""
    (repository.projects / "prices.yaml").write_text(MINIMAL + "titel: x\n")
    (repository.projects / "a-newcomer.yml").write_text(MINIMAL)
    newcomer, holder = load_fleet(repository).manifests
    assert [only(newcomer).id, only(holder).id] == ["MF015", "MF010"]
    assert newcomer.project is None


def test_a_few_files_are_checked_against_all(repository: Repository) -> None:
    (repository.projects / "prices.yaml").write_text(MINIMAL)
    newcomer = repository.projects / "a-newcomer.yml"
    newcomer.write_text(MINIMAL + "schedule: {asset: price}\n")
    fleet = load_fleet(repository, [newcomer])
    assert fleet.all_diagnostics() == []
    check_against_rest(fleet, repository)
    assert [found.id for found in fleet.all_diagnostics()] == ["MF015", "MF019"]
    assert "did you mean 'prices'" in str(fleet.all_diagnostics()[1])
    assert len(fleet.manifests) == 1


def test_a_project_that_nobody_has_is_only_a_warning(repository: Repository) -> None:
    """Who removes a project must not take those down that waited for it."""
    path = repository.projects / "cards.yaml"
    path.write_text(MINIMAL.replace("prices", "cards") + "schedule: {asset: prices}\n")
    (loaded,) = load_fleet(repository).manifests
    assert (only(loaded).id, only(loaded).severity) == ("MF019", "warning")
    assert loaded.project is not None
    (repository.projects / "prices.yaml").write_text(MINIMAL + "titel: broken\n")
    assert load_fleet(repository).manifests[0].diagnostics == []
    fleet = load_fleet(repository, [path])
    check_against_rest(fleet, repository)
    assert fleet.all_diagnostics() == []


def test_a_broken_environment_is_reported_once(repository: Repository) -> None:
    (repository.projects / "prices.yaml").write_text(MINIMAL)
    (repository.environments / "prod.yaml").write_text("name: prud\nvalues: {x: '${env.y}'}\nconections: {}\n")
    fleet = load_fleet(repository)
    assert [found.id for found in fleet.all_diagnostics()] == ["MF010"]
    (repository.environments / "prod.yaml").write_text("name: prud\nvalues: {x: '${env.y}'}\n")
    assert sorted(found.id for found in load_fleet(repository).all_diagnostics()) == ["MF014", "MF015"]


def test_find_manifest(repository: Repository) -> None:
    (repository.projects / "prices.yaml").write_text(MINIMAL)
    (repository.projects / "other-file.yml").write_text(MINIMAL.replace("prices", "cards"))
    (repository.projects / "broken.yaml").write_text("a: [")
    assert find_manifest(repository, "prices") == repository.projects / "prices.yaml"
    assert find_manifest(repository, "cards") == repository.projects / "other-file.yml"
    assert find_manifest(repository, "broken") == repository.projects / "broken.yaml"
    assert find_manifest(repository, "nobody") is None
