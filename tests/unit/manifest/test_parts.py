"""What of a project stands apart, told as the project that it would be by itself."""

from __future__ import annotations

import json

from mlfleet.manifest.document import parse
from mlfleet.manifest.models import Project
from mlfleet.manifest.parts import deliveries_of, parts_of, project_of
from mlfleet.manifest.scheduling import Schedule
from tests.unit.manifest.samples import FULL

APART = FULL.replace(
    "    params: {segment: cards}\n", "    params: {segment: cards}\n    schedule: {cron: '@weekly', window: 14d}\n"
)
EACH = FULL.replace("image:\n", "image:\n  per: experiment\n").replace("deploy-model", '"deploy-${experiment.slug}"')


def project(text: str) -> Project:
    return Project.model_validate(parse(text, "test.yaml").data)


def test_without_schedules_of_their_own_there_is_one_part_and_it_is_the_project() -> None:
    whole = project(FULL)
    (part,) = parts_of(whole)
    assert part.project is whole
    assert part.dag_id == "prices"


def test_an_experiment_with_a_schedule_of_its_own_is_a_part_of_its_own() -> None:
    whole, apart = parts_of(project(APART))
    assert (whole.dag_id, apart.dag_id) == ("prices", "prices.trading-cards")
    assert [[each.name for each in part.project.experiments] for part in (whole, apart)] == [
        ["Default"], ["Trading Cards"],
    ]  # fmt: skip
    assert {project_of(part.dag_id) for part in (whole, apart)} == {"prices"}
    assert whole.project.schedule == project(FULL).schedule
    assert apart.project.title == "Price suggestion: Trading Cards"
    # It is judged, and neither packaged nor deployed: the image holds what the project's own DAG trains.
    assert apart.project.evaluation == whole.project.evaluation
    assert (apart.project.image, apart.project.deploy) == (None, None)
    assert whole.project.image is not None


def test_what_its_schedule_leaves_out_is_as_in_the_projects() -> None:
    common, own = project(APART).schedule, parts_of(project(APART))[1].project.schedule
    assert common is not None
    assert own is not None
    assert (own.crons, own.timezone, own.start_date) == (["@weekly"], "Europe/Berlin", common.start_date)
    assert own.window.days == 14
    text = APART.replace("cron: '@weekly', window: 14d", "window: 14d")
    same = parts_of(project(text))[1].project.schedule
    assert same is not None
    assert (same.crons, same.window.days) == (common.crons, 14)


def test_another_way_to_start_takes_the_place_of_the_projects() -> None:
    text = APART.replace('schedule: {cron: "0 3 * * *", ', "schedule: {asset: [a, b], wait_for: any, ")
    assert "asset: [a, b]" in text
    own = parts_of(project(text))[1].project.schedule
    assert own is not None
    assert (own.asset, own.wait_for, own.crons) == (None, "all", ["@weekly"])
    after = parts_of(project(APART.replace("cron: '@weekly'", "asset: prices")))[1].project.schedule
    assert after is not None
    assert (after.awaited, after.crons) == (["prices"], [])


def test_a_paused_project_pauses_them_all_but_who_says_otherwise() -> None:
    paused = APART.replace("window: 7d}", "window: 7d, paused: true}")
    assert [part.project.schedule.paused for part in parts_of(project(paused)) if part.project.schedule] == [True, True]
    awake = paused.replace("window: 14d", "window: 14d, paused: false")
    assert [part.project.schedule.paused for part in parts_of(project(awake)) if part.project.schedule] == [True, False]


def test_a_definition_that_was_written_to_a_file_has_the_same_parts() -> None:
    """As the bundle lays it out: everything that is not said is then said to be nothing."""
    first = project(APART)
    again = Project.model_validate(json.loads(json.dumps(first.model_dump(mode="json", by_alias=True,
                                                                         exclude_none=True))))  # fmt: skip
    assert [(part.dag_id, part.project) for part in parts_of(again)] == [
        (part.dag_id, part.project) for part in parts_of(first)
    ]


def test_disabled_ones_have_no_part_and_a_part_without_experiments_is_none() -> None:
    off = APART.replace("window: 14d}", "window: 14d}\n    enabled: false")
    assert [part.dag_id for part in parts_of(project(off))] == ["prices"]
    alone = APART.replace("    params: {segment: all}\n", "    params: {segment: all}\n    enabled: false\n")
    assert [part.dag_id for part in parts_of(project(alone))] == ["prices.trading-cards"]


def test_without_a_schedule_of_the_project() -> None:
    text = "\n".join(line for line in APART.splitlines() if not line.startswith("schedule:"))
    whole, apart = parts_of(project(text))
    assert whole.project.schedule is None
    assert apart.project.schedule is not None
    assert apart.project.schedule.timezone == Schedule().timezone


def test_one_image_is_one_delivery() -> None:
    whole = project(FULL)
    assert deliveries_of(whole) == [(None, whole)]


def test_an_image_per_experiment_has_a_repository_and_a_pipeline_of_its_own() -> None:
    found = deliveries_of(project(EACH))
    assert [experiment.slug for experiment, _ in found if experiment] == ["default", "trading-cards"]
    for experiment, alone in found:
        assert experiment is not None
        assert alone.image is not None
        assert alone.deploy is not None
        assert alone.experiments == [experiment]
        assert alone.image.repository == f"ml/prices/{experiment.slug}"
        assert alone.deploy.spinnaker.pipeline == f"deploy-{experiment.slug}"
    unnamed = deliveries_of(project(EACH.replace("  repository: ml/prices\n", "")))
    assert [alone.image.repository for _, alone in unnamed if alone.image] == [
        "prices/default", "prices/trading-cards",
    ]  # fmt: skip


def test_with_an_image_per_experiment_one_that_is_trained_apart_is_delivered_too() -> None:
    text = EACH.replace(
        "    params: {segment: cards}\n", "    params: {segment: cards}\n    schedule: {cron: '@weekly'}\n"
    )
    whole, apart = parts_of(project(text))
    for part, slug in ((whole, "default"), (apart, "trading-cards")):
        ((experiment, alone),) = deliveries_of(part.project)
        assert experiment is not None
        assert experiment.slug == slug
        assert alone.deploy is not None
