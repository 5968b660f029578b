"""Over a history made by chance, what `changed` says is compared with what compiling both ends says."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
from pathlib import Path

import pytest

from mlfleet.errors import SpecError
from mlfleet.fleet.compiling import Compiled, _outcome
from mlfleet.fleet.git import Git
from mlfleet.fleet.pipelines import State, compare, read_state
from mlfleet.fleet.trees import Trees
from mlfleet.systems.kfp_batch import compile_many
from tests.support.pipeline_history import EDITS, History
from tests.unit.fleet.conftest import SETTINGS

COMMITS = 50
SEED = 5


def hashes(root: Path, commits: list[str], states: dict[str, State], folder: Path) -> dict[str, dict[str, str]]:
    """By commit and project: the hashes of what is compiled, or that nothing is."""
    targets, keys = [], []
    for commit in commits:
        tree = folder / commit
        tree.mkdir()
        archive = subprocess.run(["git", "archive", commit], cwd=root, capture_output=True, check=True).stdout
        subprocess.run(["tar", "-x"], cwd=tree, input=archive, check=True)
        for project, pipelines in states[commit].declared.items():
            for declared in pipelines:
                targets.append((tree / "include/pipelines" / project / declared.file, declared.function))
                keys.append((commit, declared))
    outcomes = compile_many(targets, parallel=3, timeout=60, environment={})
    found: dict[str, dict[str, str]] = {commit: {} for commit in commits}
    for (commit, declared), outcome in zip(keys, outcomes, strict=True):
        made = _outcome(declared, outcome.reason if isinstance(outcome, SpecError) else outcome, False)
        found[commit][declared.project] = made.hash if isinstance(made, Compiled) else "does not compile"
    return found


@pytest.mark.parametrize("seed", [int(seed) for seed in os.environ.get("MLFLEET_HISTORY_SEEDS", str(SEED)).split()])
def test_nothing_that_changed_is_missed(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    root, trees_folder = tmp_path / "repository", tmp_path / "trees"
    root.mkdir()
    trees_folder.mkdir()
    history = History(root, seed)
    history.grow(COMMITS)
    commits = list(dict.fromkeys(history.commits))
    git = Git.required(root)
    cache: dict = {}  # type: ignore[type-arg]
    with Trees(git) as trees:
        states = {commit: read_state(trees.of_commit(commit), "", cache) for commit in commits}
        truth = hashes(root, commits, states, trees_folder)
        chance = random.Random(seed)
        neighbours = list(itertools.pairwise(commits))
        far = [tuple(chance.sample(commits, 2)) for _ in range(150)]
        missed, differing, over, unaffected = [], 0, 0, 0
        for before, now in [*neighbours, *far]:
            told = {change.project for change in compare([states[before]], states[now]).changed}
            really = {name for name, hash in truth[now].items() if truth[before].get(name) != hash}
            missed += [(before, now, name) for name in really - told]
            differing += len(really)
            if (before, now) in neighbours:
                over += len(told - really)
                unaffected += len(truth[now]) - len(really)
    compiled = [hash for by_name in truth.values() for hash in by_name.values()]
    broken = compiled.count("does not compile")
    print(f"{differing} differ, {len(missed)} missed; of {unaffected} that a commit left alone {over} were reported; "
          f"{broken} of {len(compiled)} do not compile")  # fmt: skip
    assert missed == []
    assert len(commits) == COMMITS
    # The history is worth something: much differs, little is broken, and what does not differ is mostly left alone.
    assert differing > 300
    assert broken < len(compiled) / 2
    assert over < unaffected / 4


def test_the_history_has_every_kind_of_edit_and_merges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    history = History(tmp_path, SEED)
    history.grow(COMMITS)
    subjects = set(history.git("log", "--format=%s").splitlines())
    assert {edit.__name__ for edit in EDITS} <= subjects | {"nothing"}
    assert history.git("log", "--merges", "--format=%h")
