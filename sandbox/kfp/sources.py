"""Where the compiler says that a task's inputs and a level's outputs come from."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sandbox.kfp.component import Artifact, UnsupportedError, Values

ABSENT = object()
# Placeholders that the driver fills in before it looks into the cache (backend/src/v2/driver/resolve.go).
RUN_ID, RESOURCE_NAME = "{{$.pipeline_job_uuid}}", "{{$.pipeline_job_resource_name}}"
_TASK_NAME, _TASK_ID = "{{$.pipeline_task_name}}", "{{$.pipeline_task_uuid}}"
_REFERENCE = re.compile(r"\{\{\$\.inputs\.parameters\[\\?['\"]([^'\"\\]+)\\?['\"]\]\}\}")
_MEMBER = re.compile(r'parseJson\(string_value\)\["(.+)"\]')


def run_facts(run: Mapping[str, Any]) -> dict[str, str]:
    """What the placeholders mean that are the same in a whole run.

    The resource name is that of the workflow; a run without a schedule is due when it is created.
    """
    pipeline = run["sandbox"]["spec"]["pipelineInfo"]["name"]
    return {
        "{{$.pipeline_job_name}}": run["display_name"], RESOURCE_NAME: f"{pipeline}-{run['run_id'][:5]}",
        RUN_ID: run["run_id"], "{{$.pipeline_job_create_time_utc}}": run["created_at"],
        "{{$.pipeline_job_schedule_time_utc}}": run["scheduled_at"],
    }  # fmt: skip


@dataclass
class Level:
    """What is known on one level of a DAG: its inputs, and state, outputs and error of its tasks so far.

    ``facts`` see `run_facts`, ``path`` is the level's.
    """

    inputs: Values
    facts: Mapping[str, str]
    path: str = ""
    states: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, Values] = field(default_factory=dict)
    errors: dict[str, Exception] = field(default_factory=dict)

    def task_inputs(self, name: str, task: Mapping[str, Any]) -> Values:
        """The inputs that a task gets; what has no value is left out. Raises UnsupportedError."""
        given = task.get("inputs", {})
        # A task's id is the number of its DAG's execution, also in the real server.
        number = zlib.crc32(f"{self.facts[RUN_ID]}/{self.path}".encode())
        facts = {**self.facts, _TASK_NAME: name, _TASK_ID: str(number)}
        found = {key: self._parameter(source, facts) for key, source in given.get("parameters", {}).items()}
        parameters = {key: value for key, value in found.items() if value is not ABSENT}
        for key, value in parameters.items():
            parameters[key] = _substituted(value, parameters)
        artifacts = {key: self._artifact(source) for key, source in given.get("artifacts", {}).items()}
        return Values(parameters, {key: each for key, each in artifacts.items() if each})

    def _parameter(self, source: Mapping[str, Any], facts: Mapping[str, str]) -> Any:
        if "runtimeValue" in source:
            constant = source["runtimeValue"].get("constant")
            # Only as the whole value: the real driver leaves them alone inside of a text.
            return facts.get(constant, constant) if isinstance(constant, str) else constant
        if "componentInputParameter" in source:
            return _member(self.inputs.parameters.get(source["componentInputParameter"], ABSENT), source)
        if "taskOutputParameter" in source:
            wanted = source["taskOutputParameter"]
            outputs = self.outputs.get(wanted["producerTask"], Values())
            return _member(outputs.parameters.get(wanted["outputParameterKey"], ABSENT), source)
        if "taskFinalStatus" in source:
            return self._final_status(source["taskFinalStatus"]["producerTask"])
        raise UnsupportedError(f"an input comes from {', '.join(source)}, which the sandbox does not know")

    def _final_status(self, producer: str) -> dict[str, Any]:
        error = str(self.errors.get(producer, ""))
        return {
            "state": self.states.get(producer, "SUCCEEDED"), "pipelineJobResourceName": self.facts[RESOURCE_NAME],
            "pipelineTaskName": producer, "error": {"code": 9 if error else 0, "message": error},
        }  # fmt: skip

    def _artifact(self, source: Mapping[str, Any]) -> list[Artifact]:
        if "componentInputArtifact" in source:
            return self.inputs.artifacts.get(source["componentInputArtifact"], [])
        wanted = source["taskOutputArtifact"]
        return self.outputs.get(wanted["producerTask"], Values()).artifacts.get(wanted["outputArtifactKey"], [])

    def results(self, definitions: Mapping[str, Any]) -> Values:
        """The level's own outputs; of several sources (OneOf) the one that ran."""
        parameters: dict[str, Any] = {}
        for name, source in definitions.get("parameters", {}).items():
            selectors = source.get("valueFromOneof", {}).get("parameterSelectors") or [source["valueFromParameter"]]
            for selector in selectors:
                made = self.outputs.get(selector["producerSubtask"], Values()).parameters
                if selector["outputParameterKey"] in made:
                    parameters[name] = made[selector["outputParameterKey"]]
        artifacts: dict[str, list[Artifact]] = {}
        for name, source in definitions.get("artifacts", {}).items():
            for selector in source["artifactSelectors"]:
                kept = self.outputs.get(selector["producerSubtask"], Values()).artifacts
                if selector["outputArtifactKey"] in kept:
                    artifacts[name] = kept[selector["outputArtifactKey"]]
        return Values(parameters, artifacts)


def _member(value: Any, source: Mapping[str, Any]) -> Any:
    """``parameterExpressionSelector`` takes a member out of a value that is JSON."""
    selector = source.get("parameterExpressionSelector")
    if selector is None or value is ABSENT:
        return value
    found = _MEMBER.fullmatch(selector)
    if found is None:
        raise UnsupportedError(f"the selector {selector} is not known to the sandbox")
    return (json.loads(value) if isinstance(value, str) else value)[found.group(1)]


def _substituted(value: Any, parameters: Mapping[str, Any]) -> Any:
    """Constants may mention other inputs: what an f-string in a pipeline becomes."""
    if not isinstance(value, str) or "{{$" not in value:
        return value

    def text(found: re.Match[str]) -> str:
        other = parameters.get(found.group(1), "")
        if isinstance(other, float) and other.is_integer():
            other = int(other)
        return other if isinstance(other, str) else json.dumps(other)

    return _REFERENCE.sub(text, value)


def with_defaults(component: Mapping[str, Any], inputs: Values, whose: str) -> Values:
    """The inputs completed by the component's defaults; integers arrive as floats in the compiled JSON.

    Raises UnsupportedError, which says ``whose`` it is, when a parameter has neither and is not optional.
    """
    parameters = dict(inputs.parameters)
    for name, definition in component.get("inputDefinitions", {}).get("parameters", {}).items():
        if name not in parameters and "defaultValue" in definition:
            parameters[name] = definition["defaultValue"]
        if name not in parameters and not definition.get("isOptional"):
            raise UnsupportedError(f"{whose} got neither a value nor a default for its parameter {name}")
        if definition.get("parameterType") == "NUMBER_INTEGER" and isinstance(parameters.get(name), float):
            parameters[name] = int(parameters[name])
    return Values(parameters, inputs.artifacts)


def dependencies(task: Mapping[str, Any]) -> set[str]:
    """The tasks of the same level that must have ended before this one starts."""
    found = set(task.get("dependentTasks", []))
    for kind in ("parameters", "artifacts"):
        for source in task.get("inputs", {}).get(kind, {}).values():
            for value in source.values():
                if isinstance(value, dict) and "producerTask" in value:
                    found.add(value["producerTask"])
    return found
