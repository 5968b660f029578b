from __future__ import annotations

from pathlib import Path

import pytest

from mlfleet.errors import ConfigError
from mlfleet.fleet.resources import Kind, is_mark, mark_of, read_mark, without_mark
from mlfleet.fleet.wanted import Declared, Wanted, compiled_names, wanted_state
from mlfleet.manifest.environments import select_environment
from mlfleet.manifest.loading import Repository, load_fleet
from tests.support.fleet import FleetRepository

DEPLOY = "image: {}\ndeploy: {spinnaker: {application: shop, pipeline: deploy}}\n"
TEMPLATE = """\
application: {email: "${owner.email}", cloudProviders: kubernetes}
pipelines:
  - name: ${deploy.pipeline}
    triggers:
      - {type: docker, enabled: true, account: "${spinnaker.account}",
         repository: "${image.repository}", tag: "^release-.*$"}
    stages: [{refId: "1", type: wait, waitTime: "$${parameters.seconds}"}]
"""
PLACE = "spinnaker: {account: acme, template: include/deploy.yaml}\n"


@pytest.fixture
def fleet(tmp_path: Path) -> FleetRepository:
    fleet = FleetRepository(tmp_path, "acme")
    (tmp_path / "include" / "deploy.yaml").write_text(TEMPLATE)
    return fleet


def add(fleet: FleetRepository, name: str, more: str = "", experiments: tuple[str, ...] = ("default",)) -> None:
    fleet.add(name, experiments, more=more)
    (fleet.root / "include" / "pipelines" / name / "Dockerfile").write_text("FROM scratch\n")


def wanted(fleet: FleetRepository) -> Wanted:
    repository = Repository(fleet.root)
    environment = select_environment(repository.environments, {}, "dev")
    loaded = load_fleet(repository, environment="dev").manifests
    return wanted_state([Declared(each.require(), each.document.file) for each in loaded], environment, repository)


def names(found: Wanted, kind: Kind) -> list[str]:
    return [resource.name for resource in found.resources if resource.kind is kind]


def test_marks_name_a_fleet_and_what_was_applied() -> None:
    settings = {"b": [1], "a": "ü"}
    mark = mark_of("acme", settings)
    assert mark == mark_of("acme", dict(reversed(settings.items())))
    assert read_mark(f"for training {mark}", "acme") == (True, mark.partition("#")[2])
    assert read_mark(mark, "acme-too") == (False, "")
    assert read_mark(mark_of("acme-too", settings), "acme") == (False, "")
    assert read_mark(mark_of("acme"), "acme") == (True, "")
    assert without_mark(f"for training {mark}") == "for training"
    assert is_mark(mark)
    assert not is_mark(f"{mark} and more")


def test_projects_and_experiments(fleet: FleetRepository) -> None:
    add(
        fleet,
        "prices",
        'tags: [regression, "managed-by:acme#12345678"]\nlabels: {tier: gold}\n',
        ("Default", "Trading Cards"),
    )
    found = wanted(fleet)
    (project,) = [resource for resource in found.resources if resource.kind is Kind.PROJECT]
    # A tag that looks like a mark would be taken for one.
    assert project.settings == {
        "description": "What prices is",
        "tags": ["owner:@acme/pricing", "regression", "tier:gold"],
        "state": "active",
    }
    assert project.origin == "include/projects/prices.yaml"
    assert names(found, Kind.EXPERIMENT) == ["prices.default", "prices.trading-cards"]


def test_an_experiment_that_is_switched_off_is_not_wanted(fleet: FleetRepository) -> None:
    add(fleet, "prices")
    path = fleet.manifest("prices")
    path.write_text(path.read_text().replace('[{name: "default"}]', "[{name: a}, {name: b, enabled: false}]"))
    assert names(wanted(fleet), Kind.EXPERIMENT) == ["prices.a"]


def test_targets_of_the_environment_count(fleet: FleetRepository) -> None:
    add(fleet, "prices", "targets: {dev: {description: Of dev}}\n")
    (project,) = [resource for resource in wanted(fleet).resources if resource.kind is Kind.PROJECT]
    assert project.settings["description"] == "Of dev"


def test_pools_are_managed_where_an_airflow_is_named(fleet: FleetRepository) -> None:
    add(fleet, "prices", "pools: {kfp: gpu, default: default_pool}\n")
    fleet.say_environment("")
    assert wanted(fleet).notes == (
        "Airflow pools are not managed (gpu): include/environments/dev.yaml has no `connections.airflow`",
    )
    fleet.say_environment("connections: {airflow: airflow_default}\n")
    with pytest.raises(ConfigError, match=r"the pool 'gpu' of include/projects/prices.yaml has no slots .*dev.yaml"):
        wanted(fleet)
    fleet.say_environment(
        "connections: {airflow: airflow_default}\nquotas: {pools: {gpu: {slots: 2}, cpu: {slots: 8}}}\n"
    )
    found = wanted(fleet)
    assert names(found, Kind.POOL) == ["cpu", "gpu"]
    assert found.of([Kind.POOL])[1].settings == {"slots": 2, "include_deferred": True, "description": ""}
    assert found.of([Kind.POOL])[1].origin == "include/projects/prices.yaml"


