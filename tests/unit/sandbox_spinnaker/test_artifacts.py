from __future__ import annotations

from typing import Any

import pytest

from sandbox.spinnaker.artifacts import UnmatchedArtifact, fits, resolved, wanted_by

IMAGE = {"type": "docker/image", "name": "localhost:1/ml/shop", "version": "v1", "reference": "localhost:1/ml/shop:v1"}


def pipeline(*expected: dict[str, Any]) -> dict[str, Any]:
    return {"expectedArtifacts": [{"id": str(number), **each} for number, each in enumerate(expected)]}


@pytest.mark.parametrize(
    ("match", "fitting"),
    [
        ({}, True),
        ({"type": "docker/image", "name": "localhost:1/ml/shop"}, True),
        ({"name": ".*/ml/shop", "artifactAccount": "whoever"}, True),
        ({"name": "ml/shop"}, False),  # the whole text
        ({"version": "v"}, False),
        ({"location": "here"}, False),
        ({"name": "("}, False),
        ({"name": ""}, True),
    ],
)
def test_which_artifact_is_expected(match: dict[str, Any], fitting: bool) -> None:
    assert fits({"matchArtifact": match}, IMAGE) is fitting


def test_one_fitting_artifact_is_enough_for_echo_but_not_for_orca() -> None:
    config = pipeline(
        {"matchArtifact": {"type": "docker/image"}}, {"matchArtifact": {"type": "gcs"}, "displayName": "A"}
    )
    trigger = {"expectedArtifactIds": ["0", "1"], "artifacts": [IMAGE]}
    assert wanted_by(config, trigger, [IMAGE])
    assert not wanted_by(config, {"expectedArtifactIds": ["1"]}, [IMAGE])
    with pytest.raises(UnmatchedArtifact, match="Unmatched expected artifact A could not be resolved"):
        resolved(config, trigger)


def test_what_is_bound() -> None:
    config = pipeline(
        {"matchArtifact": {"type": "docker/image"}},
        {"matchArtifact": {"type": "gcs"}, "useDefaultArtifact": True, "defaultArtifact": {"type": "gcs", "name": "x"}},
        {"matchArtifact": {"type": "nobody asks"}},
    )
    found = resolved(config, {"expectedArtifactIds": ["0", "1"], "artifacts": [IMAGE]})
    assert [each["boundArtifact"]["name"] for each in found] == [IMAGE["name"], "x"]
    assert resolved(config, {}) == []
    assert wanted_by(config, {}, [])
