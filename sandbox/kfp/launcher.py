"""What the launcher of a pod does, with the pieces of kfp.local (kfp 2.16.1), in a child of the fork server.

Imported there only, because of what kfp.local costs (0.35 s and 80 MiB). `kfp.local.task_dispatcher` puts the same
pieces together and runs a whole component at a call; it is not used, because some of them do what the real launcher
does not. Where one is left out, it says here why.
"""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from kfp.local import SubprocessRunner, executor_input_utils, executor_output_utils, placeholder_utils
from kfp.local.subprocess_task_handler import SubprocessTaskHandler, run_local_subprocess
from kfp.pipeline_spec import pipeline_spec_pb2

from sandbox.kfp.component import ComponentError, Job, Launch, UnsupportedError, Values
from sandbox.kfp.texts import value_of

# kfp.local reads the component's output as text and line by line, and until the last process that has it has ended. A
# pod's log has every byte at once, and ends with the command: so it writes its log itself.
_INTO_LOG = ["sh", "-c", 'exec "$@" >>"$0" 2>&1']
_LITERAL = "{{literal$"
_WHOLE = 1e21  # from here on Go writes numbers with an exponent


def work(launch: Launch) -> Values | ComponentError:
    """Runs the component; its outputs, or why it has none."""
    try:
        message = executor_input(launch)
        _run(launch, _checked(launch, resolved(launch, message)))
        return outputs(launch.job, message)
    except ComponentError as error:
        return error
    except json_format.Error as error:
        return ComponentError(f"task {launch.job.task} has a value that no KFP message can hold: {error}")


def executor_input(launch: Launch) -> Any:
    """The ExecutorInput message: parameters into files of the job's own folder, artifacts below the task's.

    kfp.local makes the outputs. Its inputs know no null, no optional one without a value, and artifacts only of the
    types that the SDK has; so those are put in as they are.
    """
    job = launch.job
    spec = json_format.ParseDict(job.component, pipeline_spec_pb2.ComponentSpec(), ignore_unknown_fields=True)
    message = executor_input_utils.construct_executor_input(
        component_spec=pipeline_spec_pb2.ComponentSpec(output_definitions=spec.output_definitions),
        arguments={},
        task_root=str(job.state),
        block_input_artifact=False,
    )
    for name, found in message.outputs.artifacts.items():
        found.artifacts[0].uri = str(launch.folder / name)
    artifacts = {name: {"artifacts": found} for name, found in job.inputs.artifacts.items()}
    inputs = {"parameterValues": job.inputs.parameters, "artifacts": artifacts}
    return json_format.ParseDict({"inputs": inputs}, message)


def resolved(launch: Launch, message: Any) -> list[str]:
    """The arguments with their placeholders filled in; those in the values are plain text by now and stay."""
    job = launch.job
    content = as_go_writes(json_format.MessageToDict(message))
    # Unlike the numbers inside of a value, a parameter has a type, which a component is to find again.
    given = content.setdefault("inputs", {}).setdefault("parameterValues", {})
    given.update({name: value for name, value in job.inputs.parameters.items() if isinstance(value, float)})
    words: list[str] = placeholder_utils.replace_placeholders(
        full_command=list(job.executor["container"].get("args", [])),
        executor_input_dict=json.loads(json.dumps(content).replace("{{$", _LITERAL)),
        pipeline_resource_name=job.pipeline,
        task_resource_name=job.task,
        pipeline_root=job.root,
        unique_pipeline_id=job.run_id,
    )
    return [word.replace(_LITERAL, "{{$") for word in words]


def _checked(launch: Launch, arguments: list[str]) -> SubprocessTaskHandler:
    """Raises UnsupportedError for what kfp.local can't run either: code that is nowhere but in an image."""
    job = launch.job
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about images without "python" in their name
            return SubprocessTaskHandler(
                image=job.executor["container"].get("image", ""), full_command=[*launch.command, *arguments],
                pipeline_root=job.root, runner=SubprocessRunner(use_venv=False),
            )  # fmt: skip
    except RuntimeError as error:
        raise UnsupportedError(f"task {job.task} can't be run by the sandbox: {error}") from error


def _run(launch: Launch, handler: SubprocessTaskHandler) -> None:
    """Raises ComponentError when it does not start or ends with another exit code than 0."""
    job = launch.job
    os.environ.clear()
    os.environ.update(launch.variables)
    os.chdir(job.state)
    try:
        job.log.touch()
        # The handler's `run` tells no exit code, and writes a path over each "python3", also inside of values.
        code = run_local_subprocess([*_INTO_LOG, str(job.log), *handler.full_command])
    except OSError as error:
        raise ComponentError(f"task {job.task} could not be started: {error}") from error
    if code != 0:
        last = [line for line in job.log.read_text(errors="replace").splitlines() if line.strip()][-1:]
        raise ComponentError(f"task {job.task} ended with exit code {code}{': ' + last[0] if last else ''}")


def outputs(job: Job, message: Any) -> Values:
    """What the component said it made. Raises ComponentError when it left out a parameter, as the launcher does."""
    content = _said(job, message)
    definitions = job.component.get("outputDefinitions", {}).get("parameters", {})
    parameters = {
        name: value if _kind(definitions, name) == "NUMBER_DOUBLE" else as_go_writes(value)
        for name, value in content.get("parameterValues", {}).items()
    }
    for name, place in message.outputs.parameters.items():
        # kfp.local lets the file win over the message, misses none, and takes for a number what Go does not.
        if name not in parameters:
            parameters[name] = _from_file(job, name, _kind(definitions, name), Path(place.output_file))
    planned = json_format.MessageToDict(message.outputs).get("artifacts", {})
    return Values(parameters, _artifacts(planned, as_go_writes(content.get("artifacts", {}))))


def _said(job: Job, message: Any) -> dict[str, Any]:
    """The ExecutorOutput message that the component wrote, as JSON; empty when it wrote none."""
    try:
        said = executor_output_utils.load_executor_output(message.outputs.output_file)
        for name in set(said.artifacts) - set(message.outputs.artifacts):
            del said.artifacts[name]  # nobody asked for it
        said = executor_output_utils.add_type_to_executor_output(executor_input=message, executor_output=said)
        content: dict[str, Any] = json_format.MessageToDict(said)
    except (OSError, ValueError, json_format.Error) as error:
        raise ComponentError(f"task {job.task} wrote an output message that can't be read: {error}") from error
    return content


def _kind(definitions: dict[str, Any], name: str) -> str:
    return str(definitions.get(name, {}).get("parameterType", "STRING"))


def _from_file(job: Job, name: str, kind: str, place: Path) -> Any:
    try:
        return value_of(place.read_text(), kind)
    except (OSError, ValueError) as error:
        raise ComponentError(f"task {job.task} gave no output parameter {name} of type {kind}: {error}") from error


def _artifacts(planned: dict[str, Any], said: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """As they were asked for, completed by what the component tells: uri and metadata.

    They stay messages: the objects that kfp.local makes of them have the SDK's types only.
    """
    found = {}
    for name, each in planned.items():
        (start,) = each["artifacts"]
        told = said.get(name, each).get("artifacts", [])
        found[name] = [{"type": {}, "metadata": {}, **start, **artifact} for artifact in told]
    return found


def as_go_writes(value: Any) -> Any:
    """A JSON value with its whole numbers as integers; in protobuf messages all numbers are floats."""
    match value:
        case float() if value.is_integer() and abs(value) < _WHOLE:
            return int(value)
        case list():
            return [as_go_writes(each) for each in value]
        case dict():
            return {key: as_go_writes(each) for key, each in value.items()}
    return value
