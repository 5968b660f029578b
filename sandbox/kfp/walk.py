"""Walking a compiled pipeline's DAG: what is ready, what is skipped, what goes where."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, Protocol

from sandbox.kfp.component import ComponentError, Values
from sandbox.kfp.conditions import UnknownCondition, holds

SUCCEEDED, FAILED, SKIPPED = "SUCCEEDED", "FAILED", "SKIPPED"
ENDED = {SUCCEEDED, FAILED, SKIPPED}
_REFERENCE = re.compile(r"\{\{\$\.inputs\.parameters\[\\?['\"]([^'\"\\]+)\\?['\"]\]\}\}")


class Host(Protocol):
    """What the walk asks of the run that it belongs to; ``path`` is the task's names from the root, joined by ``/``."""

    def earlier(self, path: str) -> Values | None:
        """Outputs of a task that succeeded in an earlier attempt."""
        ...

    def component(self, path: str, name: str, spec: dict[str, Any], inputs: Values, cached: bool) -> Values:
        """Runs a component; raises ComponentError."""
        ...

    def report(self, path: str, name: str, state: str, error: str = "", outputs: Values | None = None,
               inputs: Values | None = None) -> None:  # fmt: skip
        """A task changed its state."""
        ...

    def stopped(self) -> bool:
        """Whether a person terminated the run."""
        ...


