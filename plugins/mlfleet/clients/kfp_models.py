"""What KFP v2beta1 talks about, and reading it out of answers (kfp.md 4)."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from mlfleet.clients.answers import Answer, mapping, moment, optional_text

# kfp.md 4, run_store.go terminalRunStateStrings.
TERMINAL = frozenset({"SUCCEEDED", "FAILED", "SKIPPED", "CANCELED"})
UNKNOWN_STATE = "RUNTIME_STATE_UNSPECIFIED"


@dataclass(frozen=True)
class Predicate:
    """One condition of a filter; all conditions must hold.

    ``operation`` is EQUALS, NOT_EQUALS, GREATER_THAN, GREATER_THAN_EQUALS, LESS_THAN, LESS_THAN_EQUALS, IN (a list of
    texts) or IS_SUBSTRING. ``key`` is one of the filterable keys of kfp.md 4; another one is RequestRefused.
    """

    key: str
    value: str | int | datetime | Sequence[str]
    operation: str = "EQUALS"

    def as_json(self) -> dict[str, Any]:
        """The predicate as the API wants it."""
        body: dict[str, Any] = {"operation": self.operation, "key": self.key}
        if isinstance(self.value, str):
            body["string_value"] = self.value
        elif isinstance(self.value, datetime):
            body["timestamp_value"] = self.value.isoformat()
        elif isinstance(self.value, int):
            body["long_value"] = str(self.value)  # int64 travels as text
        else:
            body["string_values"] = {"values": list(self.value)}
        return body


@dataclass(frozen=True)
class KFPTask:
    """One task of a run, as reported by the server; ``node_id`` is what logs are asked with, the pod's name if known.

    Inputs and outputs are always empty in v2beta1 (kfp.md 4), so they are not here.
    """

    task_id: str
    display_name: str
    state: str
    pod_name: str | None
    start_time: datetime | None
    end_time: datetime | None
    error: str

    @property
    def node_id(self) -> str:
        """The name under which the log endpoint knows this task."""
        return self.pod_name or self.task_id


@dataclass(frozen=True)
class KFPRun:
    """A run. ``state`` is upper case, RUNTIME_STATE_UNSPECIFIED when absent (treat it as running).

    ``finished_at`` is None until the run is final. ``pipeline_root`` and ``parameters`` are what the run was given.
    """

    run_id: str
    display_name: str
    state: str
    experiment_id: str = ""
    description: str = ""
    pipeline_id: str | None = None
    pipeline_version_id: str | None = None
    pipeline_root: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    created_at: datetime | None = None
    finished_at: datetime | None = None
    error: str = ""
    task_details: Sequence[Mapping[str, Any]] = field(default=(), repr=False)

    @functools.cached_property
    def tasks(self) -> tuple[KFPTask, ...]:
        """The run's tasks; read when asked for, because a poll of thousands of runs does not."""
        return tuple(_task(row) for row in self.task_details if isinstance(row, Mapping))

    @property
    def is_final(self) -> bool:
        """Whether the state is final."""
        return self.state in TERMINAL


@dataclass(frozen=True)
class RunPage:
    """``runs`` of one page and the token of the next one, "" at the end."""

    runs: tuple[KFPRun, ...]
    next_page_token: str


@dataclass(frozen=True)
class Pipeline:
    """A pipeline: a name under which versions are kept."""

    pipeline_id: str
    name: str


@dataclass(frozen=True)
class PipelineVersion:
    """A version; ``spec`` is its compiled pipeline, {} in answers that leave it out."""

    pipeline_id: str
    version_id: str
    name: str
    created_at: datetime | None = None
    spec: Mapping[str, Any] = field(default_factory=dict)
    description: str = ""


def _state(value: object) -> str:
    return str(value).upper() if value else UNKNOWN_STATE


def _error_text(value: object) -> str:
    return str(mapping(value).get("message") or "")


def read_pipeline(answer: Answer) -> Pipeline:
    """The pipeline in ``answer``; raises its ``wrong`` error without an id."""
    data = answer.object()
    name = optional_text(data.get("name")) or optional_text(data.get("display_name")) or ""
    return Pipeline(answer.text("pipeline_id"), name)


