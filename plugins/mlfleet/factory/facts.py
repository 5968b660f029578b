"""What a DAG is told of its project: tags, owners, documentation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mlfleet.manifest.known import static_references
from mlfleet.manifest.parts import deliveries_of

if TYPE_CHECKING:
    from mlfleet.manifest.environments import Environment
    from mlfleet.manifest.models import Experiment, Owner, Project


def tags_of(project: Project) -> list[str]:
    """``mlfleet``, the owners' names, the labels as ``name:value`` and the manifest's own tags."""
    labels = (f"{name}:{value}" for name, value in project.labels.items())
    return sorted({"mlfleet", *(owner.github for owner in project.owners), *labels, *project.tags})


def owner_links_of(project: Project) -> dict[str, str]:
    """Where a click on the owner of the DAG's tasks leads to."""
    first = project.owners[0]
    return {first.github: first.oncall or _github_page(first)}


def documentation_of(dag_id: str, project: Project, environment: Environment, manifest: str, resolved: str) -> str:
    """Markdown for the DAG's page; the manifest stands at its end, so that a changed one is a new DAG version.

    ``resolved`` is the whole project as YAML.
    """
    lines = [f"# {project.title or project.name}", ""]
    if project.description:
        lines += [project.description, ""]
    lines += ["**Owners:** " + ", ".join(_owner(owner) for owner in project.owners), ""]
    links = [
        *((link.title, link.url) for link in project.links), *_last_deployments(dag_id, project),
        *_pages(project, environment, manifest),
    ]  # fmt: skip
    if links:
        lines += [*(f"- [{title}]({url})" for title, url in links), ""]
    lines += [
        f"Generated from `{manifest}`; defaults are filled in:",
        "",
        "```yaml",
        resolved.rstrip(),
        "```",
    ]
    return "\n".join(lines)


def references_of(
    project: Project, environment: Environment, commit: str, experiment: Experiment | None = None
) -> dict[str, Any]:
    """The argument ``references`` of a task that reads nothing of a training before it."""
    static = static_references(project, environment, commit, experiment)
    return {"static": static, "tasks": {}, "window_seconds": int(project.window.total_seconds())}


def ordered(value: Any) -> Any:
    """Plain data with its keys sorted: manifests that differ only in the order of keys give the same DAG."""
    if isinstance(value, Mapping):
        return {key: ordered(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [ordered(item) for item in value]
    return value


def _last_deployments(dag_id: str, project: Project) -> Iterator[tuple[str, str]]:
    """Airflow's pages of the deploy tasks; relative to what its UI names in ``<base>``."""
    for experiment, _ in deliveries_of(project) if project.deploy else ():
        whose, group = (f" of {experiment.name}", f"{experiment.slug}.") if experiment else ("", "")
        yield f"Last deployments{whose}", f"dags/{dag_id}/tasks/{group}deploy"


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
