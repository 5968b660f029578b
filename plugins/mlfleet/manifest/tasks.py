"""Which of the factory's tasks a manifest asks for, told from plain data."""

from __future__ import annotations

from typing import Any

from mlfleet.manifest.document import at

TRAINING = ("polyaxon", "kfp")
DELIVERY = ("evaluate", "build_image", "verify_image", "release", "deploy")
DATA = "data"
ALL = (DATA, *TRAINING, *DELIVERY)


def tasks_of(data: Any) -> set[str]:
    """The names of the tasks, as `pools` knows them."""
    image = at(data, "image") is not None
    trained = {system for system in TRAINING if at(data, "training", system) is not None}
    there = {
        DATA: bool(at(data, DATA)),
        "evaluate": bool(trained) and at(data, "evaluation") is not None,
        **dict.fromkeys(("build_image", "verify_image", "release"), image),
        "deploy": image and at(data, "deploy") is not None,
    }
    return trained | {name for name, asked in there.items() if asked}
