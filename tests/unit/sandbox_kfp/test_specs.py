"""Compiled pipelines: what is taken, what a run may be given, what counts as the same execution."""

from __future__ import annotations

import copy
import io
import json
import tarfile
from typing import Any

import pytest
import yaml

from sandbox.kfp.cache import fingerprint
from sandbox.kfp.component import Values
from sandbox.kfp.errors import APIError
from sandbox.kfp.pip_line import split, unmet
from sandbox.kfp.specs import check_parameters, parse_spec, pipeline_of
from sandbox.kfp.texts import value_of

SPEC: dict[str, Any] = {
    "pipelineInfo": {"name": "p"},
    "components": {"comp-a": {"executorLabel": "exec-a"}},
    "deploymentSpec": {"executors": {"exec-a": {"container": {}}}},
    "root": {
        "dag": {"tasks": {"a": {"componentRef": {"name": "comp-a"}}}},
        "inputDefinitions": {
            "parameters": {
                "rows": {"parameterType": "NUMBER_INTEGER"},
                "fast": {"parameterType": "BOOLEAN", "defaultValue": False},
                "note": {"parameterType": "STRING", "isOptional": True},
            }
        },
    },
}


def test_a_spec_may_be_json_yaml_or_packed_and_carry_platform_settings() -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in (("README", b"no"), ("x/pipeline.yaml", yaml.safe_dump(SPEC).encode())):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    assert parse_spec(json.dumps(SPEC).encode()) == parse_spec(packed.getvalue()) == SPEC
    both = parse_spec(yaml.safe_dump_all([SPEC, {"platforms": {}}]).encode())
    assert pipeline_of(both) == SPEC


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("pipelineInfo",), None), (("pipelineInfo", "name"), ""), (("root", "dag"), 3), (("root", "dag", "tasks"), []),
        (("components",), {}), (("deploymentSpec",), None), (("components", "comp-a"), {}), (("components",), "x"),
    ],
)  # fmt: skip
def test_what_is_no_pipeline_is_refused(path: tuple[str, ...], value: Any) -> None:
    spec = copy.deepcopy(SPEC)
    inner = spec
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    with pytest.raises(APIError, match="unknown template format"):
        pipeline_of(spec)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rows": 1}, ""), ({"rows": 1.0, "fast": True, "note": "x"}, ""),
        ({}, "parameter rows is not optional"), ({"rows": "1"}, "rows requires type double or integer"),
        ({"rows": True}, "rows requires type double or integer"), ({"rows": 1, "fast": 0}, "fast requires type bool"),
        ({"rows": 1, "b": 1, "a": 1}, "not required by pipeline: a, b"),
    ],
)  # fmt: skip
def test_parameters_of_a_run(given: dict[str, Any], message: str) -> None:
    if not message:
        check_parameters(SPEC, given)
        return
    with pytest.raises(APIError, match=message):
        check_parameters(SPEC, given)


def test_a_fingerprint_looks_at_what_the_real_driver_looks_at() -> None:
    task = {"componentRef": {"name": "comp-a"}, "cachingOptions": {"enableCache": True}}
    container = {"image": "python:3.11", "command": ["sh"], "args": ["{{$}}"], "env": []}
    model = {"name": "model", "uri": "/here", "metadata": {}}

    def key(inputs: Values | None = None, pipeline: str = "p", cache_key: str = "", **change: Any) -> str:
        own = {**task, "cachingOptions": {"enableCache": True, "cacheKey": cache_key}}
        outputs = {"outputDefinitions": {"parameters": {"Output": {}}}, **change.pop("component", {})}
        return fingerprint(pipeline, own, outputs, {**container, **change}, inputs or Values({"n": 1}))

    assert key() == key(env=[{"name": "A", "value": "b"}])
    others = [
        key(Values({"n": 2})), key(Values({"n": 1}, {"model": [model]})), key(pipeline="q"), key(image="python:3.12"),
        key(args=["x"]), key(command=["bash"]), key(component={"outputDefinitions": {}}), key(cache_key="mine"),
    ]  # fmt: skip
    assert len({key(), *others}) == len(others) + 1
    assert key(cache_key="mine") == key(Values({"n": 2}), cache_key="mine", image="other")


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("True", "BOOLEAN", True), ("false\n", "BOOLEAN", False), ("0", "BOOLEAN", False), ("2", "NUMBER_DOUBLE", 2.0),
        (" 7\n", "NUMBER_INTEGER", 7), ("[1]", "LIST", [1]), ('{"a": null}', "STRUCT", {"a": None}),
        ("1\n", "STRING", "1\n"),
    ],
)  # fmt: skip
def test_values_of_text(text: str, kind: str, value: Any) -> None:
    assert value_of(text, kind) == value
    assert type(value_of(text, kind)) is type(value)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("yes", "BOOLEAN"),
        ("1.5", "NUMBER_INTEGER"),
        ("", "NUMBER_DOUBLE"),
        ("{}", "LIST"),
        ("[", "STRUCT"),
        ("x", "SOUND"),
    ],
)
def test_text_that_has_no_value_of_its_type(text: str, kind: str) -> None:
    with pytest.raises(ValueError):
        value_of(text, kind)


def test_the_pip_line_is_taken_off() -> None:
    line = (
        "python3 -m pip install --quiet --index-url https://x/simple --trusted-host https://x 'pandas>=2,<4' "
        "\"six; python_version<'3'\"  &&  python3 -m pip install --quiet 'kfp==2.16.1' '--no-deps' && \"$0\" \"$@\"\n"
    )
    program = ["sh", "-ec", "python3 -m kfp.dsl.executor_main", "code"]
    assert split(["sh", "-c", line, *program]) == (program, ["pandas>=2,<4", "six; python_version<'3'", "kfp==2.16.1"])
    assert split(program) == (program, [])
    assert split([]) == ([], [])


def test_requirements_are_compared_with_what_is_there() -> None:
    assert unmet([]) == unmet(["pytest>=1", "Nothing-Like-It>1; python_version < '3'"]) == ""
    assert unmet(["pytest", "pytest<1"]).startswith("pytest<1, and it has pytest ")
    assert unmet(["nothing-like-it"]) == "nothing-like-it, which it does not have"
    assert "is no name of a package" in unmet(["git+https://example.org/x.git"])
    assert unmet(["pytest @ https://example.org/pytest.whl"])
