from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlfleet.errors import ConfigError
from mlfleet.fleet.branches import branch_of, destination_of
from mlfleet.fleet.git import Git as Repository
from mlfleet.manifest.environments import Environment
from mlfleet.manifest.pipeline_versions import branch_slug, slug_in, version_name
from tests.unit.fleet.conftest import Git

COMMIT = "0123456789abcdef0123456789abcdef01234567"
# Every one is a branch that git takes.
STRANGE = [
    "main", "feature/a", "feature-a", "Feature-A", "feature_a", "feature.a", "feature--a", "-", "ä", "日本語", "🚀/🚀",
    "a" * 200, "a" * 201, "x" * 114, "x" * 115, "a'b\"c", "a;rm -rf $HOME", "a%20b", "@", "refs/heads/main", "v1.0",
    "a=b", "feature-0123abcd", "1", "a,b", "a|b&c", "(a)", "<a>", "{a}", "a#b", "é", "e\u0301",
]  # fmt: skip


def is_branch(name: str) -> bool:
    ran = subprocess.run(["git", "check-ref-format", f"refs/heads/{name}"], check=False, capture_output=True)
    return ran.returncode == 0


def test_strange_branches_have_names_of_their_own_that_kfp_takes() -> None:
    names = {branch: version_name(branch, COMMIT) for branch in STRANGE}
    assert len(set(names.values())) == len(STRANGE)
    for branch, name in names.items():
        assert re.fullmatch(r"[a-z0-9][a-z0-9-]*_0123456789ab", name), name
        assert len(name) <= 127
        assert slug_in(name) == branch_slug(branch)
    assert names["main"] == "main_0123456789ab"
    assert names["feature-a"] == "feature-a_0123456789ab"
    assert names["x" * 114] == f"{'x' * 114}_0123456789ab"
    assert names["feature/a"].startswith("feature-a-")
    assert names["日本語"].startswith("branch-")


@settings(max_examples=300)
@given(st.lists(st.text(alphabet="aA1-_/.é", min_size=1, max_size=12), min_size=2, max_size=2, unique=True))
def test_two_branches_never_share_a_name(branches: list[str]) -> None:
    # Nor does one that looks like another's name with its hash.
    looks = branch_slug(branches[0])
    assert branch_slug(branches[0]) != branch_slug(branches[1])
    assert looks == branches[0] or branch_slug(looks) != looks


@pytest.mark.parametrize("name", ["price-suggestion", "by-hand", "main_xyz", "Main_0123456789ab", "a_b_0123456789ab"])
def test_a_version_that_nobody_here_has_named(name: str) -> None:
    assert slug_in(name) is None


def environments(**branches: list[str] | None) -> list[Environment]:
    return [Environment(name=name, branches=given) for name, given in branches.items()]


@pytest.mark.parametrize(
    ("branch", "goes"),
    [
        ("main", ("prod", True)), ("maine", ("dev", False)), ("feature/main", ("dev", False)),
        ("[main]", ("dev", False)),
        ("release/1", ("stage", False)), ("release/hot/1", ("prod", False)), ("*", ("dev", True)),
    ],
)  # fmt: skip
def test_the_closest_pattern_wins(branch: str, goes: tuple[str, bool]) -> None:
    known = environments(dev=None, stage=["release/*"], prod=["main", "release/hot/*"])
    found = destination_of(branch, known)
    assert (found.environment.name, found.exact) == goes


def test_defaults_belong_to_dev_and_prod_alone() -> None:
    assert destination_of("main", environments(dev=None, prod=None)).environment.name == "prod"
    assert destination_of("any/thing", environments(dev=None, prod=None)).environment.name == "dev"
    with pytest.raises(ConfigError, match="no environment takes the branch 'main'"):
        destination_of("main", environments(stage=None))
    with pytest.raises(ConfigError, match="no environment takes"):
        destination_of("topic", environments(dev=[], prod=None))
    with pytest.raises(ConfigError, match="fits the environments a and b alike"):
        destination_of("x1", environments(a=["x*"], b=["*1"]))


def test_the_branch_that_is_checked_out(tmp_path: Path, git: Git) -> None:
    git("commit", "--quiet", "--allow-empty", "-m", "start")
    repository = Repository.required(tmp_path)
    for branch in STRANGE:
        if not is_branch(branch) or branch == "-":
            continue
        if branch != "main":
            git("update-ref", f"refs/heads/{branch}", "HEAD")
        git("symbolic-ref", "HEAD", f"refs/heads/{branch}")
        assert branch_of(repository, None, {}) == branch
    git("checkout", "--quiet", "--detach", "main")
    with pytest.raises(ConfigError, match="HEAD is detached"):
        branch_of(repository, None, {"GITHUB_REF_NAME": "main", "GITHUB_HEAD_REF": "main"})
    actions = {"GITHUB_ACTIONS": "true", "GITHUB_REF_TYPE": "branch", "GITHUB_REF_NAME": "12/merge"}
    assert branch_of(repository, None, {**actions, "GITHUB_HEAD_REF": "main"}) == "12/merge"
    with pytest.raises(ConfigError, match="HEAD is detached"):
        branch_of(repository, None, {**actions, "GITHUB_REF_TYPE": "tag"})
    assert branch_of(repository, "given", actions) == "given"
    with pytest.raises(ConfigError, match="cannot be the name of a branch"):
        branch_of(repository, "--force", {})
