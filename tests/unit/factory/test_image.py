"""From `image` and `deploy.spinnaker` to what their tasks are told."""

from __future__ import annotations

import pytest

from tests.unit.factory.conftest import dag_of
from tests.unit.manifest.samples import FULL


def test_base_is_a_build_argument_and_the_platform_is_handed_on() -> None:
    text = FULL.replace('args: {BASE: "${env.base_image}"}', 'args: {X: 1}\n  base: "${env.base_image}"\n'
                        "  platforms: [linux/arm64]")  # fmt: skip
    task = dag_of(text).get_task("build_image")
    assert task.build_args == {"BASE": "${env.base_image}", "X": 1}
    assert task.platform == "linux/arm64"
    assert dag_of(FULL).get_task("build_image").platform is None


@pytest.mark.parametrize("pattern", [None, "^release-.*$"])
def test_a_release_is_told_what_the_trigger_must_have(pattern: str | None) -> None:
    more = f", tag_pattern: '{pattern}'" if pattern else ""
    dag = dag_of(FULL.replace("pipeline: deploy-model", f"pipeline: deploy-model{more}"))
    assert dag.get_task("release").tag_pattern == pattern
