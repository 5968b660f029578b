"""From a git branch to the environment that its pipelines go to.

Each branch goes to one environment: the one with the closest pattern in its ``branches``. A name in full is closer than
any pattern, a longer pattern closer than a shorter one.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlfleet.errors import ConfigError
from mlfleet.fleet.git import Git
from mlfleet.manifest.environments import Environment
from mlfleet.manifest.pipeline_versions import COMMIT_DIGITS

_DEFAULTS = {"prod": ("main",), "dev": ("*",)}


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
        raise ConfigError(f"the commit {commit[:COMMIT_DIGITS]} is not in {', '.join(remotes)}", str(git.top),
                          "Push it first; if it is there, fetch")  # fmt: skip