def read_version(answer: Answer, row: Mapping[str, Any]) -> PipelineVersion:
    """One version; raises ``answer.wrong`` without an id."""
    version_id = optional_text(row.get("pipeline_version_id"))
    if version_id is None:
        raise answer.wrong("a pipeline version without an id")
    return PipelineVersion(
        pipeline_id=str(row.get("pipeline_id") or ""),
        version_id=version_id,
        name=str(row.get("name") or row.get("display_name") or ""),
        created_at=moment(row.get("created_at")),
        spec=mapping(row.get("pipeline_spec")),
        description=str(row.get("description") or ""),
    )


def read_run(answer: Answer, row: Mapping[str, Any]) -> KFPRun:
    """One run; raises ``answer.wrong`` without a run_id."""
    run_id = optional_text(row.get("run_id"))
    if run_id is None:
        raise answer.wrong("a run without a run_id")
    reference = mapping(row.get("pipeline_version_reference"))
    runtime = mapping(row.get("runtime_config"))
    details = mapping(row.get("run_details")).get("task_details")
    return KFPRun(
        run_id=run_id,
        display_name=str(row.get("display_name") or ""),
        state=_state(row.get("state")),
        experiment_id=str(row.get("experiment_id") or ""),
        description=str(row.get("description") or ""),
        pipeline_id=optional_text(reference.get("pipeline_id")),
        pipeline_version_id=optional_text(reference.get("pipeline_version_id")),
        pipeline_root=optional_text(runtime.get("pipeline_root")),
        parameters=mapping(runtime.get("parameters")),
        created_at=moment(row.get("created_at")),
        finished_at=moment(row.get("finished_at")),
        error=_error_text(row.get("error")),
        task_details=details if isinstance(details, list) else (),
    )


class PolledRun(msgspec.Struct, frozen=True, gc=False):
    """What a poll needs of a run, as the server tells it: a list gives each whole, with its pipeline's spec.

    Two are equal when nothing has changed, which costs far less than to read them; `read` makes a run of one.
    """

    run_id: Any = None
    display_name: Any = None
    state: Any = None
    created_at: Any = None
    finished_at: Any = None
    error: Any = None

    def read(self) -> KFPRun:
        """The run, without what a poll leaves out, such as its tasks."""
        return KFPRun(
            run_id=str(self.run_id),
            display_name=str(self.display_name or ""),
            state=_state(self.state),
            created_at=moment(self.created_at),
            finished_at=moment(self.finished_at),
            error=_error_text(self.error),
        )


class _Poll(msgspec.Struct):
    runs: list[PolledRun] | None = None
    next_page_token: Any = None


decode_poll = msgspec.json.Decoder(_Poll).decode


def read_poll(answer: Answer) -> tuple[list[PolledRun], str]:
    """The runs of one page that `decode_poll` has read, and the token of the next page, "" at the end.

    Raises ``answer.wrong`` for what is no list of runs with ids.
    """
    try:
        # JSON that is none in the strict sense arrives as a dictionary (clients.calls).
        poll = answer.data if isinstance(answer.data, _Poll) else msgspec.convert(answer.data, _Poll)
    except ValueError as exc:
        raise answer.wrong(f"a list of runs was expected: {exc}") from exc
    runs = poll.runs or []
    if not all(optional_text(run.run_id) for run in runs):
        raise answer.wrong("a run without a run_id")
    return runs, optional_text(poll.next_page_token) or ""


def _task(row: Mapping[str, Any]) -> KFPTask:
    children = row.get("child_tasks") or ()
    pods = [optional_text(child.get("pod_name")) for child in children if isinstance(child, Mapping)]
    return KFPTask(
        task_id=str(row.get("task_id") or ""),
        display_name=str(row.get("display_name") or ""),
        state=_state(row.get("state")),
        pod_name=optional_text(row.get("pod_name")) or next((pod for pod in pods if pod), None),
        start_time=moment(row.get("start_time")),
        end_time=moment(row.get("end_time")),
        error=_error_text(row.get("error")),
    )
