"""Building a project's DAGs once to see that they can be built, before they take the place of those that can.

A project with steps or a timetable of its own is built in a process of its own: a team's code runs there, and may do
anything: never come back, end the process, or change what the DAG processor has imported.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import warnings

from mlfleet.errors import ConfigError, ManifestError
from mlfleet.factory.dags import build_dags, check
from mlfleet.factory.foreign import ForeignCodeError
from mlfleet.factory.plan import Plan

# As long as Airflow gives the import of a DAG file ([core] dagbag_import_timeout).
SECONDS = 30.0


def problem_of(plan: Plan, seconds: float = SECONDS) -> tuple[str, str]:
    """What keeps the DAGs from being built, and the foreign code at fault (its ``place``); "" when nothing does."""
    return _apart(plan, seconds) if plan.project.runs_foreign_code else _try(plan)


def _try(plan: Plan) -> tuple[str, str]:
    try:
        check(build_dags(plan))
    except ForeignCodeError as error:
        return str(error), error.place
    except (ConfigError, ManifestError) as error:
        return str(error), ""
    except Exception as error:  # a fault of the factory must stay with the one project that shows it
        return f"{type(error).__name__}: {error}", ""
    return "", ""


def _apart(plan: Plan, seconds: float) -> tuple[str, str]:
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        # Python warns of forks beside threads; Airflow forks the same way for each file that it parses.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            with os.fdopen(writer, "w", encoding="utf-8") as pipe:
                pipe.write(json.dumps(_try(plan)))
        finally:
            # Nothing of the parent is ended or flushed a second time, whatever the code has raised.
            os._exit(0)
    os.close(writer)
    try:
        answer = _read(reader, time.monotonic() + seconds)
    finally:
        os.close(reader)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if answer is None:
        return f"the code of the project did not come back within {seconds:g} s", _first_place(plan)
    try:
        problem, place = json.loads(answer)
    except ValueError:
        return "the code of the project ended the process", _first_place(plan)
    return str(problem), str(place)


def _first_place(plan: Plan) -> str:
    project = plan.project
    for schedule in (project.schedule, *(experiment.schedule for experiment in project.experiments)):
        if schedule and schedule.timetable:
            return schedule.timetable.class_
    steps = project.steps
    places = (steps.before_training, steps.after_training, steps.after_deploy) if steps else ()
    return next((step.name for place in places for step in place), "")


def _read(descriptor: int, deadline: float) -> bytes | None:
    """Everything up to the end; None when that does not come in time."""
    content = b""
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([descriptor], [], [], left)[0]:
            break
        chunk = os.read(descriptor, 1 << 16)
        if not chunk:
            return content
        content += chunk
    return None