def test_an_image_per_experiment_has_a_pipeline_of_its_own(fleet: FleetRepository) -> None:
    each = DEPLOY.replace("image: {}", "image: {per: experiment}").replace("deploy}}", '"deploy-${experiment.slug}"}}')
    add(fleet, "prices", each, ("Default", "Trading Cards"))
    fleet.say_environment(PLACE)
    found = wanted(fleet)
    assert names(found, Kind.APPLICATION) == ["shop"]
    assert names(found, Kind.PIPELINE) == ["shop/deploy-default", "shop/deploy-trading-cards"]
    triggers = [resource.settings["triggers"] for resource in found.of([Kind.PIPELINE])]
    assert [trigger["repository"] for (trigger,) in triggers] == [  # type: ignore[misc, index]
        "prices/default", "prices/trading-cards",
    ]  # fmt: skip


def test_deployments_are_managed_where_there_is_a_template(fleet: FleetRepository) -> None:
    add(fleet, "prices", DEPLOY)
    assert wanted(fleet).notes == (
        "Spinnaker pipelines of 1 project are not managed: include/environments/dev.yaml has no `spinnaker.template`",
    )
    fleet.say_environment(PLACE)
    found = wanted(fleet)
    assert names(found, Kind.APPLICATION) == ["shop"]
    (pipeline,) = found.of([Kind.PIPELINE])
    assert pipeline.name == "shop/deploy"
    assert pipeline.settings["triggers"][0]["repository"] == "prices"
    # Spinnaker's own expressions go through.
    assert pipeline.settings["stages"][0]["waitTime"] == "${parameters.seconds}"


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('tag: "^release-.*$"', 'tag: ".*"', "every build would be deployed"),
        ('tag: "^release-.*$"', 'tag: "^v.*$"', "cannot match"),
        (', tag: "^release-.*$"', "", "has no `tag`"),
        ("${image.repository}", "other", "no enabled docker trigger of 'deploy' looks at 'prices'"),
        ("enabled: true", "enabled: false", "no enabled docker trigger"),
        ("name: ${deploy.pipeline}", "name: something", "no pipeline of the Spinnaker template is called 'deploy'"),
        ("${spinnaker.account}", "${spinnaker.acount}", "there is no reference .*did you mean 'spinnaker.account'"),
        ("application: {", "applications: {", "needs `application`"),
        ("pipelines:\n", "pipelines:\n  - {nme: x}\n", "a mapping with a `name`"),
        ("application: {", "application: {{", "not YAML"),
    ],
)
def test_a_template_that_would_do_harm_is_refused(fleet: FleetRepository, old: str, new: str, why: str) -> None:
    add(fleet, "prices", DEPLOY)
    fleet.say_environment(PLACE)
    assert old in TEMPLATE
    (fleet.root / "include" / "deploy.yaml").write_text(TEMPLATE.replace(old, new))
    with pytest.raises(ConfigError, match=why) as caught:
        wanted(fleet)
    assert "include/deploy.yaml" in str(caught.value)


def test_the_environment_may_name_variables_of_the_process(
    fleet: FleetRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(fleet, "prices", DEPLOY)
    fleet.say_environment(PLACE + 'registry: "${process.THE_REGISTRY}"\nbuckets: {models: "gs://${process.TEAM}"}\n')
    path = fleet.root / "include" / "deploy.yaml"
    path.write_text(TEMPLATE + '    notes: "${registry} ${buckets.models}"\n')
    with pytest.raises(ConfigError, match="THE_REGISTRY is not set"):
        wanted(fleet)
    monkeypatch.setenv("THE_REGISTRY", "registry.test")
    monkeypatch.setenv("TEAM", "acme")
    assert wanted(fleet).of([Kind.PIPELINE])[0].settings["notes"] == "registry.test gs://acme"


def test_an_application_needs_an_email(fleet: FleetRepository) -> None:
    add(fleet, "prices", DEPLOY)
    fleet.say_environment(PLACE)
    path = fleet.manifest("prices")
    path.write_text(path.read_text().replace(', email: "p@example.com"', ""))
    with pytest.raises(ConfigError, match=r"no owner has an email.*include/projects/prices.yaml"):
        wanted(fleet)


def test_a_template_that_is_not_there_or_not_in_the_repository(fleet: FleetRepository) -> None:
    add(fleet, "prices", DEPLOY)
    fleet.say_environment(PLACE.replace("include/deploy.yaml", "include/gone.yaml"))
    with pytest.raises(ConfigError, match=r"cannot be read: No such file.*include/gone.yaml"):
        wanted(fleet)
    fleet.say_environment(PLACE.replace("include/deploy.yaml", "../outside.yaml"))
    with pytest.raises(ConfigError, match="not in the repository"):
        wanted(fleet)


def test_two_projects_that_want_one_pipeline_differently(fleet: FleetRepository) -> None:
    add(fleet, "prices", DEPLOY)
    add(fleet, "cards", DEPLOY)
    fleet.say_environment(PLACE)
    with pytest.raises(
        ConfigError, match=r"shop/deploy is asked for twice.*cards.yaml and include/projects/prices.yaml"
    ):
        wanted(fleet)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ('from kfp import dsl\n@dsl.pipeline(name="by-name")\ndef train(): ...\n', {"by-name"}),
        ("from kfp import dsl\n@dsl.pipeline\ndef train(): ...\n", {"train"}),
        ("def train(): ...\n", {"train"}),
        ("train = make()\n", set()),
        ("def (", set()),
    ],
)
def test_the_name_of_a_compiled_pipeline_is_read_and_not_run(
    fleet: FleetRepository, code: str, expected: set[str]
) -> None:
    add(fleet, "prices")
    (fleet.root / "include" / "pipelines" / "prices" / "pipeline.py").write_text("def train(): ...\n")
    project = load_fleet(Repository(fleet.root), environment="dev").manifests[0].require()
    (fleet.root / "include" / "pipelines" / "prices" / "pipeline.py").write_text(code)
    assert compiled_names(project, Repository(fleet.root)) == expected
