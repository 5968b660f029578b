from __future__ import annotations

import pytest

from mlfleet.errors import ConfigError
from mlfleet.manifest.environments import load_environment, select_environment
from mlfleet.manifest.loading import Repository

PROD = """\
name: prod
fleet: acme
connections: {polyaxon: polyaxon_prod, kfp: kfp_prod, airflow: airflow_prod}
registry: registry.example.com
buckets: {models: "gs://acme-models"}
polyaxon: {owner: acme}
kfp: {namespace: ml-team}
spinnaker: {account: acme-registry, template: include/spinnaker/deploy.yaml}
quotas: {pools: {gpu: {slots: 4}, all: {slots: -1, include_deferred: false}}}
"""


def test_what_plan_needs(repository: Repository) -> None:
    (repository.environments / "prod.yaml").write_text(PROD)
    environment = select_environment(repository.environments, {}, "prod")
    assert environment.connections.airflow == "airflow_prod"
    assert environment.quotas.pools["gpu"].include_deferred is True
    assert (environment.polyaxon.owner, environment.kfp.namespace) == ("acme", "ml-team")
    assert environment.spinnaker is not None
    assert environment.spinnaker.account == "acme-registry"


def test_an_environment_needs_none_of_it(repository: Repository) -> None:
    environment = select_environment(repository.environments, {})
    assert (environment.fleet, environment.spinnaker, environment.connections.airflow) == ("mlfleet", None, None)


@pytest.mark.parametrize(
    ("line", "where"),
    [
        ("fleet: Not A Name", "fleet"),
        ("quotas: {pools: {gpu: {slots: -2}}}", "quotas.pools.gpu.slots"),
        ("quotas: {pools: {gpu: {slots: 2, slot: 2}}}", "quotas.pools.gpu.slot"),
        ("spinnaker: {account: a}", "spinnaker.template"),
        ("polyaxon: {token: t}", "polyaxon.token"),
        ('registry: "${env.x}"', "registry"),
        ('buckets: {models: "${process.A"}', "buckets.models"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(repository: Repository, line: str, where: str) -> None:
    path = repository.environments / "prod.yaml"
    path.write_text(f"name: prod\n{line}\n")
    environment, (found,) = load_environment(path)
    assert environment is None
    assert (found.path, found.line) == (where, 2)


def test_an_environment_that_is_asked_for_by_name(repository: Repository) -> None:
    with pytest.raises(ConfigError, match=r"no environment 'dve' \(--env\).*Did you mean 'dev'"):
        select_environment(repository.environments, {"MLFLEET_ENV": "dev"}, "dve")
