"""From a repository to everything that a plan is made from."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from mlfleet.errors import ManifestError
from mlfleet.fleet.connecting import Wire, connect
from mlfleet.fleet.managed import ManagedSystem
from mlfleet.fleet.plan import Plan, make_plan
from mlfleet.fleet.reading import read_all
from mlfleet.fleet.wanted import Declared, Wanted, wanted_state
from mlfleet.manifest.diagnostics import errors
from mlfleet.manifest.environments import Environment, select_environment
from mlfleet.manifest.loading import Fleet, Repository, load_fleet


@dataclass(frozen=True)
class Prepared:
    """What is wanted in an environment, and its systems; none of them has been asked yet."""

    environment: Environment
    wanted: Wanted
    systems: list[ManagedSystem]

    def plan(self) -> Plan:
        """Reads the systems and compares."""
        reading = asyncio.run(read_all(self.systems, self.wanted))
        return make_plan(self.wanted, reading, (kind for system in self.systems for kind in system.kinds))


def prepare_environment(repository: Repository, name: str, wire: Wire) -> Prepared:
    """Loads an environment ("" for the selected one) and all manifests as it has them.

    Raises ConfigError for an environment or a connection that cannot be used, ManifestError as `prepare_fleet` does.
    """
    environment = select_environment(repository.environments, name=name)
    return prepare_fleet(load_fleet(repository, environment=environment.name), environment, repository, wire)


def prepare_fleet(fleet: Fleet, environment: Environment, repository: Repository, wire: Wire) -> Prepared:
    """The same for a fleet that was loaded for this environment.

    Raises ManifestError when any manifest has errors: what a broken one asks for would look like something that nobody
    wants any more. Raises ConfigError for a connection that cannot be used.
    """
    wrong = errors(fleet.all_diagnostics())
    if wrong:
        raise ManifestError(wrong)
    declared = [Declared(loaded.require(), loaded.document.file) for loaded in fleet.manifests]
    wanted = wanted_state(declared, environment, repository)
    return Prepared(environment, wanted, connect(environment, wanted, declared, repository, wire))
