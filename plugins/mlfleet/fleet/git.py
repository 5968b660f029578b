"""The git repository around a deployment repository, asked with git itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlfleet.errors import ConfigError

_TIMEOUT = 120
# Answers that do not depend on who asks: no translations, no refreshed index, no question for a password.
_PLAIN = {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
_DEEPEN = "Deepen it: `git fetch --unshallow`, or `fetch-depth: 0` for actions/checkout"


class GitError(ConfigError):
    """git said no; ``what`` has its words."""


@dataclass(frozen=True)
class Git:
    """A work tree.

    ``top``     its top folder
    ``prefix``  of the deployment repository in it: "" for the top, else like "ml/"
    """

    top: Path
    prefix: str = ""

    @classmethod
    def around(cls, root: Path) -> Git | None:
        """The work tree that `root` lies in; None when it lies in none. Raises ConfigError when there is no git."""
        ran = _run(root, ["rev-parse", "--show-toplevel", "--show-prefix"], check=False)
        if ran.returncode:
            said = ran.stderr.decode(errors="replace")
            if "not a git repository" in said or "must be run in a work tree" in said:
                return None
            raise GitError(f"git cannot read the repository: {said.strip()}", str(root))
        top, _, prefix = ran.stdout.removesuffix(b"\n").rpartition(b"\n")
        return cls(Path(os.fsdecode(top)), os.fsdecode(prefix))

    @classmethod
    def required(cls, root: Path) -> Git:
        """As `around`; raises ConfigError when `root` lies in no work tree."""
        found = cls.around(root)
        if found is None:
            raise ConfigError(f"{root} lies in no git repository", "", "Run it in a clone of the deployment repository")
        return found

    def raw(self, *words: str, stdin: bytes | None = None) -> bytes:
        """What git prints. Raises GitError with git's own words."""
        return _run(self.top, words, stdin=stdin).stdout

    def text(self, *words: str) -> str:
        """The same as one text without the line's end."""
        return os.fsdecode(self.raw(*words)).removesuffix("\n")

    def fields(self, *words: str, stdin: bytes | None = None) -> list[str]:
        """What git prints with ``-z``; names are as the file system has them."""
        return [os.fsdecode(field) for field in self.raw(*words, stdin=stdin).split(b"\0") if field]

    def succeeds(self, *words: str) -> bool:
        """Whether git leaves with 0."""
        return _run(self.top, words, check=False).returncode == 0

    def commit(self, name: str) -> str:
        """The full id of the commit that `name` means. Raises ConfigError when there is none."""
        # A name that begins like an option must not become one.
        words = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        ran = _run(self.top, words, check=False)
        if ran.returncode:
            todo = _DEEPEN if self.is_shallow() else "Fetch it, or name another one: a branch, a tag or a commit"
            where = f"{self.top}, a shallow clone" if self.is_shallow() else str(self.top)
            raise ConfigError(f"there is no commit {name!r}", where, todo)
        return ran.stdout.decode().strip()

    def merge_bases(self, one: str, other: str) -> list[str]:
        """The commits where the histories of two commits part, several after a criss-cross of merges.

        Raises ConfigError when they have none in common, or when a shallow clone does not reach so far.
        """
        ran = _run(self.top, ("merge-base", "--all", one, other), check=False)
        found = ran.stdout.decode().split()
        if found:
            return found
        if self.is_shallow():
            what = f"the history of this shallow clone does not reach to where {one[:12]} and {other[:12]} part"
            raise ConfigError(what, str(self.top), _DEEPEN)
        raise ConfigError(f"{one[:12]} and {other[:12]} have no commit in common", str(self.top),
                          "Name a base from the same history")  # fmt: skip

    def is_shallow(self) -> bool:
        """Whether the clone lacks older commits."""
        return self.text("rev-parse", "--is-shallow-repository") == "true"

    def branch(self) -> str | None:
        """The branch that is checked out; None on a detached HEAD."""
        ran = _run(self.top, ("symbolic-ref", "--quiet", "HEAD"), check=False)
        name = os.fsdecode(ran.stdout).removesuffix("\n")
        return name.removeprefix("refs/heads/") if not ran.returncode and name.startswith("refs/heads/") else None


def _run(
    folder: Path, words: Sequence[str], *, stdin: bytes | None = None, check: bool = True
) -> subprocess.CompletedProcess[bytes]:
    try:
        ran = subprocess.run(
            ["git", "--literal-pathspecs", *words], cwd=folder, input=stdin or b"", capture_output=True,
            timeout=_TIMEOUT, check=False, env={**os.environ, **_PLAIN},
        )  # fmt: skip
    except FileNotFoundError as error:
        raise GitError("git is not installed, or the folder is gone", str(folder), "Install git") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GitError(f"git {words[0]} did not run: {error}", str(folder)) from error
    if check and ran.returncode:
        raise GitError(f"git {words[0]} failed: {ran.stderr.decode(errors='replace').strip()}", str(folder))
    return ran
