"""How the uploaded versions of a KFP pipeline are called: who uploads them and who looks for them must agree.

A project's pipeline has the project's name. A version is ``<branch>_<commit>``: the branch with everything but letters,
digits, ``.`` and ``-`` replaced, then 7 to 40 hexadecimal digits. KFP takes 127 characters (kfp.md 5).
"""

from __future__ import annotations

import hashlib
import re

MAX_LENGTH = 127
COMMIT_DIGITS = 12
_LONGEST_BRANCH = MAX_LENGTH - 1 - 40
_COMMIT = re.compile(r"[0-9a-f]{7,40}")


def branch_slug(branch: str) -> str:
    """``feature/Größe`` as ``feature-Gr-e``; one that is too long ends in a digest of the whole."""
    slug = re.sub(r"[^A-Za-z0-9.-]+", "-", branch)
    if len(slug) <= _LONGEST_BRANCH:
        return slug
    return f"{slug[: _LONGEST_BRANCH - 9]}-{hashlib.sha256(branch.encode()).hexdigest()[:8]}"


def version_name(branch: str, commit: str) -> str:
    """The name of the version that a commit of a branch is uploaded as."""
    return f"{branch_slug(branch)}_{commit[:COMMIT_DIGITS]}"


def is_of_branch(name: str, branch: str) -> bool:
    """Whether a version was uploaded from this branch."""
    slug, _, commit = name.rpartition("_")
    return slug == branch_slug(branch) and bool(_COMMIT.fullmatch(commit))


def is_of_commit(name: str, commit: str) -> bool:
    """Whether a version was uploaded from this commit; either side may be shortened."""
    written = name.rpartition("_")[2]
    if not _COMMIT.fullmatch(written) or not _COMMIT.fullmatch(commit):
        return False
    return written.startswith(commit) or commit.startswith(written)
