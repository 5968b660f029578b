"""Cloning a private repository: git's own http-backend behind a token, on loopback."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlfleet.components.repository import Repository, clone
from mlfleet.components.running import clone_repository
from mlfleet.errors import AuthError, ConfigError, MlfleetError, NotFound, TransientError
from tests.support.git_server import GitServer, git_server
from tests.support.processes import free_port

TOKEN, WRONG = "ghp-5cr37-0f-g1t", "ghp-wr0ng-t0k3n"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServer]:
    with git_server(tmp_path_factory.mktemp("git"), TOKEN) as server:
        server.commit({"training/job.yaml": "version: 1", "training/.hidden": "", "README.md": "read"})
        yield server


@pytest.fixture
def server(served: GitServer) -> GitServer:
    served.requests.clear()
    served.failing.clear()
    return served


def cloned(server: GitServer, target: Path, path: str = "", **more: Any) -> tuple[str, list[str], list[float]]:
    """Commit, what was said, how long it waited."""
    said: list[str] = []
    waits: list[float] = []
    repository = Repository(**{"url": server.url, "token": TOKEN, **more})
    return clone(repository, target, path=path, say=said.append, sleep=waits.append), said, waits


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_files_of_a_branch_without_history(server: GitServer, tmp_path: Path) -> None:
    commit, said, _ = cloned(server, tmp_path / "all")
    assert commit == server.git("rev-parse", "main").strip()
    assert files(tmp_path / "all") == ["README.md", "training/.hidden", "training/job.yaml"]
    assert said == [f"cloned {server.url} at main: commit {commit}"]


def test_a_commit_a_tag_and_a_folder(server: GitServer, tmp_path: Path) -> None:
    before = server.git("rev-parse", "main").strip()
    server.git("tag", "v1")
    server.git("push", "-q", "origin", "v1")
    server.commit({"training/job.yaml": "version: 2"}, "feature/x")
    assert cloned(server, tmp_path / "branch", "training", ref="feature/x")[0] != before
    for ref in (before, "v1"):
        assert cloned(server, tmp_path / ref, "training", ref=ref)[0] == before
        assert files(tmp_path / ref) == [".hidden", "job.yaml"]
        assert (tmp_path / ref / "job.yaml").read_text() == "version: 1"


@pytest.mark.parametrize(
    ("wrong", "kind", "sentence"),
    [
        ({"token": WRONG}, AuthError, "refuses the token of GIT_TOKEN: correct the secret"),
        ({"token": ""}, AuthError, "wants a token, and GIT_TOKEN is not set: correct the secret"),
        ({"token": f"{TOKEN}\nx"}, ConfigError, "the token has a line break"),
        ({"ref": "nowhere"}, NotFound, "there is no branch, tag or commit nowhere in"),
        ({"ref": "0" * 40}, NotFound, "there is no branch, tag or commit 000"),
        ({"ref": "--upload-pack=x"}, ConfigError, "is no branch, tag or commit"),
        ({"url": "ssh://host/x.git"}, ConfigError, "is no http or https address"),
        ({"url": f"https://x:{TOKEN}@host/x.git"}, ConfigError, "the repository's address holds a user or a password"),
        ({"path": "nowhere"}, ConfigError, "'nowhere' is no folder of"),
        ({"path": "../.."}, ConfigError, "'../..' is no folder of"),
    ],
)
def test_what_is_refused_is_one_sentence_without_a_token(
    server: GitServer, tmp_path: Path, wrong: dict[str, str], kind: type[MlfleetError], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence.replace(".", r"\.")) as caught:
        cloned(server, tmp_path / "x", **wrong)
    text = str(caught.value)
    assert "\n" not in text
    assert TOKEN not in text
    assert WRONG not in text
    assert not (tmp_path / "x").exists()


def test_another_repository_is_not_found(server: GitServer, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"there is no repository .*other.git: correct the address"):
        cloned(server, tmp_path / "x", url=server.url.replace("private", "other"))


def test_a_host_that_is_busy_is_asked_again_and_given_up(server: GitServer, tmp_path: Path) -> None:
    server.failing[:] = [503, 502]
    _, said, waits = cloned(server, tmp_path / "x")
    assert waits == [2.0, 10.0]
    assert "503; trying again in 2 s" in said[0]
    server.failing[:] = [503] * 3
    with pytest.raises(TransientError, match=r"can't be cloned now: .*503"):
        cloned(server, tmp_path / "y")


def test_a_host_that_is_not_there(server: GitServer, tmp_path: Path) -> None:
    with pytest.raises(TransientError, match="can't be cloned now"):
        cloned(server, tmp_path / "x", url=f"http://127.0.0.1:{free_port()}/x.git")


def test_the_token_is_shown_to_the_origin_of_the_repository_alone(tmp_path: Path) -> None:
    """A host that redirects elsewhere, where a login is asked for."""
    with git_server(tmp_path / "1", TOKEN) as thief, git_server(tmp_path / "2", TOKEN) as house:
        thief.commit({"x": ""})
        house.redirect = thief.url
        with pytest.raises(AuthError):
            cloned(house, tmp_path / "x")
        assert thief.requests
        assert thief.shown == []


def test_settings_of_the_machine_do_not_matter(
    server: GitServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".gitconfig").write_text('[url "http://127.0.0.1:9/"]\n  insteadOf = http://127.0.0.1\n')
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login x password y\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_TRACE_CURL", "1")
    monkeypatch.setenv("GIT_DIR", str(tmp_path))
    cloned(server, tmp_path / "x")


def test_the_component_ends_with_one_line(
    server: GitServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GIT_TOKEN", f"{TOKEN}\n")  # as secrets are often made
    clone_repository(server.url, "main", "training", tmp_path / "x")
    monkeypatch.setenv("GIT_TOKEN", WRONG)
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        clone_repository(server.url, "main", "", tmp_path / "y")
    assert ended.value.code == 1
    out = capsys.readouterr().out
    assert out == (
        f"error: git: {server.url} refuses the token of GIT_TOKEN: correct the secret, and see that it may read the "
        "repository\n"
    )
    assert os.environ["GIT_TOKEN"] not in out
