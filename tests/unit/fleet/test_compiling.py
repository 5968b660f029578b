"""Compiling for real, with the SDK; pipelines of one test are compiled together."""

from __future__ import annotations

import json
import os
import textwrap
import time
from pathlib import Path

import pytest
import yaml

from mlfleet.cli import main
from mlfleet.cli.exits import USAGE
from mlfleet.errors import ConfigError
from mlfleet.fleet.compiling import Compiled, Compiling, Refused
from mlfleet.fleet.git import Git as Repository
from mlfleet.fleet.ir import as_yaml, content_hash, first_difference, stored
from mlfleet.fleet.pipelines import read_state
from mlfleet.fleet.trees import Trees
from mlfleet.systems.kfp_package import PipelinePackage
from tests.support.processes import descendants
from tests.unit.fleet.conftest import Git
from tests.unit.fleet.test_changed import MANIFEST, put

PIPELINE = """\
from kfp import dsl
{before}

@dsl.component(base_image="python:3.11")
def step(text: str) -> str:
    return text

@dsl.pipeline(name="{name}")
def train(text: str = "x"):
    step(text={text})
"""


def project(root: Path, name: str, before: str = "", text: str = "text", caching: bool = False) -> None:
    kfp = f"training: {{kfp: {{pipeline: pipeline.py:train, caching: {str(caching).lower()}}}}}\n"
    put(root, f"include/projects/{name}.yaml", MANIFEST.format(name) + kfp)
    code = PIPELINE.format(before=textwrap.dedent(before), name=name, text=text)
    put(root, f"include/pipelines/{name}/pipeline.py", code)


def compiled(root: Path, how: Compiling) -> dict[str, Compiled | Refused]:
    git = Repository.required(root)
    with Trees(git) as trees:
        state = read_state(trees.of_work_tree(), "")
        pipelines = [each for name in state.declared for each in state.declared[name]]
        return {outcome.declared.project: outcome for outcome in how.run(state, root, pipelines)}


def start(root: Path, git: Git) -> None:
    put(root, "include/environments/dev.yaml", "name: dev\n")
    git("add", "--all")
    git("commit", "--quiet", "-m", "start")


def test_every_kind_of_pipeline_that_is_no_good(tmp_path: Path, git: Git) -> None:
    put(tmp_path, "include/components/broken.py", "x = 1\n\nraise ValueError('no weights')\n")
    put(tmp_path, "include/components/half.py", "def f(:\n")
    project(tmp_path, "good", "from components import scale\n", "scale.TEXT")
    put(tmp_path, "include/components/scale.py", "TEXT = 'scaled'\n")
    project(tmp_path, "raises", "1 / 0\n")
    project(tmp_path, "raises-below", "from components import broken\n")
    project(tmp_path, "no-python-below", "from components import half\n")
    project(tmp_path, "leaves", "raise SystemExit(4)\n")
    project(tmp_path, "dies", "import os, sys\nprint('last words', file=sys.stderr, flush=True)\nos._exit(7)\n")
    project(tmp_path, "for-ever", "import subprocess\nsubprocess.run(['sleep', '1000'])\n")
    project(tmp_path, "by-chance", "import random\n", "str(random.random())")
    project(tmp_path, "by-time", "import time\n", "time.strftime('%H:%M:%S')")
    project(tmp_path, "by-day", "import datetime\n", "str(datetime.date.today())")
    project(tmp_path, "by-hash", "", "''.join({'abc', 'def', 'ghi', 'jkl'})")
    put(
        tmp_path,
        "include/projects/elsewhere.yaml",
        MANIFEST.format("elsewhere") + "training: {kfp: {pipeline: gone.py:train}}\n",
    )
    start(tmp_path, git)
    begun = time.monotonic()
    found = compiled(tmp_path, Compiling(None, parallel=4, timeout=8))
    assert time.monotonic() - begun < 60
    assert {name for name, outcome in found.items() if isinstance(outcome, Compiled)} == {"good"}
    reasons = {name: outcome.reason for name, outcome in found.items() if isinstance(outcome, Refused)}
    assert reasons["raises"] == "pipeline.py:2: ZeroDivisionError: division by zero"
    assert reasons["raises-below"] == "include/components/broken.py:3: ValueError: no weights"
    assert reasons["no-python-below"].startswith("include/components/half.py:1: SyntaxError")
    assert reasons["leaves"] == "pipeline.py:2: SystemExit: 4"
    assert "exit code 7: last words" in reasons["dies"]
    assert reasons["for-ever"] == "compiling took longer than 8 s"
    assert reasons["elsewhere"] == "there is no file include/pipelines/elsewhere/gone.py"
    for name in ("by-chance", "by-time", "by-day", "by-hash"):
        assert "compiles differently each time (not deterministic), at root.dag.tasks.step.inputs" in reasons[name]
    assert not [pid for pid in descendants(os.getpid()) if "sleep" in Path(f"/proc/{pid.pid}/cmdline").read_text()]


