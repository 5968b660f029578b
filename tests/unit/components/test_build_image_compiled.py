"""The build component as the official SDK compiles it; kaniko itself runs in clusters only."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from kfp import compiler

from include.components.build_image import kaniko
from tests.support import component_pipelines as pipelines


def test_the_build_its_secret_and_its_digest(tmp_path: Path) -> None:
    compiler.Compiler().compile(pipelines.image, str(tmp_path / "package.yaml"))
    ir, platform = yaml.safe_load_all((tmp_path / "package.yaml").read_text())
    container = ir["deploymentSpec"]["executors"]["exec-build-image"]["container"]
    assert container["command"] == ["/kaniko/executor"]
    words = container["args"]
    flags = dict(zip(words[::2], words[1::2], strict=False))
    assert flags["--context"] == "dir://{{$.inputs.artifacts['source'].path}}"
    assert flags["--destination"] == "{{$.inputs.parameters['repository']}}:{{$.inputs.parameters['tag']}}"
    assert flags["--digest-file"] == "{{$.outputs.parameters['digest'].output_file}}"
    assert [words[n + 1] for n, word in enumerate(words) if word == "--build-arg"] == ["NAME=a b", "PYTHON=3.12"]
    assert [words[n + 1] for n, word in enumerate(words) if word == "--label"] == ["team=ml"]
    assert ir["components"]["comp-build-image"]["outputDefinitions"]["parameters"] == {
        "digest": {"parameterType": "STRING"}
    }
    task = ir["root"]["dag"]["tasks"]["build-image"]
    assert task["cachingOptions"] == {}
    assert task["inputs"]["parameters"]["context"]["runtimeValue"]["constant"] == "serving"
    (secret,) = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-build-image"]["secretAsVolume"]
    assert (secret["secretName"], secret["mountPath"]) == ("registry-writer", "/kaniko/.docker")


@pytest.mark.parametrize("name_and_value", [("", "x"), ("a=b", "x"), ("a\n", "x"), ("a", "x\ny"), ("a", "{{$.x}}")])
def test_what_a_command_line_can_not_carry(name_and_value: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="--build-arg"):
        kaniko(build_args=dict([name_and_value]))
