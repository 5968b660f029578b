from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Git = Callable[..., str]
# No setting of the person or of the machine, and no clock, may show in what tests make.
SETTINGS = {
    "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_AUTHOR_NAME": "T", "GIT_AUTHOR_EMAIL": "t@example.com", "GIT_AUTHOR_DATE": "2026-11-01T00:00:00Z",
    "GIT_COMMITTER_NAME": "T", "GIT_COMMITTER_EMAIL": "t@example.com", "GIT_COMMITTER_DATE": "2026-11-01T00:00:00Z",
}  # fmt: skip


@pytest.fixture
def git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Git:
    """Runs git in tmp_path, which is made a repository on the branch main."""
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)

    def run(*words: str, cwd: Path = tmp_path) -> str:
        ran = subprocess.run(["git", *words], cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.strip()

    run("init", "--quiet", "--initial-branch=main")
    return run