def test_the_cache_is_as_good_as_its_keys(tmp_path: Path, git: Git, tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in ("cards", "prices"):
        project(tmp_path, name)
    start(tmp_path, git)
    how = Compiling(tmp_path_factory.mktemp("cache"), parallel=2, timeout=60, verify=False)

    def cached() -> dict[str, bool]:
        return {name: outcome.cached for name, outcome in compiled(tmp_path, how).items()}  # type: ignore[union-attr]

    assert cached() == {"cards": False, "prices": False}
    assert cached() == {"cards": True, "prices": True}
    project(tmp_path, "cards", text="'other'")
    assert cached() == {"cards": False, "prices": True}
    git("checkout", "--quiet", ".")
    assert cached() == {"cards": True, "prices": True}
    # What caching says is no other compilation, but another pipeline.
    before = compiled(tmp_path, how)["cards"]
    project(tmp_path, "cards", caching=True)
    after = compiled(tmp_path, how)["cards"]
    assert isinstance(before, Compiled)
    assert isinstance(after, Compiled)
    assert before.package.ir["root"]["dag"]["tasks"]["step"]["cachingOptions"] == {}
    assert after.package.ir["root"]["dag"]["tasks"]["step"]["cachingOptions"] == {"enableCache": True}
    for file in how.cache.glob("*.json") if how.cache else ():
        file.write_text("half")
    assert cached() == {"cards": False, "prices": False}


def test_what_was_not_verified_is_compiled_again_when_it_should_be(
    tmp_path: Path, git: Git, tmp_path_factory: pytest.TempPathFactory
) -> None:
    project(tmp_path, "cards", "import random\n", "str(random.random())")
    start(tmp_path, git)
    cache = tmp_path_factory.mktemp("cache")
    assert isinstance(compiled(tmp_path, Compiling(cache, 1, verify=False))["cards"], Compiled)
    assert isinstance(compiled(tmp_path, Compiling(cache, 1))["cards"], Refused)


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path, git: Git) -> None:
    project(tmp_path, "cards")
    start(tmp_path, git)
    put(tmp_path, "no-folder", "")
    how = Compiling(tmp_path / "no-folder" / "cache", parallel=1, verify=False)
    assert isinstance(compiled(tmp_path, how)["cards"], Compiled)


def test_no_sdk_and_no_python(tmp_path: Path, git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, "cards")
    start(tmp_path, git)
    bare = tmp_path / "bare"
    bare.write_text('#!/bin/sh\nexec /usr/bin/env python3 -S "$@"\n')
    bare.chmod(0o755)
    monkeypatch.setenv("MLFLEET_KFP_PYTHON", str(bare))
    with pytest.raises(ConfigError, match="no KFP SDK"):
        compiled(tmp_path, Compiling(None, parallel=1))
    monkeypatch.setenv("MLFLEET_KFP_PYTHON", str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match="MLFLEET_KFP_PYTHON"):
        compiled(tmp_path, Compiling(None, parallel=1))


def test_the_command(tmp_path: Path, git: Git, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("cards", "prices"):
        project(tmp_path, name)
    start(tmp_path, git)
    project(tmp_path, "prices", "1 / 0")
    out, cache = tmp_path / "out", tmp_path / "cache"
    command = ["--root", str(tmp_path), "pipelines", "compile", "--out", str(out), "--cache-dir", str(cache)]
    assert main(command) == 1
    said = capsys.readouterr().out
    assert said.splitlines()[1].split(maxsplit=2) == [
        "prices",
        "refused",
        "pipeline.py:2: ZeroDivisionError: division by zero",
    ]
    assert said.splitlines()[2] == "1 pipeline compiled, 1 refused"
    assert [path.name for path in out.iterdir()] == ["cards.yaml"]
    assert yaml.safe_load((out / "cards.yaml").read_text())["pipelineInfo"]["name"] == "cards"
    git("checkout", "--quiet", ".")
    project(tmp_path, "prices", "", "'y'")
    assert main([*command, "--base", "HEAD"]) == 0
    assert capsys.readouterr().out.split()[:2] == ["prices", "compiled"]
    assert main([*command, "cards"]) == 0
    assert capsys.readouterr().out.split()[:2] == ["cards", "cached"]
    assert main([*command, "card"]) == USAGE
    assert "did you mean 'cards'?" in capsys.readouterr().err


IR = {
    "sdkVersion": "kfp-2.16.1", "pipelineInfo": {"name": "p"}, "root": {"default": 3},
    "command": "pip install 'pandas==2.0' && pip install 'kfp==2.16.1' '--no-deps' 'typing-extensions>=3.7.4,<5; x'",
}  # fmt: skip


def test_another_sdk_alone_changes_nothing() -> None:
    package = PipelinePackage(IR)
    newer = json.loads(json.dumps(IR).replace("2.16.1", "2.17.0").replace(" 'typing-extensions>=3.7.4,<5; x'", ""))
    assert content_hash(package) == content_hash(PipelinePackage(newer))
    assert first_difference(package, PipelinePackage(newer)) == ""
    # As a server gives it back.
    assert content_hash(package) == content_hash(stored({**IR, "root": {"default": 3.0}}))
    assert content_hash(package) != content_hash(stored({**IR, "command": IR["command"].replace("2.0", "2.1")}))
    pinned = {**IR, "command": "pip install 'kfp==2.1' && $0"}
    assert content_hash(PipelinePackage(pinned)) != content_hash(
        PipelinePackage({**IR, "command": "pip install 'kfp==2.2' && $0"})
    )


def test_the_platform_is_part_of_it() -> None:
    alone, both = PipelinePackage(IR), PipelinePackage(IR, {"platforms": {"kubernetes": {}}})
    assert content_hash(alone) != content_hash(both)
    documents = list(yaml.safe_load_all(as_yaml(both)))
    assert documents == [IR, {"platforms": {"kubernetes": {}}}]
    assert content_hash(stored({"pipeline_spec": IR, "platform_spec": documents[1]})) == content_hash(both)
    assert first_difference(alone, both).startswith("platform")
