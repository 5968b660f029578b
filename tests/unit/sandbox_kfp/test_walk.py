"""How a DAG is walked: conditions, order, what is skipped, retries; components are replaced by the test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from sandbox.kfp.component import ComponentError, UnsupportedError, Values
from sandbox.kfp.conditions import UnknownCondition, holds
from sandbox.kfp.sources import run_facts
from sandbox.kfp.walk import Walk

PARAMETERS = {"coin": "heads && 'tails'", "n": 2.0, "ok": True, "text": "3"}


@pytest.mark.parametrize(
    ("condition", "result"),
    [
        ("inputs.parameter_values['coin'] == 'heads && \\'tails\\''", True),
        ("int(inputs.parameter_values['text']) > 2 && !(inputs.parameter_values['ok'] != true)", True),
        ("!(inputs.parameter_values['n'] >= 3) && !(inputs.parameter_values['n'] < 1)", True),
        ("inputs.parameter_values['n'] == -2 || inputs.parameter_values['ok'] == false", False),
        ("double(inputs.parameter_values['n']) <= 1.5", False),
    ],
)
def test_conditions(condition: str, result: bool) -> None:
    assert holds(condition, PARAMETERS) is result


@pytest.mark.parametrize(
    "condition",
    [
        "inputs.parameter_values['gone'] == 1", "inputs.parameter_values['coin'] > 1", "__import__('os')", "((", "",
        "inputs.parameter_values['n'] in [1]", "int('x') == 1",
    ],
)  # fmt: skip
def test_conditions_that_cannot_be_decided_say_so(condition: str) -> None:
    with pytest.raises(UnknownCondition, match="can't be evaluated"):
        holds(condition, PARAMETERS)


class Pod:
    """A host whose components give what their task's name is mapped to: outputs, or errors to raise in turn."""

    def __init__(self, results: Mapping[str, Any] | None = None) -> None:
        self.results = {name: list(each) for name, each in (results or {}).items()}
        self.states: dict[str, str] = {}
        self.inputs: dict[str, Values] = {}
        self.ran: list[str] = []
        self.done: dict[str, Values] = {}
        self.facts: Mapping[str, str] = run_facts(
            {"run_id": "12345678", "display_name": "shown", "created_at": "c", "scheduled_at": "s",
             "sandbox": {"spec": {"pipelineInfo": {"name": "p"}}}}
        )  # fmt: skip

    def stopped(self) -> bool:
        return False

    def earlier(self, path: str) -> Values | None:
        return self.done.get(path)

    def component(self, path: str, name: str, task: dict[str, Any], inputs: Values) -> Values:
        self.ran.append(path)
        self.inputs[path] = inputs
        result = self.results[path].pop(0) if self.results.get(path) else f"of {path}"
        if isinstance(result, Exception):
            raise result
        return Values({"Output": result})

    def report(
        self, path: str, name: str, kind: str, state: str, error: str = "", outputs: Values | None = None,
        inputs: Values | None = None,
    ) -> None:  # fmt: skip
        self.states[path] = state


def task(*after: str, component: str = "work", **settings: Any) -> dict[str, Any]:
    return {"componentRef": {"name": component}, "dependentTasks": list(after), **settings}


def walk(pod: Pod, tasks: dict[str, Any], outputs: dict[str, Any] | None = None, **components: Any) -> Values:
    spec = {"components": {"work": {"executorLabel": "x"}, **components}}
    return Walk(pod, spec, {"tasks": tasks, "outputs": outputs or {}}, Values({"n": 1}), "").run()


def test_tasks_run_after_what_they_need() -> None:
    pod = Pod()
    made = {"parameters": {"x": {"taskOutputParameter": {"producerTask": "one", "outputParameterKey": "Output"}}}}
    walk(pod, {"three": task("two"), "two": task(inputs=made), "one": task()})
    assert pod.ran == ["one", "two", "three"]
    assert pod.inputs["two"].parameters == {"x": "of one"}


def test_what_follows_a_failure_never_starts_and_an_exit_task_does() -> None:
    pod = Pod({"one": [ComponentError("broke")]})
    last = task("one", triggerPolicy={"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"})
    with pytest.raises(ComponentError, match="broke"):
        walk(pod, {"one": task(), "two": task("one"), "three": task("two"), "last": last})
    assert pod.states == {"one": "FAILED", "last": "SUCCEEDED"}


def test_of_two_branches_one_runs_and_gives_the_result() -> None:
    pod = Pod()
    number = {"parameters": {"n": {"componentInputParameter": "n"}}}

    def branch(condition: str) -> dict[str, Any]:
        return task(component="branch", inputs=number, triggerPolicy={"condition": condition})

    made = {"producerSubtask": "inner", "outputParameterKey": "Output"}
    body = {"tasks": {"inner": task()}, "outputs": {"parameters": {"out": {"valueFromParameter": made}}}}
    selectors = [{"producerSubtask": name, "outputParameterKey": "out"} for name in ("yes", "no")]
    result = walk(
        pod,
        {
            "yes": branch("inputs.parameter_values['n'] == 1"),
            "no": branch("inputs.parameter_values['n'] != 1"),
            "after-no": task("no"),
        },
        {"parameters": {"chosen": {"valueFromOneof": {"parameterSelectors": selectors}}}},
        branch={"dag": body},
    )
    assert result.parameters == {"chosen": "of yes/inner"}
    assert pod.states == {"yes": "SUCCEEDED", "yes/inner": "SUCCEEDED", "no": "SKIPPED", "after-no": "SKIPPED"}


def test_retries_end_with_success_or_with_the_count() -> None:
    policy = {"retryPolicy": {"maxRetryCount": 2}}
    pod = Pod({"one": [ComponentError("1"), ComponentError("2")], "two": [UnsupportedError("never")]})
    walk(pod, {"one": task(**policy)})
    assert pod.ran == ["one"] * 3
    with pytest.raises(UnsupportedError, match="never"):
        walk(pod, {"two": task(**policy)})
    assert pod.ran.count("two") == 1


def test_what_succeeded_in_an_earlier_attempt_is_kept() -> None:
    pod = Pod()
    pod.done["one"] = Values({"Output": "kept"})
    walk(pod, {"one": task(), "two": task("one")})
    assert pod.ran == ["two"]


def test_placeholders_and_texts_are_filled_in_before_a_component_is_asked() -> None:
    constants = {
        "job": "{{$.pipeline_job_name}}", "task": "{{$.pipeline_task_name}}", "inside": "x {{$.pipeline_job_uuid}}",
        "text": "{{$.inputs.parameters['n']}} of {{$.inputs.parameters['list']}}",
    }  # fmt: skip
    given = {name: {"runtimeValue": {"constant": value}} for name, value in constants.items()}
    given |= {"n": {"runtimeValue": {"constant": 3.0}}, "list": {"runtimeValue": {"constant": [1, True]}}}
    pod = Pod()
    walk(pod, {"one": task(inputs={"parameters": given})})
    got = pod.inputs["one"].parameters
    assert (got["job"], got["task"], got["inside"], got["text"]) == (
        "shown", "one", "x {{$.pipeline_job_uuid}}", "3 of [1, true]",
    )  # fmt: skip


def test_a_missing_input_is_one_sentence() -> None:
    wants = {"executorLabel": "x", "inputDefinitions": {"parameters": {"x": {"parameterType": "STRING"}}}}
    with pytest.raises(UnsupportedError, match=r"^task one got neither a value nor a default for its parameter x$"):
        walk(Pod(), {"one": task(component="wants")}, wants=wants)
