"""Targets and defaults: what they make of a manifest, where its values come from, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlfleet.manifest.diagnostics import errors
from mlfleet.manifest.document import parse
from mlfleet.manifest.layers import resolve
from mlfleet.manifest.loading import Fleet, Loaded, Repository, load_fleet
from mlfleet.manifest.rendering import origins_of, rendered
from tests.unit.manifest.samples import FULL, MINIMAL


@pytest.fixture
def repository(repository: Repository) -> Repository:
    (repository.environments / "prod.yaml").write_text("name: prod\nvalues: {data_root: gs://data, base_image: base}\n")
    return repository


def fleet_of(
    repository: Repository, manifest: str = MINIMAL, defaults: str = "", environment: str | None = None
) -> Fleet:
    (repository.projects / "prices.yaml").write_text(manifest)
    if defaults:
        repository.defaults.write_text(defaults)
    return load_fleet(repository, environment=environment)


def one(fleet: Fleet) -> Loaded:
    assert [str(found) for found in fleet.all_diagnostics()] == []
    (loaded,) = fleet.manifests
    return loaded


def told(fleet: Fleet) -> list[tuple[str, str, str, int]]:
    return [(found.id, found.path, Path(found.file).name, found.line) for found in fleet.all_diagnostics()]


TARGETS = """\
targets:
  dev:
    schedule: null
    experiments:
      - name: Trading Cards
        params: {segment: toys}
      - name: Small
        params: {segment: few}
    training: {polyaxon: {matrix: {params: {depth: {value: [2]}}}, files: [train.py]}}
"""


def test_mappings_merge_by_key_experiments_by_name_and_other_lists_are_replaced(repository: Repository) -> None:
    dev = one(fleet_of(repository, FULL + TARGETS, environment="dev")).require()
    assert dev.schedule is None
    assert [(item.name, item.params) for item in dev.experiments] == [
        ("Default", {"segment": "all"}), ("Trading Cards", {"segment": "toys"}), ("Small", {"segment": "few"}),
    ]  # fmt: skip
    assert dev.training
    assert dev.training.polyaxon
    assert dev.training.polyaxon.matrix
    assert dev.training.polyaxon.matrix.params == {"depth": {"kind": "choice", "value": [2]}}
    assert dev.training.polyaxon.matrix.concurrency == 2
    assert dev.training.polyaxon.files == ["train.py"]


def test_another_environment_notices_nothing(repository: Repository) -> None:
    without = one(fleet_of(repository, FULL, environment="prod")).require()
    assert one(fleet_of(repository, FULL + TARGETS, environment="prod")).require() == without


def test_the_variable_selects_the_environment(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    text = MINIMAL + "targets: {prod: {retries: {count: 5}}}\n"
    assert one(fleet_of(repository, text)).require().retries.count == 1
    monkeypatch.setenv("MLFLEET_ENV", "prod")
    assert one(fleet_of(repository, text)).require().retries.count == 5


def test_the_order_of_the_layers(repository: Repository) -> None:
    defaults = """\
retries: {count: 2, delay: 2m}
tags: [house]
links: [{title: Runbook, url: "https://house.example.com"}, {title: Board, url: "https://board.example.com"}]
targets: {dev: {retries: {count: 3, delay: 3m}, tags: [development]}}
"""
    manifest = (
        MINIMAL
        + """\
retries: {count: 4}
links: [{title: Runbook, url: "https://prices.example.com"}]
targets: {dev: {title: In development}}
"""
    )
    dev = one(fleet_of(repository, manifest, defaults, "dev")).require()
    assert (dev.retries.count, dev.retries.delay.seconds, dev.tags, dev.title) == (
        4, 180, ["development"], "In development"
    )  # fmt: skip
    assert [link.url for link in dev.links] == ["https://prices.example.com", "https://board.example.com"]
    prod = one(fleet_of(repository, manifest, defaults, "prod")).require()
    assert (prod.retries.count, prod.retries.delay.seconds, prod.tags, prod.title) == (4, 120, ["house"], None)


def test_defaults_switch_nothing_on(repository: Repository) -> None:
    defaults = """\
