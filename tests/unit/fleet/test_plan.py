from __future__ import annotations

import json

from mlfleet.errors import TransientError
from mlfleet.fleet.plan import Plan, as_json, make_plan
from mlfleet.fleet.reading import Reading, Unread
from mlfleet.fleet.resources import Found, Kind, Resource, digest_of
from mlfleet.fleet.wanted import Wanted

SETTINGS = {"description": "Prices of things", "tags": ["a"], "state": "active"}
EVERY = tuple(Kind)


def project(name: str = "prices", **more: object) -> Resource:
    return Resource(Kind.PROJECT, name, {**SETTINGS, **more}, f"include/projects/{name}.yaml")


def there(name: str = "prices", *, ours: bool = True, applied: str | None = None, **more: object) -> Found:
    settings = {**SETTINGS, **more}
    return Found(Kind.PROJECT, name, settings, ours, digest_of(SETTINGS) if applied is None else applied)


def plan(wanted: list[Resource], found: list[Found], *unread: Unread, kinds: tuple[Kind, ...] = EVERY) -> Plan:
    return make_plan(Wanted(tuple(wanted), ("a note",)), Reading(tuple(found), unread), kinds)


def actions(found: Plan) -> list[tuple[str, str]]:
    return [(change.action.value, change.name) for change in found.changes]


def test_nothing_to_do() -> None:
    found = plan([project()], [there()])
    assert (found.changes, found.unchanged) == ((), 1)


def test_a_hand_and_a_manifest_are_told_apart() -> None:
    assert actions(plan([project()], [there(description="by hand")])) == [("drift", "prices")]
    manifest = project(description="written anew")
    assert actions(plan([manifest], [there()])) == [("change", "prices")]
    # Both at once: what the manifest says now was not applied yet.
    assert actions(plan([manifest], [there(description="by hand")])) == [("change", "prices")]


def test_what_is_not_ours_yet_is_taken_over_and_never_an_orphan() -> None:
    (change,) = plan([project()], [there(ours=False, applied="")]).changes
    assert [difference.setting for difference in change.differences] == ["managed by mlfleet"]
    assert actions(plan([], [there(ours=False, applied="")])) == []


def test_the_part_that_differs_is_told() -> None:
    stages = [{"refId": "1", "type": "wait"}, {"refId": "2", "type": "deployManifest"}]
    wanted = {"triggers": [{"type": "docker", "tag": "^release-.*$"}], "stages": stages}
    before = {"triggers": [{"type": "docker", "tag": ".*", "extra": 1}], "stages": stages[:1]}
    found = Found(Kind.PIPELINE, "shop/deploy", before, True, "12345678")
    (change,) = plan([Resource(Kind.PIPELINE, "shop/deploy", wanted)], [found]).changes
    assert [(each.setting, each.before, each.after) for each in change.differences] == [
        ("triggers[0].tag", ".*", "^release-.*$"),
        ("triggers[0].extra", 1, None),
        ("stages[1]", None, stages[1]),
    ]


def test_an_experiment_cannot_be_marked_later_and_needs_not() -> None:
    wanted = Resource(Kind.EXPERIMENT, "prices.default", {"state": "active"})
    assert plan([wanted], [Found(Kind.EXPERIMENT, "prices.default", {"state": "active"})]).changes == ()


def test_what_is_archived_is_no_orphan() -> None:
    assert actions(plan([], [there(state="archived")])) == []
    assert actions(plan([], [there()])) == [("orphan", "prices")]


def test_a_rename_is_known_by_its_settings_or_by_a_like_name() -> None:
    found = {change.name: change.hint for change in plan([project("cards")], [there("prices")]).changes}
    assert found == {
        "cards": "renamed from prices? What that has stays under the old name", "prices": "renamed to cards?",
    }  # fmt: skip
    found = {c.name: c.hint for c in plan([project("price-model", tags=[])], [there("price-models")]).changes}
    assert found["price-models"] == "renamed to price-model?"
    found = {c.name: c.hint for c in plan([project("cards", description="Else")], [there("prices")]).changes}
    assert found == {"cards": "", "prices": ""}


def test_one_orphan_is_the_former_name_of_one_thing_only() -> None:
    hints = [change.hint for change in plan([project("a"), project("b")], [there("prices")]).changes]
    assert sum(hint.startswith("renamed from") for hint in hints) == 1


def test_a_system_that_could_not_be_read_is_no_reason_to_create_anything() -> None:
    unread = Unread("polyaxon", (Kind.PROJECT,), TransientError("polyaxon", "is away"))
    pool = Resource(Kind.POOL, "gpu", {"slots": 1})
    found = plan([project(), pool], [], unread)
    assert actions(found) == [("create", "gpu")]
    assert as_json(found, "dev")["unread"] == [{"system": "polyaxon", "error": "polyaxon: is away"}]


def test_a_system_that_was_not_asked_is_not_in_the_plan() -> None:
    assert actions(plan([project()], [], kinds=(Kind.POOL,))) == []


def test_the_plan_for_programs() -> None:
    drift = Found(Kind.RECURRING, "nightly", drift="a second scheduler: it runs prices", hands_off=True)
    found = plan([project(description="new"), project("cards", description="Else")], [there(), drift])
    data = json.loads(json.dumps(as_json(found, "dev")))
    assert data["summary"] == {"create": 1, "change": 1, "drift": 1, "orphan": 0, "unchanged": 0}
    assert [(row["action"], row["kind"], row["name"]) for row in data["changes"]] == [
        ("create", "Polyaxon project", "cards"),
        ("change", "Polyaxon project", "prices"),
        ("drift", "KFP recurring run", "nightly"),
    ]
    assert data["changes"][1]["differences"] == [
        {"setting": "description", "before": "Prices of things", "after": "new"}
    ]
    assert data["changes"][2]["left_to_people"] is True
    assert (data["environment"], data["notes"]) == ("dev", ["a note"])
