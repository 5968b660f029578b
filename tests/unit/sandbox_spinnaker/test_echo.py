from __future__ import annotations

from typing import Any

import pytest

from sandbox.spinnaker.echo import matches, started_by
from sandbox.spinnaker.switches import Switches

TRIGGER = {"type": "docker", "enabled": True, "account": "acme", "repository": "ml/shop", "tag": "^release-.*$"}
IMAGE = {"account": "acme", "registry": "localhost:1", "repository": "ml/shop", "tag": "release-1", "digest": None}


@pytest.mark.parametrize(
    ("trigger", "image", "fires"),
    [
        ({}, {}, True),
        ({"tag": "  ^release-.*$ "}, {}, True),
        ({"tag": "release"}, {}, False),
        ({"tag": ""}, {}, True),
        ({"tag": None}, {"tag": "anything"}, True),
        ({"tag": " "}, {"tag": "latest"}, False),
        ({"tag": "latest"}, {"tag": "latest"}, True),
        ({"tag": "("}, {"tag": "("}, False),
        ({"enabled": False}, {}, False),
        ({"type": "pubsub"}, {}, False),
        ({"repository": "ML/shop"}, {}, False),
        ({"account": "Acme"}, {}, False),
        ({"registry": "elsewhere"}, {}, True),
    ],
)
def test_which_images_fire_a_trigger(trigger: dict[str, Any], image: dict[str, Any], fires: bool) -> None:
    assert matches({**TRIGGER, **trigger}, {**IMAGE, **image}) is fires


def pipeline(name: str, *triggers: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"application": "shop", "name": name, "triggers": list(triggers), **more}


def test_every_matching_trigger_starts_its_pipeline() -> None:
    both = pipeline("both", {**TRIGGER, "runAsUser": "robot"}, {**TRIGGER, "tag": "release-1"})
    pipelines = [both, pipeline("off", TRIGGER, disabled=True), pipeline("none")]
    started = started_by({"content": IMAGE}, pipelines, Switches())
    assert [each["name"] for each, _ in started] == ["both", "both"]
    trigger = started[0][1]
    assert (trigger["user"], trigger["tag"], trigger["registry"]) == ("robot", "release-1", "localhost:1")
    assert trigger["artifacts"][0]["reference"] == "localhost:1/ml/shop:release-1"
    assert "digest" not in trigger


def test_trouble_on_purpose() -> None:
    switches, pipelines = Switches(), [pipeline("one", TRIGGER)]
    switches.set({"duplicate_executions": 3})
    assert len(started_by({"content": IMAGE}, pipelines, switches)) == 3
    switches.set({"access_denied": True})
    assert started_by({"content": IMAGE}, pipelines, switches) == []
    with pytest.raises(KeyError):
        switches.set({"no_such": 1})


def test_a_counted_switch_runs_out() -> None:
    switches = Switches(empty_200=2)
    assert [switches.spend("empty_200") for _ in range(3)] == [True, True, False]
