"""Which commit a task trains: what is cloned for it is the same in every try and after every clear.

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


def present_commit(values: RunValues) -> str | None:
    """The commit of the code that the DAG was built from; None where nobody knows it."""
    try:
        found = str(values.lookup(COMMIT))
    except LookupError:
        return None
    return None if found == UNKNOWN else found


def pinned_commit(values: RunValues, context: Context) -> str | None:
    """The commit that this task clones, and keeps; from now on ``${git.commit}`` stands for it."""
    present = present_commit(values)
    bundle = getattr(context["ti"], "bundle_instance", None)
    if getattr(bundle, "version", None):
        return present
    store = context["task_state_store"]
    kept = store.get(COMMIT_KEY)
    if kept:
        values.pin(COMMIT, str(kept))
        return str(kept)
    if present is not None:
        store.set(COMMIT_KEY, present, retention=NEVER_EXPIRE)
    return present


def required_commit(commit: str | None, task_id: str) -> str:
    """The commit; raises ConfigError where nobody knows one."""
    if commit is None:
        raise ConfigError("the commit of the code is not known, so it can't be pinned", f"task {task_id}",
                          "Serve the repository from a git bundle, or set MLFLEET_COMMIT for the workers")  # fmt: skip
    return commit