class Walk:
    """One DAG level (the root, a nested pipeline, a condition's branch, an exit handler's body)."""

    def __init__(self, host: Host, spec: dict[str, Any], dag: dict[str, Any], inputs: Values, path: str) -> None:
        self._host = host
        self._spec = spec
        self._dag = dag
        self._inputs = inputs
        self._path = path
        self._states: dict[str, str] = {}
        self._outputs: dict[str, Values] = {}
        self._errors: dict[str, str] = {}
        self._lock = threading.Lock()

    def run(self) -> Values:
        """Runs all tasks and returns the level's outputs; raises ComponentError when one of them failed."""
        tasks = self._dag["tasks"]
        with ThreadPoolExecutor(max_workers=max(len(tasks), 1)) as pool:
            running: dict[Future[None], str] = {}
            while True:
                for name in self._ready(set(running.values())):
                    running[pool.submit(self._task, name)] = name
                if not running:
                    break
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    running.pop(future)
                    future.result()
        failed = [name for name, state in self._states.items() if state == FAILED]
        if failed:
            raise ComponentError(self._errors.get(failed[0]) or f"task {failed[0]} failed")
        return self._level_outputs()

    def _ready(self, running: set[str]) -> list[str]:
        """Tasks that can start; what can never start is settled on the way."""
        ready = []
        for name, task in self._dag["tasks"].items():
            if name in self._states or name in running:
                continue
            before = _dependencies(task)
            if any(self._states.get(each) not in ENDED for each in before):
                continue
            after_all = task.get("triggerPolicy", {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED"
            states = {self._states[each] for each in before}
            if after_all or not states - {SUCCEEDED}:
                ready.append(name)
            elif not (self._host.stopped() or FAILED in states):
                self._settle(name, SKIPPED)
            else:
                self._states[name] = SKIPPED  # an upstream task failed: it never appears
        if self._settled_more(running, ready):
            return self._ready(running)
        return ready

    def _settled_more(self, running: set[str], ready: list[str]) -> bool:
        """Whether a skip just made another task decidable."""
        return (
            not ready
            and not running
            and any(
                name not in self._states and all(self._states.get(each) in ENDED for each in _dependencies(task))
                for name, task in self._dag["tasks"].items()
            )
        )

    def _task(self, name: str) -> None:
        task = self._dag["tasks"][name]
        path = f"{self._path}/{name}" if self._path else name
        if self._host.stopped():
            self._states[name] = FAILED
            self._errors[name] = "the run was terminated"
            return
        try:
            inputs = self._task_inputs(task)
            condition = task.get("triggerPolicy", {}).get("condition")
            if condition and not holds(condition, inputs.parameters):
                self._settle(name, SKIPPED)
                return
            outputs = self._host.earlier(path) or self._execute(name, path, task, inputs)
            with self._lock:
                self._outputs[name] = outputs
                self._states[name] = SUCCEEDED
        except (ComponentError, UnknownCondition) as error:
            self._errors[name] = str(error)
            self._host.report(path, _display(task, name), FAILED, str(error))
            self._states[name] = FAILED

    def _execute(self, name: str, path: str, task: dict[str, Any], inputs: Values) -> Values:
        for key in ("parameterIterator", "artifactIterator"):
            if key in task:
                raise ComponentError(f"task {name} is a loop (ParallelFor), which the sandbox can't run")
        component = self._spec["components"][task["componentRef"]["name"]]
        inputs = with_defaults(component, inputs)
        shown = _display(task, name)
        if "dag" in component:
            self._host.report(path, shown, "RUNNING", inputs=inputs)
            outputs = Walk(self._host, self._spec, component["dag"], inputs, path).run()
        else:
            cached = bool(task.get("cachingOptions", {}).get("enableCache"))
            retries = int(task.get("retryPolicy", {}).get("maxRetryCount", 0))
            outputs = self._with_retries(retries, lambda: self._host.component(path, shown, component, inputs, cached))
        self._host.report(path, shown, SUCCEEDED, outputs=outputs)
        return outputs

    def _with_retries(self, retries: int, work: Callable[[], Values]) -> Values:
        for _ in range(retries):
            try:
                return work()
            except ComponentError:
                if self._host.stopped():
                    raise
        return work()

    def _settle(self, name: str, state: str) -> None:
        task = self._dag["tasks"][name]
        self._host.report(f"{self._path}/{name}" if self._path else name, _display(task, name), state)
        self._states[name] = state

    def _task_inputs(self, task: dict[str, Any]) -> Values:
        given = task.get("inputs", {})
        parameters: dict[str, Any] = {}
        for name, source in given.get("parameters", {}).items():
            found = self._parameter(source)
            if found is not _ABSENT:
                parameters[name] = found
        for name, value in parameters.items():
            parameters[name] = _substituted(value, parameters)
        artifacts = {name: self._artifact(source) for name, source in given.get("artifacts", {}).items()}
        return Values(parameters, {name: found for name, found in artifacts.items() if found})

    def _parameter(self, source: dict[str, Any]) -> Any:
        if "runtimeValue" in source:
            return source["runtimeValue"].get("constant")
        if "componentInputParameter" in source:
            return _member(self._inputs.parameters.get(source["componentInputParameter"], _ABSENT), source)
        if "taskOutputParameter" in source:
            wanted = source["taskOutputParameter"]
            outputs = self._outputs.get(wanted["producerTask"], Values())
            return _member(outputs.parameters.get(wanted["outputParameterKey"], _ABSENT), source)
        if "taskFinalStatus" in source:
            producer = source["taskFinalStatus"]["producerTask"]
            error = self._errors.get(producer, "")
            return {
                "state": self._states.get(producer, SUCCEEDED),
                "pipelineJobResourceName": "",
                "pipelineTaskName": producer,
                "error": {"code": 9 if error else 0, "message": error},
            }
        raise ComponentError(f"an input comes from {', '.join(source)}, which the sandbox does not know")

    def _artifact(self, source: dict[str, Any]) -> list[dict[str, Any]]:
        if "componentInputArtifact" in source:
            return self._inputs.artifacts.get(source["componentInputArtifact"], [])
        wanted = source["taskOutputArtifact"]
        return self._outputs.get(wanted["producerTask"], Values()).artifacts.get(wanted["outputArtifactKey"], [])

    def _level_outputs(self) -> Values:
        outputs = self._dag.get("outputs", {})
        parameters, artifacts = {}, {}
        for name, source in outputs.get("parameters", {}).items():
            selectors = source.get("valueFromOneof", {}).get("parameterSelectors") or [source["valueFromParameter"]]
            for selector in selectors:
                task = self._outputs.get(selector["producerSubtask"])
                if task is not None and selector["outputParameterKey"] in task.parameters:
                    parameters[name] = task.parameters[selector["outputParameterKey"]]
        for name, source in outputs.get("artifacts", {}).items():
            for selector in source["artifactSelectors"]:
                task = self._outputs.get(selector["producerSubtask"])
                if task is not None and selector["outputArtifactKey"] in task.artifacts:
                    artifacts[name] = task.artifacts[selector["outputArtifactKey"]]
        return Values(parameters, artifacts)


_ABSENT = object()


def _member(value: Any, source: dict[str, Any]) -> Any:
    """``parameterExpressionSelector`` takes a member out of a value that is JSON."""
    selector = source.get("parameterExpressionSelector")
    if selector is None or value is _ABSENT:
        return value
    found = re.fullmatch(r'parseJson\(string_value\)\["(.+)"\]', selector)
    if found is None:
        raise ComponentError(f"the selector {selector} is not known to the sandbox")
    return (json.loads(value) if isinstance(value, str) else value)[found.group(1)]


def _substituted(value: Any, parameters: dict[str, Any]) -> Any:
    """Constants may mention other inputs: what an f-string in a pipeline becomes."""
    if not isinstance(value, str) or "{{$" not in value:
        return value

    def text(found: re.Match[str]) -> str:
        other = parameters.get(found.group(1), "")
        if isinstance(other, float) and other.is_integer():
            other = int(other)
        return other if isinstance(other, str) else json.dumps(other)

    return _REFERENCE.sub(text, value)


def with_defaults(component: dict[str, Any], inputs: Values) -> Values:
    """The inputs completed by the component's defaults; integers arrive as floats in the compiled JSON."""
    parameters = dict(inputs.parameters)
    for name, definition in component.get("inputDefinitions", {}).get("parameters", {}).items():
        if name not in parameters and "defaultValue" in definition:
            parameters[name] = definition["defaultValue"]
        if definition.get("parameterType") == "NUMBER_INTEGER" and isinstance(parameters.get(name), float):
            parameters[name] = int(parameters[name])
    return Values(parameters, inputs.artifacts)


def _dependencies(task: dict[str, Any]) -> set[str]:
    found = set(task.get("dependentTasks", []))
    for kind in ("parameters", "artifacts"):
        for source in task.get("inputs", {}).get(kind, {}).values():
            for value in source.values():
                if isinstance(value, dict) and "producerTask" in value:
                    found.add(value["producerTask"])
    return found


def _display(task: dict[str, Any], name: str) -> str:
    return str(task.get("taskInfo", {}).get("name", name))
