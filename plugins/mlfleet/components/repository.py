"""Cloning a private repository over HTTP with a token that is written nowhere.

The token reaches git by a credential helper that prints it from the environment of the git process, and only when the
repository's own origin asks: it is in no address, command line, configuration file or message, and a redirect to
another host does not get it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from mlfleet.errors import AuthError, ConfigError, MlfleetError, NotFound, RequestRefused, TransientError

SYSTEM = "git"
TOKEN_VARIABLE = "GIT_TOKEN"
# Below it a transfer is given up: bytes per second, for so many seconds.
_SLOW = ("1000", "60")
_SECONDS = 900.0
_WAITS = (2.0, 10.0)
# Without HOME: a .netrc there would answer in the token's place.
_KEPT = ("PATH", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "HTTPS_PROXY",
         "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy")  # fmt: skip
_HELPER = (
    """!f() { test "$1" = get && printf 'username=%s\\npassword=%s\\n' """
    """"$MLFLEET_GIT_USER" "$MLFLEET_GIT_PASSWORD"; }; f"""
)
_REFUSED = re.compile(r"Authentication failed|could not read (Username|Password)|returned error: 40[13]")
_MISSING = re.compile(r"repository '.*' not found|returned error: 404", re.IGNORECASE)
_NO_REF = re.compile(r"couldn't find remote ref|not our ref|no such remote ref|Server does not allow request for")
_NEVER = re.compile(r"certificate|SSL|not valid: is this a git repository|Unsupported|unable to find remote helper")


@dataclass(frozen=True)
class Repository:
    """What to clone: ``ref`` is a branch, a tag or a whole commit id, ``user`` what the host expects beside a token."""

    url: str
    ref: str = "main"
    user: str = "x-access-token"
    token: str = field(default="", repr=False)

    def check(self) -> None:
        """Raises ConfigError for what must not be, or can't be, cloned."""
        parts = urlsplit(self.url)
        if parts.username is not None or parts.password is not None:
            raise ConfigError("the repository's address holds a user or a password", "the component's inputs",
                              f"Remove it; the token comes from the secret, as {TOKEN_VARIABLE}")  # fmt: skip
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigError(f"{self.url!r} is no http or https address of a repository", "the component's inputs")
        if not self.ref or self.ref.startswith("-") or not self.ref.isprintable() or " " in self.ref:
            raise ConfigError(f"{self.ref!r} is no branch, tag or commit", "the component's inputs")
        if not self.token.isprintable() or " " in self.token:
            raise ConfigError("the token has a line break or a blank in it", f"the secret behind {TOKEN_VARIABLE}",
                              "Put it into the secret again, without a line break")  # fmt: skip


def clone(
    repository: Repository,
    target: Path,
    *,
    path: str = "",
    say: Callable[[str], None] = lambda text: None,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Puts the files of ``repository`` at its ref, or of the folder ``path`` in it, into ``target``; the commit's id.

    Without history and without ``.git``. Raises ConfigError, AuthError for a token that is missing, wrong or not
    enough, NotFound for a repository or ref that is not there, TransientError when the host can't be reached after
    three tries.
    """
    repository.check()
    with tempfile.TemporaryDirectory(prefix="mlfleet-clone-") as folder:
        work = Path(folder) / "repository"
        _git(repository, "init", "--quiet", str(work))
        _git(repository, "-C", str(work), "remote", "add", "origin", repository.url)
        _fetch(repository, work, say, sleep)
        _git(repository, "-C", str(work), "checkout", "--quiet", "FETCH_HEAD")
        commit = _git(repository, "-C", str(work), "rev-parse", "HEAD").strip()
        chosen = (work / path).resolve()
        if not chosen.is_relative_to(work.resolve()) or not chosen.is_dir():
            raise ConfigError(f"{path!r} is no folder of {repository.url} at {commit[:12]}", "the component's inputs")
        shutil.copytree(chosen, target, symlinks=True, ignore=shutil.ignore_patterns(".git"), dirs_exist_ok=True)
    say(f"cloned {repository.url} at {repository.ref}: commit {commit}")
    return commit


def _fetch(repository: Repository, work: Path, say: Callable[[str], None], sleep: Callable[[float], None]) -> None:
    for wait in (*_WAITS, None):
        try:
            _git(repository, "-C", str(work), "fetch", "--quiet", "--depth", "1", "origin", repository.ref)
        except TransientError as exc:
            if wait is None:
                raise
            say(f"{exc}; trying again in {wait:g} s")
            sleep(wait)
        else:
            return


def _git(repository: Repository, *words: str) -> str:
    """What a git command prints. Raises the error that its message means."""
    environment = {**{name: os.environ[name] for name in _KEPT if name in os.environ}, **_settings(repository)}
    try:
        done = subprocess.run(
            ["git", *words], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", timeout=_SECONDS, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        raise ConfigError("there is no git", "PATH", "Use an image that has it") from None
    except subprocess.TimeoutExpired:
        raise TransientError(SYSTEM, f"{repository.url} was not there after {_SECONDS:g} s") from None
    if done.returncode != 0:
        raise _meaning(repository, done.stderr)
    return done.stdout


def _settings(repository: Repository) -> Mapping[str, str]:
    """Configuration by environment: nothing of the machine's, no questions asked, the token for this origin alone."""
    parts = urlsplit(repository.url)
    settings = [("credential.helper", ""), ("http.lowSpeedLimit", _SLOW[0]), ("http.lowSpeedTime", _SLOW[1]),
                ("core.hooksPath", os.devnull), ("protocol.allow", "never"), ("protocol.http.allow", "always"),
                ("protocol.https.allow", "always")]  # fmt: skip
    if repository.token:
        settings.append((f"credential.{parts.scheme}://{parts.netloc}.helper", _HELPER))
    numbered = {f"GIT_CONFIG_KEY_{n}": name for n, (name, _) in enumerate(settings)}
    numbered |= {f"GIT_CONFIG_VALUE_{n}": value for n, (_, value) in enumerate(settings)}
    return {
        **numbered, "GIT_CONFIG_COUNT": str(len(settings)), "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", "MLFLEET_GIT_USER": repository.user,
        "MLFLEET_GIT_PASSWORD": repository.token,
    }  # fmt: skip


def _meaning(repository: Repository, said: str) -> MlfleetError:
    """The error for what git said."""
    told = said.replace(repository.token, "***") if repository.token else said
    reason = "; ".join(line.strip() for line in told.splitlines() if line.strip())[:500]
    where = f"{repository.url} at {repository.ref}"
    if _REFUSED.search(told):
        refused, missing = f"refuses the token of {TOKEN_VARIABLE}", f"wants a token, and {TOKEN_VARIABLE} is not set"
        what = refused if repository.token else missing
        return AuthError(
            SYSTEM, f"{repository.url} {what}: correct the secret, and see that it may read the repository"
        )
    if _NO_REF.search(told):
        return NotFound(SYSTEM, f"there is no branch, tag or commit {repository.ref} in {repository.url}")
    if _MISSING.search(told):
        hint = "correct the address, or give the token the right to read it (some hosts hide what a token may not see)"
        return NotFound(SYSTEM, f"there is no repository {repository.url}: {hint}")
    if _NEVER.search(told):
        return RequestRefused(SYSTEM, f"{where} can't be cloned: {reason}")
    return TransientError(SYSTEM, f"{where} can't be cloned now: {reason}")
