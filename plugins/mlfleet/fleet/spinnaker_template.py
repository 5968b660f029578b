"""Spinnaker's application and pipelines of a project, from the template that an environment names.

The template is YAML: ``application`` with its attributes, and ``pipelines``, a list of configurations as Gate takes
them. References are ``${...}`` of the table below; ``$${`` writes ``${`` itself, which Spinnaker's own expressions
begin with.

=====================  ==============================================================
project.name           the manifest's ``name``
owner.email            of the first owner that has one; "" without
deploy.application     ``deploy.spinnaker.application``
deploy.pipeline        ``deploy.spinnaker.pipeline``
deploy.tag_pattern     ``deploy.spinnaker.tag_pattern``, or else ``^release-.*$``
deploy.canary          "true" or "false", for a stage's ``stageEnabled``
deploy.judgment        the same
image.repository       ``image.repository``, or else the project's name
spinnaker.account      of the environment
registry               of the environment; "" without
buckets.*, env.*       of the environment
=====================  ==============================================================
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic_core import PydanticCustomError

from mlfleet.errors import ConfigError
from mlfleet.fleet.resources import Kind, Resource
from mlfleet.manifest import references
from mlfleet.manifest.diagnostics import suggestion
from mlfleet.manifest.environments import Environment
from mlfleet.manifest.models import Deploy, Project
from mlfleet.manifest.values import check_tag_pattern

_RELEASES = "^release-.*$"


class SpinnakerTemplate:
    """A template file; ``shown`` is how messages call it. Raises ConfigError when it cannot be used."""

    def __init__(self, path: Path, shown: str) -> None:
        self.shown = shown
        try:
            data = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"the Spinnaker template cannot be read: {error.strerror}", shown) from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"the Spinnaker template is not YAML: {error}", shown) from None
        application = data.get("application") if isinstance(data, dict) else None
        pipelines = data.get("pipelines") if isinstance(data, dict) else None
        if not isinstance(application, dict) or not isinstance(pipelines, list) or not pipelines:
            raise ConfigError("the Spinnaker template needs `application` (a mapping) and `pipelines` (a list)", shown)
        if not all(isinstance(each, dict) and isinstance(each.get("name"), str) for each in pipelines):
            raise ConfigError("each pipeline of the Spinnaker template is a mapping with a `name`", shown)
        self._application, self._pipelines = application, pipelines

    def resources(self, project: Project, deploy: Deploy, environment: Environment, origin: str) -> list[Resource]:
        """The application and its pipelines. Raises ConfigError for a reference or a trigger that is wrong."""
        values = _values(project, deploy, environment)

        def lookup(path: str) -> Any:
            if path not in values:
                raise ConfigError(f"there is no reference ${{{path}}}", self.shown, suggestion(path, values))
            # What stands in the environment's file may name variables of this process.
            of_environment = path == "registry" or path.startswith("buckets.")
            return references.resolve_process(values[path]) if of_environment else values[path]

        target = deploy.spinnaker
        application = references.resolve(self._application, lookup)
        if application.get("email") == "":
            raise ConfigError("no owner has an email, which Spinnaker wants of an application", origin,
                              "Give one of the owners an `email`")  # fmt: skip
        found = [Resource(Kind.APPLICATION, target.application, application, origin)]
        for written in self._pipelines:
            config = references.resolve(written, lookup)
            config["application"] = target.application
            self._check(config, target.pipeline, str(values["image.repository"]))
            found.append(Resource(Kind.PIPELINE, f"{target.application}/{config['name']}", config, origin))
        if f"{target.application}/{target.pipeline}" not in {resource.name for resource in found}:
            raise ConfigError(f"no pipeline of the Spinnaker template is called {target.pipeline!r} for {project.name}",
                              self.shown, "Call one ${deploy.pipeline}")  # fmt: skip
        return found

    def _check(self, config: Mapping[str, Any], deploying: str, repository: str) -> None:
        """A push of a release starts the deploying pipeline, and a push of a build starts none."""
        name = config["name"]
        triggers = list(_docker_triggers(config))
        for trigger in triggers:
            tag = trigger.get("tag")
            if not isinstance(tag, str) or not tag.strip():
                # A blank pattern is every tag (spinnaker.md 3.2): each build would be deployed.
                raise ConfigError(f"a docker trigger of {name!r} has no `tag`", self.shown, f"Write tag: {_RELEASES}")
            try:
                check_tag_pattern(tag)
            except PydanticCustomError as error:
                raise ConfigError(f"a docker trigger of {name!r}: {error.message()}", self.shown) from None
        if name == deploying and repository not in {trigger.get("repository") for trigger in triggers}:
            raise ConfigError(f"no enabled docker trigger of {name!r} looks at {repository!r}", self.shown,
                              "Give one repository: ${image.repository}")  # fmt: skip


def _docker_triggers(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    triggers = config.get("triggers")
    for trigger in triggers if isinstance(triggers, list) else ():
        if isinstance(trigger, dict) and trigger.get("type") == "docker" and trigger.get("enabled") is True:
            yield trigger


def _values(project: Project, deploy: Deploy, environment: Environment) -> dict[str, Any]:
    repository = project.image.repository if project.image else None
    place = environment.spinnaker
    return {
        "project.name": project.name,
        "owner.email": next((owner.email for owner in project.owners if owner.email), ""),
        "deploy.application": deploy.spinnaker.application,
        "deploy.pipeline": deploy.spinnaker.pipeline,
        "deploy.tag_pattern": deploy.spinnaker.tag_pattern or _RELEASES,
        # Spinnaker evaluates an expression, which is a text.
        "deploy.canary": "true" if deploy.canary else "false",
        "deploy.judgment": "true" if deploy.judgment else "false",
        "image.repository": repository or project.name,
        "spinnaker.account": place.account if place else "",
        "registry": environment.registry or "",
        **{f"buckets.{name}": value for name, value in environment.buckets.items()},
        **{f"env.{name}": value for name, value in environment.values.items()},
    }
