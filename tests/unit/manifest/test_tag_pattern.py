"""The tag pattern of a docker trigger: it must let every release through, and nothing else."""

from __future__ import annotations

import time

import pytest
from pydantic import TypeAdapter, ValidationError

from mlfleet.manifest.values import TagPattern

PATTERN = TypeAdapter(TagPattern)


@pytest.mark.parametrize(
    "pattern", ["^release-.*$", "release-.*", r"release-[0-9a-f]{16}-\d+", "release-[^-]+-[0-9]+", "^(release)-.+"]
)
def test_patterns_that_let_releases_through(pattern: str) -> None:
    assert PATTERN.validate_python(pattern) == pattern


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("^run-.*$", "cannot match"),
        ("release", "cannot match"),
        (r"v\d+", "cannot match"),
        (r"release-[0-9a-f]{16}-1", "release-fedcba9876543210-12"),
        (".*", "every build would be deployed"),
        ("(build|release)-.*", "every build would be deployed"),
        ("release-(", "not a regular expression"),
        (r"(\w+)+x", "repetition"),
        (".*" * 20 + "x", "repetition"),
    ],
)
def test_patterns_that_would_deploy_nothing_or_too_much(pattern: str, says: str) -> None:
    started = time.monotonic()
    with pytest.raises(ValidationError, match=says):
        PATTERN.validate_python(pattern)
    assert time.monotonic() - started < 5
