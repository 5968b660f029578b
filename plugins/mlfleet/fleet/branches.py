"""From a git branch to the environment that its pipelines go to, and to the name of their versions.

Each branch goes to one environment: the one with the closest pattern in its ``branches``. A name in full is closer than
any pattern, a longer pattern closer than a shorter one.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlfleet.errors import ConfigError
from mlfleet.fleet.git import Git
from mlfleet.manifest.environments import Environment

_DEFAULTS = {"prod": ("main",), "dev": ("*",)}
# The width of the column (kfp.md 5); a commit's twelve digits and the `_` before them leave this for the branch.
_MAX_NAME, _COMMIT = 127, 12
_MAX_SLUG = _MAX_NAME - _COMMIT - 1
_HASH = 8
_VERSION = re.compile(rf"(?P<slug>[a-z0-9-]+)_(?P<commit>[0-9a-f]{{{_COMMIT}}})")


@dataclass(frozen=True)
class Destination:
    """Where a branch goes; ``exact`` when the environment names that very branch."""

    environment: Environment
    exact: bool


def destination_of(branch: str, environments: Sequence[Environment]) -> Destination:
    """Raises ConfigError for a branch that goes nowhere, or to two environments alike."""
    fitting = [
        (pattern == branch, len(pattern), environment)
        for environment in environments
        for pattern in patterns_of(environment)
        if pattern == branch or fnmatch.fnmatchcase(branch, pattern)
    ]
    if not fitting:
        raise ConfigError(f"no environment takes the branch {branch!r}", "`branches` in include/environments",
                          'Add it to one of them, for example `branches: ["*"]`')  # fmt: skip
    closest = max((exact, length) for exact, length, _ in fitting)
    found = {each.name: each for exact, length, each in fitting if (exact, length) == closest}
    if len(found) > 1:
        raise ConfigError(f"the branch {branch!r} fits the environments {' and '.join(sorted(found))} alike",
                          "`branches` in include/environments", "Write its name in full in one of them")  # fmt: skip
    (environment,) = found.values()
    return Destination(environment, closest[0])


def patterns_of(environment: Environment) -> tuple[str, ...]:
    """Its branches as it says, or by its name."""
    given = environment.branches
    return _DEFAULTS.get(environment.name, ()) if given is None else tuple(given)


def branch_of(git: Git, given: str | None, environ: Mapping[str, str]) -> str:
    """The branch: as it was given, as it is checked out, or as GitHub Actions tells on a detached HEAD.

    For a pull request that is its merge (``12/merge``), and never the branch that it comes from: anybody's fork has a
    ``main``. Raises ConfigError.
    """
    if given:
        if not git.succeeds("check-ref-format", "--branch", given):
            raise ConfigError(f"{given!r} cannot be the name of a branch", "--branch")
        return given
    found = git.branch()
    if found is None and environ.get("GITHUB_ACTIONS") == "true" and environ.get("GITHUB_REF_TYPE") == "branch":
        found = environ.get("GITHUB_REF_NAME")
    if not found:
        raise ConfigError("HEAD is detached, so nothing tells the branch", str(git.top), "Name it with --branch")
    return found


def refuse_unpublished(git: Git, branch: str, commit: str) -> None:
    """Raises ConfigError when the branch is known at a remote and does not have the commit there.

    For branches that an environment names in full: what reaches production is what everybody can see. Without a remote
    there is nothing to compare with.
    """
    listed = git.text("for-each-ref", "--format=%(refname)", "refs/remotes").split("\n")
    remotes = [name for name in listed if name.removeprefix("refs/remotes/").partition("/")[2] == branch]
    if remotes and not any(git.succeeds("merge-base", "--is-ancestor", commit, name) for name in remotes):
        raise ConfigError(f"the commit {commit[:_COMMIT]} is not in {', '.join(remotes)}", str(git.top),
                          "Push it first; if it is there, fetch")  # fmt: skip


def version_name(branch: str, commit: str) -> str:
    """``<branch>_<commit>``: small letters, digits and hyphens, at most 127 characters.

    Two branches never have the same name: one that is changed in becoming a slug carries a hash of what it was.
    """
    return f"{slug_of(branch)}_{commit[:_COMMIT]}"


def slug_of(branch: str) -> str:
    """The branch as it stands in the names of versions."""
    slug = re.sub(r"[^a-z0-9]+", "-", branch.lower()).strip("-")
    # A branch that looks as if it carried a hash gets one too.
    if slug == branch and len(slug) <= _MAX_SLUG and not re.search(rf"-[0-9a-f]{{{_HASH}}}$", slug):
        return slug
    digest = hashlib.sha256(os.fsencode(branch)).hexdigest()[:_HASH]
    kept = slug[: _MAX_SLUG - _HASH - 1].strip("-")
    return f"{kept}-{digest}" if kept else f"branch-{digest}"


def slug_in(name: str) -> str | None:
    """The branch's slug in the name of a version; None for a name that is not of this kind."""
    found = _VERSION.fullmatch(name)
    return found["slug"] if found else None