schedule: {timezone: Asia/Tokyo}
training: {polyaxon: {timeout: 2h}, kfp: {caching: true}}
evaluation: {direction: min}
image: {dockerfile: Dockerfile}
deploy: {timeout: 2h}
"""
    assert one(fleet_of(repository, MINIMAL, defaults)).require() == one(fleet_of(repository, MINIMAL)).require()
    polyaxon = MINIMAL + "schedule: {cron: '@daily'}\ntraining: {polyaxon: {polyaxonfile: polyaxonfile.yaml}}\n"
    project = one(fleet_of(repository, polyaxon, defaults)).require()
    assert project.schedule
    assert project.schedule.timezone == "Asia/Tokyo"
    assert project.training
    assert project.training.polyaxon
    assert project.training.kfp is None
    assert project.training.polyaxon.timeout.total_seconds() == 7200


def test_a_pool_of_the_defaults_is_for_those_that_have_the_task(repository: Repository) -> None:
    defaults = "pools: {default: ml, build_image: builds, kfp: gpu}\n"
    pools = one(fleet_of(repository, MINIMAL, defaults)).require().pools
    assert pools
    assert pools.model_dump(exclude_none=True) == {"default": "ml"}
    pools = one(fleet_of(repository, MINIMAL + "image: {}\n", defaults)).require().pools
    assert pools
    assert pools.model_dump(exclude_none=True) == {"default": "ml", "build_image": "builds"}


def test_a_target_that_takes_a_section_away_takes_its_defaults_too(repository: Repository) -> None:
    manifest = MINIMAL + "schedule: {cron: '@daily'}\ntargets: {dev: {schedule: null}}\n"
    assert one(fleet_of(repository, manifest, "schedule: {timezone: Asia/Tokyo}\n", "dev")).require().schedule is None


def test_each_value_knows_where_it_comes_from(repository: Repository) -> None:
    manifest = MINIMAL + "retries: {count: 4}\ntargets:\n  dev:\n    tags: [development]\n"
    loaded = one(fleet_of(repository, manifest, "links:\n  - {title: Board, url: 'https://b.example.com'}\n", "dev"))
    origins = origins_of(loaded.require(), loaded.document)
    assert origins["retries.count"] == "include/projects/prices.yaml:7"
    assert origins["tags[0]"] == "include/projects/prices.yaml:10 (target dev)"
    assert origins["links[0].url"] == "include/defaults.yaml:2"
    assert origins["retries.delay"] == "default"


def test_what_is_wrong_in_a_target_is_told_there_whatever_environment_is_selected(repository: Repository) -> None:
    manifest = MINIMAL + "targets:\n  prod:\n    retires: {count: 2}\n    schedule: {cron: soon}\n"
    fleet = fleet_of(repository, manifest, environment="dev")
    assert told(fleet) == [
        ("MF010", "targets.prod.retires", "prices.yaml", 9),
        ("MF012", "targets.prod.schedule.cron", "prices.yaml", 10),
    ]
    assert fleet.manifests[0].project is None


def test_a_base_need_not_be_whole_when_every_environment_makes_it_so(repository: Repository) -> None:
    targets = "targets:\n" + "".join(
        f"  {name}: {{deploy: {{spinnaker: {{pipeline: {name}}}}}}}\n" for name in ("dev", "prod")
    )
    manifest = MINIMAL + "image: {}\ndeploy: {spinnaker: {application: prices}}\n" + targets
    deploy = one(fleet_of(repository, manifest, environment="prod")).require().deploy
    assert deploy
    assert (deploy.spinnaker.application, deploy.spinnaker.pipeline) == ("prices", "prod")
    (found,) = errors(
        fleet_of(repository, manifest.replace("  dev: ", "  prod2: ").replace("  prod2:", "#")).all_diagnostics()
    )
    assert (found.id, found.path) == ("MF011", "deploy.spinnaker.pipeline")


@pytest.mark.parametrize(
    ("targets", "id", "path"),
    [
        ("{}", "MF012", "targets"),
        ("[dev]", "MF012", "targets"),
        ("{dve: {title: x}}", "MF024", "targets.dve"),
        ("{dev: 5}", "MF012", "targets.dev"),
        ("{dev: {}}", "MF012", "targets.dev"),
        ("{dev: {name: other}}", "MF024", "targets.dev.name"),
        ("{dev: {targets: {prod: {}}}}", "MF024", "targets.dev.targets"),
        ("{dev: {experiments: []}}", "MF012", "targets.dev.experiments"),
        ("{dev: {experiments: [{name: Default}, {name: Default}]}}", "MF015", "targets.dev.experiments[1].name"),
        ("{dev: {title: '{{ ds }}'}}", "MF013", "targets.dev.title"),
        ("{dev: {training: {polyaxon: {polyaxonfile: gone.yaml}}}}", "MF017",
         "targets.dev.training.polyaxon.polyaxonfile"),
    ],
)  # fmt: skip
def test_faults_of_targets(repository: Repository, targets: str, id: str, path: str) -> None:
    assert (id, path) in [item[:2] for item in told(fleet_of(repository, MINIMAL + f"targets: {targets}\n"))]


@pytest.mark.parametrize(
    ("defaults", "expected"),
    [
        ("retires: {count: 2}\n", ("MF010", "retires", "defaults.yaml", 1)),
        ("retries: {count: 2.5}\n", ("MF012", "retries.count", "defaults.yaml", 1)),
        ("name: prices\n", ("MF024", "name", "defaults.yaml", 1)),
        ("targets:\n  dev: {experiments: [{name: A}]}\n", ("MF024", "targets.dev.experiments", "defaults.yaml", 2)),
        ("targets:\n  dve: {title: A}\n", ("MF024", "targets.dve", "defaults.yaml", 2)),
        ("tags: [\n", ("MF002", "", "defaults.yaml", 1)),
        ("schedule: {timezone: Mars}\n", ("MF012", "schedule.timezone", "defaults.yaml", 1)),
    ],
)
def test_faults_of_defaults_are_told_once_in_their_file(
    repository: Repository, defaults: str, expected: tuple[str, str, str, int]
) -> None:
    (repository.projects / "other.yaml").write_text(MINIMAL.replace("prices", "other") + "schedule: {cron: '@daily'}\n")
    assert expected in told(fleet_of(repository, MINIMAL + "schedule: {cron: '@daily'}\n", defaults))
    assert told(load_fleet(repository)).count(expected) == 1


def test_a_default_that_one_manifest_cannot_have_is_told_of_the_default(repository: Repository) -> None:
    manifest = MINIMAL + "training: {polyaxon: {polyaxonfile: polyaxonfile.yaml}}\n"
    (repository.folder_of("prices") / "polyaxonfile.yaml").write_text("kind: component\ninputs: []\nrun: {kind: job}\n")
    fleet = fleet_of(repository, manifest, "training:\n  polyaxon:\n    params: {dept: 2}\n")
    assert told(fleet) == [("MF022", "training.polyaxon.params.dept", "defaults.yaml", 3)]
    assert fleet.manifests[0].project is None


def test_a_misnamed_file_of_defaults_is_told(repository: Repository) -> None:
    repository.defaults.with_suffix(".yml").write_text("retries: {count: 2}\n")
    assert [item[0] for item in told(fleet_of(repository))] == ["MF024"]


def test_the_order_in_which_targets_are_written_has_no_meaning(repository: Repository) -> None:
    first = one(fleet_of(repository, MINIMAL + "targets: {dev: {tags: [a], title: b}, prod: {tags: [c]}}\n")).require()
    other = one(fleet_of(repository, MINIMAL + "targets: {prod: {tags: [c]}, dev: {title: b, tags: [a]}}\n")).require()
    assert rendered(first) == rendered(other)


def test_resolving_changes_no_document() -> None:
    document, defaults = parse(FULL + TARGETS, "p.yaml"), parse("retries: {count: 2}\n", "d.yaml")
    before = repr((document.data, document.keys, defaults.data))
    resolved = resolve(document, defaults, "dev")
    resolved.report("MF012", ("name",), "x")
    assert isinstance(resolved.data, dict)
    resolved.data["experiments"][0]["params"]["segment"] = "changed"
    assert repr((document.data, document.keys, defaults.data)) == before
    assert document.diagnostics == defaults.diagnostics == []
