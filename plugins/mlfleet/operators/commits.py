"""Which commit a task trains: the one that it began with, in every try and after every clear.

A DAG run of a versioned bundle has one commit for good; a person who clears a task "with the latest bundle version"
asks for another one. Without bundle versions the code under the tasks moves on, so the commit of the first try is kept
in the task's state store; a person who deletes it there (tab Task State Store) asks for the present one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk.execution_time.context import NEVER_EXPIRE

from mlfleet.errors import ConfigError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from mlfleet.operators.run_values import RunValues

COMMIT = "git.commit"
COMMIT_KEY = "mlfleet_commit"
UNKNOWN = "unknown"


def trained_commit(values: RunValues, context: Context) -> str | None:
    """The commit whose code this task trains, and keeps; None where nobody knows one."""
    try:
        present = str(values.lookup(COMMIT))
    except LookupError:
        return None
    bundle = getattr(context["ti"], "bundle_instance", None)
    if getattr(bundle, "version", None):
        return None if present == UNKNOWN else present
    store = context["task_state_store"]
    kept = store.get(COMMIT_KEY)
    if kept:
        return str(kept)
    if present == UNKNOWN:
        return None
    store.set(COMMIT_KEY, present, retention=NEVER_EXPIRE)
    return present


def required_commit(commit: str | None, task_id: str) -> str:
    """The commit; raises ConfigError where nobody knows one."""
    if commit is None:
        raise ConfigError("the commit of the code is not known, so it can't be pinned", f"task {task_id}",
                          "Serve the repository from a git bundle, or set MLFLEET_COMMIT for the workers")  # fmt: skip
    return commit
