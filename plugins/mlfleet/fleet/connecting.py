"""From an environment to its systems: connections out of ``AIRFLOW_CONN_<ID>``, one client a system."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import httpx

from mlfleet.clients.airflow import AirflowClient
from mlfleet.clients.auth import Credentials
from mlfleet.clients.connections import (
    Connection,
    http_client,
    read_connection,
    spinnaker_credentials,
    token_credentials,
    variable_of,
)
from mlfleet.clients.http import HttpClient
from mlfleet.clients.kfp import KFPClient
from mlfleet.clients.kfp_catalog import KFPCatalog
from mlfleet.clients.polyaxon_projects import PolyaxonProjects
from mlfleet.clients.retry import RetryPolicy, Timeouts
from mlfleet.clients.spinnaker_configs import SpinnakerConfigs
from mlfleet.errors import ConfigError
from mlfleet.fleet.managed import ManagedSystem
from mlfleet.fleet.managed_airflow import ManagedAirflow
from mlfleet.fleet.managed_kfp import ManagedKFP
from mlfleet.fleet.managed_polyaxon import ManagedPolyaxon
from mlfleet.fleet.managed_spinnaker import ManagedSpinnaker
from mlfleet.fleet.resources import Kind
from mlfleet.fleet.wanted import Declared, Wanted, compiled_names
from mlfleet.manifest.environments import Environment
from mlfleet.manifest.loading import Repository

# A person or a pipeline waits: a server that is down is told within half a minute, and a rerun goes on from there.
RETRY = RetryPolicy(attempts=4, total_seconds=25.0, first_wait=0.5, max_wait=5.0)
TIMEOUTS = Timeouts(connect=5.0, read=30.0, total=60.0)


@dataclass(frozen=True)
class Wire:
    """How systems are reached: ``environ`` holds the connections; the others replace the network in tests."""

    environ: Mapping[str, str]
    transport: httpx.AsyncBaseTransport | None = None
    retry: RetryPolicy = RETRY


def connect(
    environment: Environment, wanted: Wanted, fleet: Sequence[Declared], repository: Repository, wire: Wire
) -> list[ManagedSystem]:
    """The systems that something is wanted of, and those whose connection is set: they may hold orphans.

    Raises ConfigError for a connection that is missing or cannot be used; nothing has been asked of any system then.
    """
    connections = environment.connections
    makers: list[tuple[str, str | None, Sequence[Kind], Callable[[Connection], ManagedSystem]]] = [
        ("polyaxon", connections.polyaxon, (Kind.PROJECT,), lambda found: _polyaxon(environment, found, wire)),
        ("kfp", connections.kfp, (Kind.EXPERIMENT,), lambda found: _kfp(environment, found, wire, fleet, repository)),
        ("airflow", connections.airflow, (Kind.POOL,), lambda found: _airflow(environment, found, wire)),
        ("spinnaker", connections.spinnaker if environment.spinnaker else None, (Kind.PIPELINE,),
         lambda found: _spinnaker(environment, found, wire)),
    ]  # fmt: skip
    systems = []
    for conn_type, conn_id, kinds, make in makers:
        if conn_id is not None and (wanted.of(kinds) or variable_of(conn_id) in wire.environ):
            # Airflow's own connection type for another Airflow is http or generic: any will do.
            expected = "" if conn_type == "airflow" else conn_type
            systems.append(make(read_connection(conn_id, expected, wire.environ)))
    return systems


def connect_kfp(environment: Environment, wire: Wire) -> KFPClient:
    """The environment's KFP server. Raises ConfigError for a connection that is missing or cannot be used."""
    connection = read_connection(environment.connections.kfp, "kfp", wire.environ)
    namespace = _agreed(environment.kfp.namespace, connection, "namespace", f"kfp.namespace of {environment.name}")
    return KFPClient(_http(connection, "kfp", token_credentials(connection), wire), namespace)


def _http(connection: Connection, system: str, credentials: Credentials, wire: Wire) -> HttpClient:
    http = http_client(
        connection, connection.extra, credentials, conn_id=connection.conn_id, system=system, retry=wire.retry,
        transport=wire.transport,
    )  # fmt: skip
    http.timeouts = TIMEOUTS
    return http


def _polyaxon(environment: Environment, connection: Connection, wire: Wire) -> ManagedSystem:
    owner = _agreed(environment.polyaxon.owner, connection, "owner", f"polyaxon.owner of {environment.name}")
    http = _http(connection, "polyaxon", token_credentials(connection, "Token"), wire)
    return ManagedPolyaxon(PolyaxonProjects(http, owner or "default"), environment.fleet)


def _kfp(
    environment: Environment, connection: Connection, wire: Wire, fleet: Sequence[Declared], repository: Repository
) -> ManagedSystem:
    namespace = _agreed(environment.kfp.namespace, connection, "namespace", f"kfp.namespace of {environment.name}")
    http = _http(connection, "kfp", token_credentials(connection), wire)
    projects = {
        each.project.name: compiled_names(each.project, repository)
        for each in fleet
        if each.project.training and each.project.training.kfp
    }
    return ManagedKFP(KFPCatalog(http, namespace), environment.fleet, projects)


def _airflow(environment: Environment, connection: Connection, wire: Wire) -> ManagedSystem:
    http = _http(connection, "airflow", Credentials.none(), wire)
    client = AirflowClient(http, connection.login or "", connection.password or "")
    return ManagedAirflow(client, environment.fleet)


def _spinnaker(environment: Environment, connection: Connection, wire: Wire) -> ManagedSystem:
    credentials = spinnaker_credentials(connection, connection.extra, connection.conn_id)
    return ManagedSpinnaker(
        SpinnakerConfigs(_http(connection, "spinnaker", credentials, wire)), environment.fleet
    )  # fmt: skip


def _agreed(said: str | None, connection: Connection, key: str, where: str) -> str | None:
    """What the environment and the connection say alike: tasks know the connection alone, and must not differ."""
    given = connection.extra.get(key) or None
    if said and given and said != given:
        raise ConfigError(f"{where} is {said!r}, and the connection says {given!r}",
                          f"the extra of {variable_of(connection.conn_id)}", "Make them equal")  # fmt: skip
    if said and not given and said != "default":
        raise ConfigError(f"{where} is {said!r}, and the connection says nothing: tasks would go elsewhere",
                          f"the extra of {variable_of(connection.conn_id)}",
                          f'Add "extra": {{"{key}": "{said}"}} to it')  # fmt: skip
    return said or (str(given) if given else None)
