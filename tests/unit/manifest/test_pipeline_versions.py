"""What versions of a pipeline are called."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlfleet.manifest.pipeline_versions import MAX_LENGTH, branch_slug, is_of_branch, is_of_commit, version_name

COMMIT = "0123456789abcdef0123456789abcdef01234567"
branches = st.text(st.characters(codec="utf-8"), min_size=1, max_size=300)


@given(branch=branches)
def test_a_version_is_found_again_by_its_branch_and_its_commit(branch: str) -> None:
    name = version_name(branch, COMMIT)
    assert len(name) <= MAX_LENGTH
    assert is_of_branch(name, branch)
    assert is_of_commit(name, COMMIT)
    assert is_of_commit(name, COMMIT[:7])


def test_what_is_no_version_of_a_branch() -> None:
    assert not is_of_branch("main_0123abc", "mai")
    assert not is_of_branch("main", "main")
    assert not is_of_branch("main_notes", "main")
    assert not is_of_commit("main_0123abc", "0123abd")
    assert not is_of_commit("main_0123abc", "")


@pytest.mark.parametrize(
    ("branch", "slug"),
    [
        ("main", "main"),
        ("fix-1", "fix-1"),
        ("feature/size", "feature-size-4d1a2f7e"),
        ("Main", "main-"),
        ("ß", "branch-"),
    ],
)
def test_slugs(branch: str, slug: str) -> None:
    assert re.sub(r"(?<=-)[0-9a-f]{8}$", "", branch_slug(branch)) == re.sub(r"(?<=-)[0-9a-f]{8}$", "", slug)


def test_branches_that_look_alike_stay_apart() -> None:
    alike = ["a/b", "a-b", "A-b", "a_b", branch_slug("a/b")]
    assert len({branch_slug(branch) for branch in alike}) == len(alike)


def test_long_branches_stay_apart() -> None:
    one, two = branch_slug("x" * 200 + "1"), branch_slug("x" * 200 + "2")
    assert one != two
