"""What versions of a pipeline are called."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlfleet.manifest.pipeline_versions import MAX_LENGTH, branch_slug, is_of_branch, is_of_commit, version_name

COMMIT = "0123456789abcdef0123456789abcdef01234567"
branches = st.text(min_size=1, max_size=300)


@given(branch=branches)
def test_a_version_is_found_again_by_its_branch_and_its_commit(branch: str) -> None:
    name = version_name(branch, COMMIT)
    assert len(name) <= MAX_LENGTH
    assert is_of_branch(name, branch)
    assert is_of_commit(name, COMMIT)
    assert is_of_commit(name, COMMIT[:7])
    assert is_of_branch(f"{branch_slug(branch)}_{COMMIT}", branch)


def test_what_is_no_version_of_a_branch() -> None:
    assert not is_of_branch("main_0123abc", "mai")
    assert not is_of_branch("main", "main")
    assert not is_of_branch("main_notes", "main")
    assert not is_of_commit("main_0123abc", "0123abd")
    assert not is_of_commit("main_0123abc", "")


@pytest.mark.parametrize(
    ("branch", "slug"), [("feature/Größe", "feature-Gr-e"), ("a_b", "a-b"), ("release-1.4", "release-1.4")]
)
def test_slugs(branch: str, slug: str) -> None:
    assert branch_slug(branch) == slug


def test_long_branches_stay_apart() -> None:
    one, two = branch_slug("x" * 200 + "1"), branch_slug("x" * 200 + "2")
    assert one != two
