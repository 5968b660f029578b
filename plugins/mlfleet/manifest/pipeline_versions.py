"""How the uploaded versions of a KFP pipeline are called: who uploads them and who looks for them must agree.

A project's pipeline has the project's name. A version is ``<branch>_<commit>``: small letters, digits and hyphens of
the branch, then the first twelve digits of the commit. KFP takes 127 characters (kfp.md 5).
"""

from __future__ import annotations

import hashlib
import os
import re

MAX_LENGTH = 127
COMMIT_DIGITS = 12
_MAX_SLUG = MAX_LENGTH - COMMIT_DIGITS - 1
_HASH_DIGITS = 8
_COMMIT = re.compile(r"[0-9a-f]{7,40}")
_VERSION = re.compile(rf"(?P<slug>[a-z0-9-]+)_(?P<commit>[0-9a-f]{{{COMMIT_DIGITS}}})")


def branch_slug(branch: str) -> str:
    """The branch as it stands in the names of versions.

    Two branches never have the same: one that is changed in becoming a slug carries a hash of what it was.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", branch.lower()).strip("-")
    # A branch that looks as if it carried a hash gets one too.
    if slug == branch and len(slug) <= _MAX_SLUG and not re.search(rf"-[0-9a-f]{{{_HASH_DIGITS}}}$", slug):
        return slug
    digest = hashlib.sha256(os.fsencode(branch)).hexdigest()[:_HASH_DIGITS]
    kept = slug[: _MAX_SLUG - _HASH_DIGITS - 1].strip("-")
    return f"{kept}-{digest}" if kept else f"branch-{digest}"


def version_name(branch: str, commit: str) -> str:
    """The name of the version that a commit of a branch is uploaded as."""
    return f"{branch_slug(branch)}_{commit[:COMMIT_DIGITS]}"


def slug_in(name: str) -> str | None:
    """The branch's slug in the name of a version; None for a name that is not of this kind."""
    found = _VERSION.fullmatch(name)
    return found["slug"] if found else None


def is_of_branch(name: str, branch: str) -> bool:
    """Whether a version was uploaded from this branch."""
    slug, _, commit = name.rpartition("_")
    return bool(_COMMIT.fullmatch(commit)) and slug == branch_slug(branch)


def is_of_commit(name: str, commit: str) -> bool:
    """Whether a version was uploaded from this commit; either side may be shortened."""
    written = name.rpartition("_")[2]
    if not _COMMIT.fullmatch(written) or not _COMMIT.fullmatch(commit):
        return False
    return written.startswith(commit) or commit.startswith(written)
