"""The messages that a component gets and writes, as the real launcher has them where kfp.local does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from sandbox.kfp import launcher
from sandbox.kfp.component import ComponentError, Job, Launch, UnsupportedError, Values

OWN_TYPE = {"schemaTitle": "acme.Forest", "schemaVersion": "0.0.1"}
COMPONENT: dict[str, Any] = {
    "executorLabel": "exec-a",
    "inputDefinitions": {
        "parameters": {
            "note": {"parameterType": "STRING", "isOptional": True},
            "items": {"parameterType": "LIST"},
            "ratio": {"parameterType": "NUMBER_DOUBLE"},
            "count": {"parameterType": "NUMBER_INTEGER", "isOptional": True},
        },
        "artifacts": {"forest": {"artifactType": OWN_TYPE}, "absent": {"artifactType": OWN_TYPE, "isOptional": True}},
    },
    "outputDefinitions": {
        "parameters": {"total": {"parameterType": "NUMBER_INTEGER"}, "shares": {"parameterType": "LIST"}},
        "artifacts": {"model": {"artifactType": OWN_TYPE}},
    },
}


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    forest = {"name": "forest", "type": OWN_TYPE, "uri": "/woods", "metadata": {"trees": 5, "height": 2.5}}
    job = Job(
        pipeline="p", run_id="r", task="a", component=COMPONENT, executor={"container": {"args": ["{{$}}"]}},
        inputs=Values({"items": [1, None, 2.5], "ratio": 1000.0, "count": None}, {"forest": [forest]}),
        root=str(tmp_path / "root"), log=tmp_path / "log", state=tmp_path / "state", temporary=tmp_path, marks={},
    )  # fmt: skip
    job.state.mkdir()
    return Launch(job, [], tmp_path / "root" / "a" / "1", {})


def said(launch: Launch, content: Any) -> Values:
    (launch.job.state / "executor_output.json").write_text(json.dumps(content))
    return launcher.outputs(launch.job, launcher.executor_input(launch))


def test_inputs_keep_their_types_and_what_is_absent_stays_absent(launch: Launch) -> None:
    (words,) = launcher.resolved(launch, launcher.executor_input(launch))
    message = json.loads(words)
    assert message["inputs"] == {
        "parameterValues": {"items": [1, None, 2.5], "ratio": 1000.0, "count": None},
        "artifacts": {"forest": {"artifacts": launch.job.inputs.artifacts["forest"]}},
    }
    assert '"trees": 5,' in words or '"trees": 5}' in words
    assert '"ratio": 1000.0' in words


def test_outputs_have_their_places(launch: Launch) -> None:
    message = json_format.MessageToDict(launcher.executor_input(launch).outputs)
    state = launch.job.state
    assert message == {
        "parameters": {name: {"outputFile": str(state / name)} for name in ("total", "shares")},
        "artifacts": {"model": {"artifacts": [
            {"name": "model", "type": OWN_TYPE, "uri": str(launch.folder / "model"), "metadata": {}}]}},
        "outputFile": str(state / "executor_output.json"),
    }  # fmt: skip


def test_what_the_component_says_completes_what_was_planned(launch: Launch) -> None:
    told = {"name": "model", "uri": "/elsewhere", "metadata": {"rows": 5, "mae": 1.5}}
    found = said(launch, {
        "parameterValues": {"total": 3, "shares": [1, 0.5, None]},
        "artifacts": {"model": {"artifacts": [told]}, "unasked": {"artifacts": [told]}},
    })  # fmt: skip
    assert found.parameters == {"total": 3, "shares": [1, 0.5, None]}
    assert [type(each) for each in (found.parameters["total"], found.parameters["shares"][0])] == [int, int]
    assert found.artifacts == {"model": [{**told, "type": OWN_TYPE}]}


def test_a_file_is_read_only_for_what_the_message_leaves_out(launch: Launch) -> None:
    for name, text in (("total", "8"), ("shares", "[1]")):
        (launch.job.state / name).write_text(text)
    found = said(launch, {"parameterValues": {"total": 3}})
    assert found.parameters == {"total": 3, "shares": [1]}
    planned = {"name": "model", "type": OWN_TYPE, "uri": str(launch.folder / "model"), "metadata": {}}
    assert found.artifacts == {"model": [planned]}


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ({"parameterValues": {"total": 3}}, "gave no output parameter shares of type LIST: "),
        ({"parameterValues": {"total": float("inf")}}, "wrote an output message that can't be read: "),
        ({"parameterValues": 3}, "wrote an output message that can't be read: "),
        ("nothing", "wrote an output message that can't be read: "),
    ],
)
def test_what_is_no_output_is_one_sentence(launch: Launch, content: Any, error: str) -> None:
    with pytest.raises(ComponentError) as raised:
        said(launch, content)
    assert str(raised.value).startswith(f"task a {error}")


def test_numbers_are_written_as_go_writes_them() -> None:
    assert json.dumps(launcher.as_go_writes([1.0, {"a": -3.0}, 0.5, 1e22, True, None, "1.0"])) == (
        '[1, {"a": -3}, 0.5, 1e+22, true, null, "1.0"]'
    )


def test_a_component_whose_code_is_in_its_image_is_refused(launch: Launch) -> None:
    command = ["python3", "-m", "kfp.dsl.executor_main"]
    answer = launcher.work(Launch(launch.job, command, launch.folder, launch.variables))
    assert isinstance(answer, UnsupportedError)
    assert str(answer).startswith("task a can't be run by the sandbox: ")
    assert "Containerized Python Component" in str(answer)
