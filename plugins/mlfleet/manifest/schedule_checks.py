"""Rules over several fields of ``schedule``, that of the project and those of its experiments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mlfleet.manifest.derived import KINDS
from mlfleet.manifest.document import Document, Path, at
from mlfleet.manifest.naming import is_project_name
from mlfleet.manifest.scheduling import overlaid

SCHEDULE = "schedule"


def check_schedules(document: Document) -> None:
    """Adds what is wrong with when the runs start."""
    common = at(document.data, SCHEDULE)
    common = common if isinstance(common, dict) else {}
    deploys = at(document.data, "deploy") is not None
    _check(document, (SCHEDULE,), common, common, deploys)
    apart = _per_experiment(document)
    for path, own in schedules_of(document):
        if path != (SCHEDULE,):
            _check(document, path, own, overlaid(common, own), deploys and apart)
    _check_image(document)


def schedules_of(document: Document) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The schedule of the project and those of experiments, as written, each with its path."""
    experiments = at(document.data, "experiments")
    places: list[Path] = [(SCHEDULE,)]
    places += [("experiments", index, SCHEDULE) for index in range(len(experiments))] if isinstance(
        experiments, list) else []  # fmt: skip
    for path in places:
        found = at(document.data, *path)
        if isinstance(found, dict):
            yield path, found


def awaited_projects(document: Document) -> Iterator[tuple[Path, str]]:
    """The projects whose release starts a run of this one, and where the manifest says so."""
    for path, schedule in schedules_of(document):
        asset: Any = schedule.get("asset")
        if is_project_name(asset) and asset != at(document.data, "name"):
            yield (*path, "asset"), asset
        for index, item in enumerate(asset if isinstance(asset, list) else ()):
            if is_project_name(item):
                yield (*path, "asset", index), item


def _check(document: Document, path: Path, own: dict[str, Any], whole: dict[str, Any], deploys: bool) -> None:
    """``own`` is what stands at ``path``, ``whole`` with what is taken over from the project."""
    kinds = [kind for kind in KINDS if own.get(kind)]
    if len(kinds) > 1:
        document.report("MF012", (*path, kinds[-1]), f"a schedule has either `{kinds[0]}` or `{kinds[-1]}`",
                        "remove one of them")  # fmt: skip
    timed, catchup = whole.get("cron") or whole.get("timetable"), own.get("catchup") is True
    if catchup and timed and not whole.get("start_date"):
        document.report("MF011", (*path, "start_date"), "`catchup: true` needs a `start_date`",
                        "say from which day on the runs are made up for", key=True)  # fmt: skip
    if catchup and not timed:
        document.report("MF016", (*path, "catchup"), "`catchup` needs `cron`: no other run can be missed", key=True)
    _check_assets(document, path, own)
    runs = own.get("max_active_runs")
    if isinstance(runs, int) and runs > 1 and deploys:
        document.report("MF012", (*path, "max_active_runs"), "runs that deploy go one after the other",
                        "leave it out, or leave `deploy` out")  # fmt: skip


def _check_assets(document: Document, path: Path, schedule: dict[str, Any]) -> None:
    asset, own = schedule.get("asset"), at(document.data, "name")
    several = asset if isinstance(asset, list) else [asset]
    # An experiment that is trained apart and not delivered can follow the releases of its project.
    waits_for_itself = path == (SCHEDULE,) or _per_experiment(document)
    for index, name in enumerate(several):
        place: Path = (*path, "asset", index) if isinstance(asset, list) else (*path, "asset")
        if name and name == own and waits_for_itself:
            document.report("MF012", place, "a project cannot wait for its own release")
        elif name and name in several[:index]:
            document.report("MF015", place, f"{name!r} is in the list already", "remove one of them")
    if "wait_for" in schedule and len(several) < 2:
        document.report("MF016", (*path, "wait_for"), "`wait_for` needs several projects in `asset`",
                        "list them, or leave it out", key=True)  # fmt: skip


def _check_image(document: Document) -> None:
    """An image of the project holds what its own DAG trains, so that must not be nothing."""
    experiments = at(document.data, "experiments")
    if not isinstance(experiments, list) or at(document.data, "image") is None or _per_experiment(document):
        return
    enabled = [(index, item) for index, item in enumerate(experiments) if at(item, "enabled") is not False]
    if enabled and all(isinstance(at(item, SCHEDULE), dict) for _, item in enabled):
        document.report("MF016", ("experiments", enabled[0][0], SCHEDULE),
                        "no experiment is left for the project's image: each has a schedule of its own",
                        "write `per: experiment` in `image`, or leave one of the schedules out", key=True)  # fmt: skip


def _per_experiment(document: Document) -> bool:
    return bool(at(document.data, "image", "per") == "experiment")
