"""Compiling with the SDK: what a pipeline can import, and what becomes of those that never end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mlfleet.errors import SpecError
from mlfleet.systems.kfp_batch import compile_many
from mlfleet.systems.kfp_package import PipelinePackage, load_package
from tests.support.processes import alive, command_line, descendants, wait_for

PIPELINE = """\
{before}
from kfp import dsl

@dsl.component(base_image="python:3.11")
def step(text: str) -> str:
    return text

@dsl.pipeline(name="p")
def train():
    step(text={text})
"""


def put(root: Path, path: str, text: str) -> Path:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)
    return root / path


def text_of(package: PipelinePackage) -> str:
    inputs = package.ir["root"]["dag"]["tasks"]["step"]["inputs"]["parameters"]["text"]
    return str(inputs["runtimeValue"]["constant"])


def test_a_pipeline_imports_from_its_folder_and_from_the_shared_ones(tmp_path: Path) -> None:
    put(tmp_path, "include/pipelines/p/own.py", "TEXT = 'own'\n")
    put(tmp_path, "include/pipelines/_lib/steps.py", "TEXT = 'lib'\n")
    put(tmp_path, "include/components/scale.py", "TEXT = 'component'\n")
    # Neither takes the place of a package that is installed; the project's own module does.
    put(tmp_path, "include/yaml/__init__.py", "raise RuntimeError\n")
    put(tmp_path, "include/components/own.py", "TEXT = 'shadowed'\n")
    before = "import own, yaml\nfrom _lib import steps\nfrom components import scale\nimport include.components.scale"
    code = PIPELINE.format(before=before, text="own.TEXT + steps.TEXT + scale.TEXT")
    assert text_of(load_package(put(tmp_path, "include/pipelines/p/pipeline.py", code), "train")) == "ownlibcomponent"


def test_a_link_to_a_pipeline_belongs_to_the_repository_of_the_link(tmp_path: Path) -> None:
    put(tmp_path, "include/components/scale.py", "TEXT = 'here'\n")
    real = put(
        tmp_path, "elsewhere/pipeline.py", PIPELINE.format(before="from components import scale", text="scale.TEXT")
    )
    link = tmp_path / "include/pipelines/p/pipeline.py"
    link.parent.mkdir(parents=True)
    link.symlink_to(real)
    assert text_of(load_package(link, "train")) == "here"


@pytest.mark.parametrize(
    ("component", "told"),
    [
        ("x = 1\nraise ValueError('no')\n", "include/components/scale.py:2: ValueError: no"),
        ("def f(:\n", "include/components/scale.py:1: SyntaxError"),
        ("import sys\nsys.exit('enough')\n", "include/components/scale.py:2: SystemExit: enough"),
        ("import not_installed_anywhere\n", "include/components/scale.py:1: ModuleNotFoundError"),
        ("import json\njson.loads('{')\n", "include/components/scale.py:2: JSONDecodeError"),
    ],
)
def test_an_error_names_the_last_line_of_the_repository(tmp_path: Path, component: str, told: str) -> None:
    put(tmp_path, "include/components/scale.py", component)
    file = put(
        tmp_path, "include/pipelines/p/pipeline.py", PIPELINE.format(before="import components.scale", text="'x'")
    )
    with pytest.raises(SpecError) as caught:
        load_package(file, "train")
    assert caught.value.reason.startswith(told)


def test_modules_of_one_pipeline_are_not_those_of_another(tmp_path: Path) -> None:
    targets = []
    for name in ("a", "b", "c"):
        put(tmp_path, f"include/pipelines/{name}/own.py", f"TEXT = '{name}'\n")
        code = PIPELINE.format(before="import own", text="own.TEXT")
        targets.append((put(tmp_path, f"include/pipelines/{name}/pipeline.py", code), "train"))
    found = compile_many(targets, parallel=2, timeout=60, environment={})
    assert [text_of(each) for each in found if isinstance(each, PipelinePackage)] == ["a", "b", "c"]
    assert compile_many([], parallel=2, timeout=60, environment={}) == []


def test_a_killed_compilation_leaves_no_process(tmp_path: Path) -> None:
    file = put(tmp_path, "pipeline.py", "import subprocess\nsubprocess.run(['sleep', '1000'])\n")
    code = (
        "from pathlib import Path; from mlfleet.systems.kfp_batch import compile_many; "
        f"compile_many([(Path({str(file)!r}), 'train')], parallel=1, timeout=600, environment={{}})"
    )
    process = subprocess.Popen([sys.executable, "-c", code])

    def sleeper() -> bool:
        return any(command_line(each.pid).startswith("sleep") for each in descendants(process.pid))

    try:
        wait_for(sleeper, "the pipeline to hang", timeout=60)
        family = descendants(process.pid)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert len(family) >= 4
    wait_for(lambda: not [each for each in family if alive(each)], "all of them to end", timeout=15)
