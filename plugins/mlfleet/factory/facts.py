"""What a DAG and its tasks are told of their project: schedule, documentation, what references stand for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pendulum
from airflow.sdk import Asset, AssetAny, CronDataIntervalTimetable
from pendulum.tz.timezone import Timezone

from mlfleet.manifest.environments import Environment
from mlfleet.manifest.models import Owner, Project
from mlfleet.manifest.rendering import rendered


def released_asset(project: str) -> Asset:
    """The asset whose event says that a project has a new release; other projects can be scheduled by it.

    Airflow looks for a normalizer of any scheme that does not begin with ``x-``, and for that imports the google
    provider: seconds in every worker that builds a DAG (airflow/sdk/definitions/asset).
    """
    return Asset(f"x-mlfleet://{project}/released")


def schedule_of(project: Project) -> CronDataIntervalTimetable | AssetAny | list[Asset] | None:
    """The DAG's schedule: data intervals between cron ticks, other projects' releases, or only by hand."""
    schedule = project.schedule
    if schedule is None or schedule.paused:
        return None
    if schedule.cron:
        return CronDataIntervalTimetable(schedule.cron, timezone=Timezone(schedule.timezone))
    assets = [released_asset(name) for name in sorted(schedule.awaited)]
    return AssetAny(*assets) if schedule.wait_for == "any" and len(assets) > 1 else assets or None


def start_of(project: Project) -> pendulum.DateTime | None:
    """Midnight of the first day, in the schedule's time zone, which so becomes the DAG's; None without a schedule."""
    if project.schedule is None:
        return None
    day = project.schedule.start_date
    return pendulum.datetime(day.year, day.month, day.day, tz=project.schedule.timezone)


def tags_of(project: Project) -> list[str]:
    """``mlfleet``, the owners' names, the labels as ``name:value`` and the manifest's own tags."""
    labels = (f"{name}:{value}" for name, value in project.labels.items())
    return sorted({"mlfleet", *(owner.github for owner in project.owners), *labels, *project.tags})


def owner_links_of(project: Project) -> dict[str, str]:
    """Where a click on the owner of the DAG's tasks leads to."""
    first = project.owners[0]
    return {first.github: first.oncall or _github_page(first)}


def documentation_of(project: Project, environment: Environment, manifest: str, resolved: str | None = None) -> str:
    """Markdown for the DAG's page; the manifest stands at its end, so that a changed one is a new DAG version.

    ``resolved`` is what `rendered` gives, if it is known.
    """
    lines = [f"# {project.title or project.name}", ""]
    if project.description:
        lines += [project.description, ""]
    lines += ["**Owners:** " + ", ".join(_owner(owner) for owner in project.owners), ""]
    links = [*((link.title, link.url) for link in project.links), *_pages(project, environment, manifest)]
    if links:
        lines += [*(f"- [{title}]({url})" for title, url in links), ""]
    lines += [
        f"Generated from `{manifest}`; defaults are filled in:",
        "",
        "```yaml",
        (resolved or rendered(project)).rstrip(),
        "```",
    ]
    return "\n".join(lines)


def ordered(value: Any) -> Any:
    """Plain data with its keys sorted: manifests that differ only in the order of keys give the same DAG."""
    if isinstance(value, Mapping):
        return {key: ordered(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [ordered(item) for item in value]
    return value


def _pages(project: Project, environment: Environment, manifest: str) -> Iterator[tuple[str, str]]:
    """Title and address of the pages of the systems that the project uses, as far as the environment says them."""
    pages, training = environment.pages, project.training
    if pages.repository:
        yield "Manifest", f"{pages.repository.rstrip('/')}/{manifest}"
    if pages.polyaxon and training and training.polyaxon:
        yield "Runs in Polyaxon", f"{pages.polyaxon.rstrip('/')}/{project.name}/runs"
    if pages.kfp and training and training.kfp:
        yield "Runs in Kubeflow Pipelines", f"{pages.kfp.rstrip('/')}/#/runs"
    if pages.spinnaker and project.deploy:
        application = project.deploy.spinnaker.application
        yield "Deployments in Spinnaker", f"{pages.spinnaker.rstrip('/')}/#/applications/{application}/executions"


def _owner(owner: Owner) -> str:
    handle = owner.github.removeprefix("@")
    also = [text for text in (owner.name, owner.email, owner.slack) if text]
    also += [f"[on call]({owner.oncall})"] if owner.oncall else []
    return f"[@{handle}]({_github_page(owner)})" + (f" ({', '.join(also)})" if also else "")


def _github_page(owner: Owner) -> str:
    handle = owner.github.removeprefix("@")
    organisation, slash, team = handle.partition("/")
    return f"https://github.com/{f'orgs/{organisation}/teams/{team}' if slash else handle}"
