"""KFP experiments, one for each experiment of a project that trains there; recurring runs that run our pipelines."""

from __future__ import annotations

from collections.abc import Sequence

from mlfleet.clients.kfp_catalog import KFPCatalog, KFPExperiment, RecurringRun
from mlfleet.fleet.resources import Found, Kind, Resource, mark_of, read_mark

ACTIVE, ARCHIVED = "active", "archived"


class ManagedKFP:
    """The experiments of one namespace. Settings: ``state``.

    An experiment's description can't be changed (kfp.md 4), so only those that apply has made carry the mark; one that
    a task made at its first run is taken as it is. An experiment that nobody wants is archived with its runs.

    A recurring run is a second scheduler that trains twice: it is drift, whoever made it, when it starts one of our
    pipelines or puts its runs into one of our experiments. ``projects`` maps our projects to the names that KFP knows
    their compiled pipelines by.
    """

    name = "kfp"
    kinds: tuple[Kind, ...] = (Kind.EXPERIMENT, Kind.RECURRING)

    def __init__(self, client: KFPCatalog, fleet: str, projects: dict[str, set[str]]) -> None:
        self._client, self._fleet, self._projects = client, fleet, projects

    async def read(self, wanted: Sequence[Resource]) -> list[Found]:
        """All experiments; recurring runs that concern us. Names of pipelines only when there is a recurring run."""
        experiments = await self._client.list_experiments()
        found = [self._experiment(experiment) for experiment in experiments]
        schedules = [each for each in await self._client.list_recurring_runs() if each.enabled]
        if schedules:
            names = {resource.name for resource in wanted}
            ours = {each.experiment_id: each.name for each in experiments if each.name in names}
            pipelines = await self._client.pipeline_names() if any(each.pipeline_id for each in schedules) else {}
            found += [told for each in schedules if (told := self._recurring(each, ours, pipelines))]
        return found

    def _experiment(self, experiment: KFPExperiment) -> Found:
        ours, _ = read_mark(experiment.description, self._fleet)
        settings = {"state": ARCHIVED if experiment.archived else ACTIVE}
        return Found(Kind.EXPERIMENT, experiment.name, settings, ours, id=experiment.experiment_id)

    def _recurring(
        self, run: RecurringRun, experiments: dict[str, str], pipelines: dict[str, str]
    ) -> Found | None:  # fmt: skip
        """A recurring run that concerns us, None for others."""
        stored = pipelines.get(run.pipeline_id, "")
        hands_off = False
        if stored in self._projects:
            why = f"it runs the pipeline of {stored}"
        elif run.experiment_id in experiments:
            why = f"it runs in our experiment {experiments[run.experiment_id]}"
        else:
            # A name inside a compiled pipeline is nobody's alone: such a run is told, and left to a person.
            same = [project for project, names in self._projects.items() if run.pipeline_name in names]
            if not same:
                return None
            why, hands_off = f"it runs a pipeline called {run.pipeline_name}, like that of {same[0]}", True
        return Found(
            Kind.RECURRING, run.name, {"schedule": run.schedule}, id=run.recurring_run_id,
            drift=f"a second scheduler: {why}", hands_off=hands_off,
        )  # fmt: skip

    async def create(self, resource: Resource) -> None:
        """Create it; one that is there meanwhile is taken."""
        await self._client.create_experiment(resource.name, f"{resource.origin} {mark_of(self._fleet)}".strip())

    async def change(self, resource: Resource, found: Found) -> None:
        """Unarchive it, which is all that can be changed."""
        await self._client.unarchive_experiment(found.id)

    async def retire(self, found: Found) -> str:
        """Archive an experiment, disable a recurring run."""
        if found.kind is Kind.RECURRING:
            await self._client.disable_recurring_run(found.id)
            return "disabled"
        await self._client.archive_experiment(found.id)
        return "archived"

    async def aclose(self) -> None:
        """Close the client."""
        await self._client.aclose()
