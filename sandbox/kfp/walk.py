"""Walking a compiled pipeline's DAG: what is ready, what is skipped, what goes where."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, Protocol

from sandbox.kfp.component import ComponentError, UnsupportedError, Values
from sandbox.kfp.conditions import UnknownCondition, holds
from sandbox.kfp.records import ENDED, FAILED, RUNNING, SKIPPED, SUCCEEDED
from sandbox.kfp.sources import Level, dependencies, with_defaults


class Host(Protocol):
    """What the walk asks of the run that it belongs to; ``path`` is the task's names from the root, joined by ``/``.

    ``kind`` of a task is "component" or "dag"; ``facts`` see `sources.run_facts`.
    """

    facts: Mapping[str, str]

    def earlier(self, path: str) -> Values | None:
        """Outputs of a task that succeeded in an earlier attempt."""
        ...

    def component(self, path: str, name: str, task: dict[str, Any], inputs: Values) -> Values:
        """Runs a component; raises ComponentError."""
        ...

    def report(
        self, path: str, name: str, kind: str, state: str, error: str = "", outputs: Values | None = None,
        inputs: Values | None = None,
    ) -> None:  # fmt: skip
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
        self._tasks: dict[str, dict[str, Any]] = dag["tasks"]
        self._path = path
        self._level = Level(inputs, host.facts, path)

    def run(self) -> Values:
        """Runs all tasks and returns the level's outputs; raises the error of the first one that failed."""
        with ThreadPoolExecutor(max_workers=max(len(self._tasks), 1)) as pool:
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
        for error in self._level.errors.values():
            raise error
        return self._level.results(self._dag.get("outputs", {}))

    def _ready(self, running: set[str]) -> list[str]:
        """Tasks that can start; those that never can are settled on the way, until that decides no more of them."""
        while True:
            ready, settled = [], False
            for name, task in self._tasks.items():
                if name in self._level.states or name in running:
                    continue
                states = {self._level.states.get(each, "") for each in dependencies(task)}
                if states - ENDED:
                    continue
                if states <= {SUCCEEDED} or _runs_after_all(task):
                    ready.append(name)
                else:
                    self._pass_over(name, task, silently=FAILED in states)
                    settled = True
            if not settled:
                return ready

    def _pass_over(self, name: str, task: dict[str, Any], silently: bool) -> None:
        """What depends on a failed task never appears in the run; what depends on a skipped one is skipped."""
        # FAILED stays silent further down, where this state is all that is seen of it.
        self._level.states[name] = FAILED if silently else SKIPPED
        if not silently:
            self._host.report(self._at(name), _display(task, name), self._kind(task), SKIPPED)

    def _task(self, name: str) -> None:
        task, path = self._tasks[name], self._at(name)
        level = self._level
        try:
            if self._host.stopped():
                raise ComponentError("the run was terminated")
            if "parameterIterator" in task or "artifactIterator" in task:
                raise UnsupportedError(f"task {name} is a loop (ParallelFor), which the sandbox can't run")
            inputs = with_defaults(self._component(task), level.task_inputs(name, task), f"task {name}")
            condition = task.get("triggerPolicy", {}).get("condition")
            if condition and not holds(condition, inputs.parameters):
                self._host.report(path, _display(task, name), self._kind(task), SKIPPED)
                level.states[name] = SKIPPED
                return
            level.outputs[name] = self._host.earlier(path) or self._execute(name, path, task, inputs)
            level.states[name] = SUCCEEDED
        except (ComponentError, UnknownCondition) as error:
            level.errors[name] = error if isinstance(error, ComponentError) else UnsupportedError(str(error))
            if not self._host.stopped():
                self._host.report(path, _display(task, name), self._kind(task), FAILED, str(error))
            level.states[name] = FAILED

    def _execute(self, name: str, path: str, task: dict[str, Any], inputs: Values) -> Values:
        component = self._component(task)
        shown = _display(task, name)
        if "dag" in component:
            self._host.report(path, shown, "dag", RUNNING, inputs=inputs)
            outputs = Walk(self._host, self._spec, component["dag"], inputs, path).run()
        else:
            retries = int(task.get("retryPolicy", {}).get("maxRetryCount", 0))
            outputs = self._with_retries(retries, lambda: self._host.component(path, shown, task, inputs))
        self._host.report(path, shown, self._kind(task), SUCCEEDED, outputs=outputs)
        return outputs

    def _with_retries(self, retries: int, work: Callable[[], Values]) -> Values:
        for _ in range(retries):
            try:
                return work()
            except UnsupportedError:
                raise
            except ComponentError:
                if self._host.stopped():
                    raise
        return work()

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}" if self._path else name

    def _component(self, task: dict[str, Any]) -> dict[str, Any]:
        component: dict[str, Any] = self._spec["components"][task["componentRef"]["name"]]
        return component

    def _kind(self, task: dict[str, Any]) -> str:
        return "dag" if "dag" in self._component(task) else "component"


def _runs_after_all(task: dict[str, Any]) -> bool:
    return bool(task.get("triggerPolicy", {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED")


def _display(task: dict[str, Any], name: str) -> str:
    return str(task.get("taskInfo", {}).get("name", name))
