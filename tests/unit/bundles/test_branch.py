"""A refresh over git while the branch stands still: one question, and nothing is fetched."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlfleet.bundles import ManifestDagBundle, branch
from mlfleet.bundles.branch import stands_at
from tests.support.git_server import GitServer, git_server
from tests.unit.bundles.conftest import GIT, Repo, bag_of
from tests.unit.manifest.samples import MINIMAL

TOKEN = "a-token"


def fetched(repo: Repo) -> dict[str, int]:
    """When git last fetched into what the bundle stores, in nanoseconds."""
    return {path.parent.name: path.stat().st_mtime_ns for path in repo.storage.rglob("FETCH_HEAD")}


def bundle_of(repo: Repo, **kwargs: Any) -> ManifestDagBundle:
    source = {"classpath": GIT, "kwargs": {"git_conn_id": "fleet", "tracking_ref": "main", **kwargs}}
    bundle = ManifestDagBundle(name="projects", source=source)
    bundle.initialize()
    return bundle


def test_a_branch_that_stands_still_is_not_fetched(git_repo: Repo) -> None:
    bundle = bundle_of(git_repo)
    before = fetched(git_repo)
    assert set(before) == {"bare", ".git"}
    git_repo.git("checkout", "-qb", "other")
    (git_repo.root / "README.md").write_text("of another branch")
    git_repo.commit()
    bundle.refresh()
    assert fetched(git_repo) == before


def test_a_branch_that_has_moved_is_fetched_also_when_it_went_back(git_repo: Repo) -> None:
    first = git_repo.git("rev-parse", "HEAD")
    bundle = bundle_of(git_repo)
    git_repo.write("cards", MINIMAL.replace("prices", "cards") + "tags: [new]\n")
    git_repo.commit()
    bundle.refresh()
    assert "new" in bag_of(bundle.path, bundle.path).dags["cards"].tags
    git_repo.git("reset", "-q", "--hard", first)
    bundle.refresh()
    assert "new" not in bag_of(bundle.path, bundle.path).dags["cards"].tags


def test_a_branch_whose_name_ends_like_ours_is_another(git_repo: Repo) -> None:
    bundle = bundle_of(git_repo)
    first = git_repo.git("rev-parse", "HEAD")
    git_repo.git("update-ref", "refs/x/refs/heads/main", first)
    git_repo.write("cards", MINIMAL.replace("prices", "cards") + "tags: [new]\n")
    git_repo.commit()
    bundle.refresh()
    assert "new" in bag_of(bundle.path, bundle.path).dags["cards"].tags


def test_a_tag_that_has_moved_is_followed(git_repo: Repo) -> None:
    git_repo.git("tag", "live")
    bundle = bundle_of(git_repo, tracking_ref="live")
    git_repo.write("cards", MINIMAL.replace("prices", "cards") + "tags: [new]\n")
    git_repo.commit()
    git_repo.git("tag", "-f", "live")
    bundle.refresh()
    assert "new" in bag_of(bundle.path, bundle.path).dags["cards"].tags


def test_a_plain_folder_has_no_branch(repo: Repo) -> None:
    assert not stands_at(repo.bundle()._source, "0" * 40)


def test_a_server_that_never_answers_is_given_up(git_repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    source = bundle_of(git_repo)._source
    commit = git_repo.git("rev-parse", "HEAD")
    assert stands_at(source, commit)
    monkeypatch.setattr(branch, "_TIMEOUT", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        source.bare_repo.remotes.origin.set_url(f"http://127.0.0.1:{silent.getsockname()[1]}/fleet.git")
        began = time.monotonic()
        assert not stands_at(source, commit)
    assert time.monotonic() - began < 20


@pytest.fixture
def server(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GitServer]:
    """The same repository behind a server that wants a token."""
    with git_server(tmp_path / "server", TOKEN) as found:
        include = repo.root / "include"
        found.commit({f"include/{path.relative_to(include)}": path.read_text()
                      for path in include.rglob("*") if path.is_file()})  # fmt: skip
        connection = {"conn_type": "git", "host": found.url, "login": "fleet", "password": TOKEN}
        monkeypatch.setenv("AIRFLOW_CONN_FLEET", json.dumps(connection))
        yield found


def test_a_private_repository_is_asked_with_its_token(repo: Repo, server: GitServer) -> None:
    bundle = bundle_of(repo)
    before = fetched(repo)
    server.requests.clear()
    bundle.refresh()
    assert server.requests
    assert fetched(repo) == before
    server.commit({"include/projects/cards.yaml": MINIMAL.replace("prices", "cards") + "tags: [new]\n"})
    bundle.refresh()
    assert "new" in bag_of(bundle.path, bundle.path).dags["cards"].tags


def test_a_server_that_fails_is_the_refresh_to_tell(repo: Repo, server: GitServer) -> None:
    """Airflow logs what a refresh raises, and asks again."""
    bundle = bundle_of(repo)
    before = bag_of(bundle.path, bundle.path).dags.keys()
    server.failing.extend([503] * 20)
    with pytest.raises(Exception, match="503"):
        bundle.refresh()
    server.failing.clear()
    assert bag_of(bundle.path, bundle.path).dags.keys() == before
    bundle.refresh()
