"""Pipelines that the KFP sandbox is tried with. A file of its own: the SDK reads a component's source from it.

Annotations must be real here: the SDK reads those of components too.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Optional

from kfp import compiler, dsl
from kfp.dsl import (
    Artifact,
    Dataset,
    Input,
    Metrics,
    Model,
    Output,
    OutputPath,
    PipelineTaskFinalStatus,
)

IMAGE = "python:3.11"  # named, because the SDK warns about its default


def component(function: Callable[..., Any]) -> Any:
    """A component that needs no pip: the SDK that is there is used."""
    return dsl.component(function, base_image=IMAGE, install_kfp_package=False)


@component
def add(a: int, b: int = 2) -> int:
    return a + b


@dsl.component(base_image=IMAGE)
def describe(model: Input[Model], message: str) -> str:
    """With the pip line, as components are by default."""
    return f"{message}: {open(model.path).read()} of {model.metadata['rows']}"


@component
def make_model(rows: int, settings: dict, model: Output[Model], metrics: Output[Metrics]):  # type: ignore[type-arg]
    import pathlib

    model.metadata["rows"] = str(rows)
    metrics.log_metric("mae", settings["mae"])
    pathlib.Path(model.path).write_text("weights")


@dsl.pipeline(name="values")
def values(rows: int = 3, name: str = "n", settings: dict = {"mae": 1.5}):  # type: ignore[type-arg]  # noqa: B006
    total = add(a=add(a=rows).output, b=10)
    made = make_model(rows=total.output, settings=settings)
    describe(model=made.outputs["model"], message=f"hi {name} {rows}").set_env_variable("A", "b")


@component
def toss(face: str) -> str:
    return face


@dsl.pipeline(name="branches")
def branches(face: str = "heads", rows: int = 3):
    coin = toss(face=face)
    with dsl.If(coin.output == "heads"):
        one = add(a=1)
        with dsl.If(rows > 2):
            add(a=100)
    with dsl.Elif(coin.output == "tails"):
        two = add(a=2)
    with dsl.Else():
        three = add(a=3)
    add(a=dsl.OneOf(one.output, two.output, three.output), b=1000)


@component
def fall(why: str):
    print("about to fall")
    raise RuntimeError(why)


@component
def note_status(status: PipelineTaskFinalStatus, folder: str):
    import json
    import pathlib

    told = json.dumps({"state": status.state, "error": status.error_message})
    pathlib.Path(folder, "status.json").write_text(told)


@dsl.pipeline(name="guarded")
def guarded(folder: str):
    with dsl.ExitHandler(note_status(folder=folder)):
        fell = fall(why="the ice is thin")
        add(a=1).after(fell)


@component
def meet(folder: str, me: str, other: str):
    import pathlib
    import time

    (pathlib.Path(folder) / me).touch()
    deadline = time.monotonic() + 20
    while not (pathlib.Path(folder) / other).exists():
        assert time.monotonic() < deadline, f"{other} never came"
        time.sleep(0.05)


@dsl.pipeline(name="meeting")
def meeting(folder: str):
    meet(folder=folder, me="a", other="b")
    meet(folder=folder, me="b", other="a")


@component
def tally(folder: str, name: str, needed: int = 1) -> int:
    """Counts its executions in a file, and fails before the count that is needed."""
    import pathlib

    file = pathlib.Path(folder) / name
    count = len(file.read_text()) + 1 if file.exists() else 1
    file.write_text("x" * count)
    print(f"execution {count} of {name}")
    assert count >= needed, f"execution {count} is not enough"
    return count


@dsl.pipeline(name="attempts")
def attempts(folder: str, needed: int):
    tally(folder=folder, name="count", needed=needed).set_retry(2)


@dsl.pipeline(name="resumable")
def resumable(folder: str):
    first = tally(folder=folder, name="first")
    second = tally(folder=folder, name="second", needed=2).after(first)
    tally(folder=folder, name="third").after(second)


@dsl.pipeline(name="counted")
def counted(folder: str):
    tally(folder=folder, name="cached")
    tally(folder=folder, name="fresh").set_caching_options(False)


@dsl.pipeline(name="other-name")
def counted_elsewhere(folder: str):
    tally(folder=folder, name="cached")


@dsl.pipeline(name="inner")
def inner(n: int) -> int:
    return add(a=n).output  # type: ignore[no-any-return]


@dsl.pipeline(name="outer")
def outer(n: int = 1) -> int:
    return add(a=inner(n=n).output, b=30).output  # type: ignore[no-any-return]


@dsl.pipeline(name="looping")
def looping():
    with dsl.ParallelFor([1, 2]) as n:
        add(a=n)


@component
def tell(value: list) -> str:  # type: ignore[type-arg]
    return str(value)


@dsl.pipeline(name="collecting")
def collecting():
    with dsl.ParallelFor([1, 2]) as n:
        added = add(a=n)
    tell(value=dsl.Collected(added.output))


@dsl.container_component
def whale():
    return dsl.ContainerSpec(image="alpine", command=["echo", "moo"])


@dsl.pipeline(name="contained")
def contained():
    whale()


@component
def sleep(folder: str):
    """Sleeps with two children, one of them in a session of its own, and writes down all three pids."""
    import os
    import pathlib
    import subprocess
    import time

    children = [subprocess.Popen(["sleep", "600"], start_new_session=alone) for alone in (False, True)]
    draft = pathlib.Path(folder) / "draft"
    draft.write_text(" ".join(str(pid) for pid in (os.getpid(), *(child.pid for child in children))))
    draft.rename(pathlib.Path(folder) / "pids")
    print("sleeping", flush=True)
    time.sleep(600)


@dsl.pipeline(name="sleeping")
def sleeping(folder: str):
    slept = sleep(folder=folder).set_caching_options(False)
    add(a=1).after(slept)


@component
def talk(folder: str):
    import pathlib
    import time

    print("first line", flush=True)
    deadline = time.monotonic() + 30
    while not (pathlib.Path(folder) / "go-on").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    print("zweite Zeile, größer", flush=True)


@dsl.pipeline(name="talking")
def talking(folder: str):
    talk(folder=folder).set_caching_options(False)


@component
def stay(folder: str):
    """Writes down that it was asked to end, and does not."""
    import os
    import pathlib
    import signal
    import time

    signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path(folder) / "asked").touch())
    (pathlib.Path(folder) / "pid").write_text(str(os.getpid()))
    for _ in range(600):
        time.sleep(1)


@dsl.pipeline(name="staying")
def staying(folder: str):
    stay(folder=folder)


@component
def repeat(job: str, resource: str, id: str, task: str, task_id: str, created: str, due: str, text: str) -> list:  # type: ignore[type-arg]
    return [job, resource, id, task, task_id, created, due, text]


@dsl.pipeline(name="placeholders")
def placeholders():
    repeat(
        job=dsl.PIPELINE_JOB_NAME_PLACEHOLDER,
        resource=dsl.PIPELINE_JOB_RESOURCE_NAME_PLACEHOLDER,
        id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        task=dsl.PIPELINE_TASK_NAME_PLACEHOLDER,
        task_id=dsl.PIPELINE_TASK_ID_PLACEHOLDER,
        created=dsl.PIPELINE_JOB_CREATE_TIME_UTC_PLACEHOLDER,
        due=dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER,
        text=f"in {dsl.PIPELINE_JOB_ID_PLACEHOLDER}",
    )


@component
def write_files(
    truth: OutputPath(bool),  # type: ignore[valid-type]
    count: OutputPath(int),  # type: ignore[valid-type]
    ratio: OutputPath(float),  # type: ignore[valid-type]
    items: OutputPath(list),  # type: ignore[valid-type]
    table: OutputPath(dict),  # type: ignore[valid-type]
    text: OutputPath(str),  # type: ignore[valid-type]
):
    import pathlib

    values = {truth: "True", count: " 3\n", ratio: "1e3", items: "[1, null]", table: '{"a": [2.5]}', text: "007"}
    for place, content in values.items():
        pathlib.Path(place).write_text(content)


@component
def return_values() -> NamedTuple(  # type: ignore[valid-type]
    "Values", [("truth", bool), ("count", int), ("ratio", float), ("items", list), ("table", dict), ("text", str)]
):
    return (True, 3, 1000.0, [1, None], {"a": [2.5]}, "007")  # type: ignore[return-value]


@component
def show(truth: bool, count: int, ratio: float, items: list, table: dict, text: str) -> str:  # type: ignore[type-arg]
    return repr((truth, count, ratio, items, table, text))


@dsl.pipeline(name="typed")
def typed():
    names = ("truth", "count", "ratio", "items", "table", "text")
    for made in (write_files().outputs, return_values().outputs):
        show(**{name: made[name] for name in names})


@component
def write_nonsense(count: OutputPath(int)):  # type: ignore[valid-type]
    import pathlib

    pathlib.Path(count).write_text("three")


@dsl.pipeline(name="mistyped")
def mistyped():
    write_nonsense()


@component
def make_all(model: Output[Model], data: Output[Dataset], metrics: Output[Metrics]):
    data.metadata["rows"] = 5
    metrics.log_metric("mae", 1.5)


@component
def classes(one: Input[Artifact], two: Input[Artifact], three: Input[Artifact], four: Input[Artifact]) -> str:
    artifacts = (one, two, three, four)
    return f"{[type(each).__name__ for each in artifacts]} {two.metadata} {four.metadata} {four.uri}"


@dsl.pipeline(name="artifacts")
def artifacts(uri: str):
    made = make_all().outputs
    found = dsl.importer(artifact_uri=uri, artifact_class=Dataset, metadata={"from": "outside"})
    classes(one=made["model"], two=made["data"], three=made["metrics"], four=found.output)


@component
def places() -> list:  # type: ignore[type-arg]
    import os
    import tempfile

    return [__file__, tempfile.mkdtemp(), os.environ["PATH"]]


@dsl.pipeline(name="tidy")
def tidy():
    places().set_caching_options(False)


@dsl.component(base_image=IMAGE, packages_to_install=["pandas>=2", "numpy", "cowsay; python_version < '3'"])
def supplied_one() -> str:
    import pandas

    return pandas.__name__


@dsl.pipeline(name="supplied")
def supplied():
    supplied_one()


@dsl.component(base_image=IMAGE, packages_to_install=["pandas>=900"])
def needy_one():
    pass


@dsl.pipeline(name="needy")
def needy():
    needy_one()


@dsl.pipeline(name="optional")
def optional(face: Optional[str] = None):  # noqa: UP045  the SDK knows only this form
    with dsl.If(face == "heads"):
        add(a=1)


@component
def occupy(folder: str, number: int) -> int:
    """How many of its like are at work at the same time."""
    import pathlib
    import time

    mine = pathlib.Path(folder) / f"{number}.busy"
    mine.touch()
    time.sleep(0.1)
    together = len(list(pathlib.Path(folder).glob("*.busy")))
    mine.rename(pathlib.Path(folder) / f"{number}.done")
    return together


@dsl.pipeline(name="crowded")
def crowded(folder: str, number: int):
    occupy(folder=folder, number=number)


@component
def trace() -> list:  # type: ignore[type-arg]
    """Its process and those above it, from the nearest on."""
    import os
    import pathlib

    found = [os.getpid()]
    while found[-1] > 1:
        stat = pathlib.Path(f"/proc/{found[-1]}/stat").read_text()
        found.append(int(stat.rpartition(")")[2].split()[1]))
    return found


@dsl.pipeline(name="tracing")
def tracing():
    trace().set_caching_options(False)


@component
def straggle(text: str) -> str:
    """Leaves a process behind that has its output open, and ends it with what is no line and no text."""
    import subprocess
    import sys

    subprocess.Popen(["sleep", "600"], start_new_session=True)
    sys.stdout.buffer.write(b"50%\r100% \xff")
    return text


@dsl.pipeline(name="straggling")
def straggling(text: str):
    straggle(text=text)


@component
def count_to_nothing(metrics: Output[Metrics]):
    metrics.log_metric("mae", float("nan"))


@dsl.pipeline(name="unmeasured")
def unmeasured():
    count_to_nothing()


@component
def break_off():
    """Kills the process that looks after this one."""
    import os
    import pathlib
    import signal
    import time

    above = pathlib.Path(f"/proc/{os.getppid()}")
    while "-m\0sandbox.kfp.forking" not in (above / "cmdline").read_text():
        above = above.with_name((above / "stat").read_text().rpartition(")")[2].split()[1])
    os.kill(int(above.name), signal.SIGKILL)
    time.sleep(600)


@dsl.pipeline(name="broken-off")
def broken_off():
    break_off()


def compiled(pipeline: Any, folder: Path) -> str:
    """The package file of a pipeline."""
    file = folder / f"{pipeline.name}.yaml"
    compiler.Compiler().compile(pipeline, str(file))
    return str(file)
