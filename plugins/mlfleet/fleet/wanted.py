"""What the manifests of a fleet ask for in one environment."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlfleet.errors import ConfigError
from mlfleet.fleet.resources import Kind, Resource, is_mark
from mlfleet.fleet.spinnaker_template import SpinnakerTemplate
from mlfleet.manifest.environments import Environment
from mlfleet.manifest.loading import Repository
from mlfleet.manifest.models import Project
from mlfleet.manifest.parts import deliveries_of

# Airflow's own; it is there without anybody.
_DEFAULT_POOL = "default_pool"


@dataclass(frozen=True)
class Declared:
    """A project as the environment has it, and the file that declares it."""

    project: Project
    origin: str


@dataclass(frozen=True)
class Wanted:
    """``resources`` in the order of projects; ``notes`` say what is asked for and managed by nobody."""

    resources: tuple[Resource, ...]
    notes: tuple[str, ...] = ()

    def of(self, kinds: Iterable[Kind]) -> list[Resource]:
        """Those of some kinds."""
        chosen = set(kinds)
        return [resource for resource in self.resources if resource.kind in chosen]


def wanted_state(fleet: Sequence[Declared], environment: Environment, repository: Repository) -> Wanted:
    """Everything that should exist. Raises ConfigError for a pool without slots and for a template that is wrong."""
    resources: list[Resource] = []
    for declared in fleet:
        resources += _training(declared)
    pools, pool_notes = _pools(fleet, environment)
    deployments, deploy_notes = _deployments(fleet, environment, repository)
    return Wanted((*resources, *pools, *deployments), (*pool_notes, *deploy_notes))


def compiled_names(project: Project, repository: Repository) -> set[str]:
    """What KFP calls the project's compiled pipeline, read without importing it: its decorator's name or its own."""
    training = project.training.kfp if project.training else None
    if training is None:
        return set()
    _, _, function = training.pipeline.rpartition(":")
    try:
        module = ast.parse((repository.folder_of(project.name) / training.file).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return set()
    for node in module.body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            given = (keyword.value for decorator in node.decorator_list if isinstance(decorator, ast.Call)
                     for keyword in decorator.keywords if keyword.arg == "name")  # fmt: skip
            names = {each.value for each in given if isinstance(each, ast.Constant) and isinstance(each.value, str)}
            return names or {function.replace("_", "-")}
    return set()


def _training(declared: Declared) -> list[Resource]:
    project, found = declared.project, []
    enabled = [experiment for experiment in project.experiments if experiment.enabled]
    if project.training and project.training.polyaxon:
        found.append(Resource(Kind.PROJECT, project.name, _polyaxon_settings(project), declared.origin))
    if project.training and project.training.kfp:
        found += [
            Resource(Kind.EXPERIMENT, project.kfp_experiment(experiment), {"state": "active"}, declared.origin)
            for experiment in enabled
        ]
    return found


def _polyaxon_settings(project: Project) -> dict[str, object]:
    """Owners are tags: CE has no owners of projects, and no edition knows GitHub's names (polyaxon.md 1)."""
    owners = (f"owner:@{owner.github.removeprefix('@')}" for owner in project.owners)
    labels = (f"{name}:{value}" for name, value in project.labels.items())
    tags = sorted(tag for tag in {*owners, *labels, *project.tags} if not is_mark(tag))
    return {"description": project.description or project.title or "", "tags": tags, "state": "active"}


def _pools(fleet: Sequence[Declared], environment: Environment) -> tuple[list[Resource], list[str]]:
    named: dict[str, str] = {}
    for declared in fleet:
        for pool in declared.project.pools.model_dump(exclude_none=True).values() if declared.project.pools else ():
            named.setdefault(pool, declared.origin)
    named.pop(_DEFAULT_POOL, None)
    quotas, file = environment.quotas.pools, f"include/environments/{environment.name}.yaml"
    if environment.connections.airflow is None:
        told = ", ".join(sorted({*named, *quotas}))
        return [], [f"Airflow pools are not managed ({told}): {file} has no `connections.airflow`"] if told else []
    missing = sorted(set(named) - set(quotas))
    if missing:
        raise ConfigError(f"the pool {missing[0]!r} of {named[missing[0]]} has no slots", file,
                          f"Write quotas: {{pools: {{{missing[0]}: {{slots: …}}}}}} there")  # fmt: skip
    return [
        Resource(
            Kind.POOL,
            name,
            {
                "slots": quota.slots,
                "include_deferred": quota.include_deferred,
                "description": quota.description or "",
            },
            named.get(name, file),
        )
        for name, quota in sorted(quotas.items())
    ], []


def _deployments(
    fleet: Sequence[Declared], environment: Environment, repository: Repository
) -> tuple[list[Resource], list[str]]:
    deploying = [each for each in fleet if each.project.deploy and each.project.image]
    if not deploying:
        return [], []
    file = f"include/environments/{environment.name}.yaml"
    if environment.spinnaker is None:
        count = f"{len(deploying)} project{'' if len(deploying) == 1 else 's'}"
        return [], [f"Spinnaker pipelines of {count} are not managed: {file} has no `spinnaker.template`"]
    template = SpinnakerTemplate(_inside(repository.root, environment.spinnaker.template, file),
                                 environment.spinnaker.template)  # fmt: skip
    found: dict[tuple[Kind, str], Resource] = {}
    delivered = ((each.origin, project) for each in deploying for _, project in deliveries_of(each.project))
    for origin, project in delivered:
        assert project.deploy is not None
        for resource in template.resources(project, project.deploy, environment, origin):
            first = found.setdefault((resource.kind, resource.name), resource)
            if first.settings != resource.settings and resource.kind is Kind.PIPELINE:
                raise ConfigError(f"the Spinnaker pipeline {resource.name} is asked for twice, and not alike",
                                  f"{first.origin} and {resource.origin}",
                                  "Give each project an application of its own")  # fmt: skip
    return list(found.values()), []


def _inside(root: Path, name: str, file: str) -> Path:
    path = (root / name).resolve()
    if not path.is_relative_to(root.resolve()):
        raise ConfigError(f"the Spinnaker template {name!r} is not in the repository", file)
    return path
