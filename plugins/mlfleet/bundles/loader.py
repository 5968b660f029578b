"""What the laid-out files call when Airflow parses them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, get_parsing_context

from mlfleet.bundles.definition import Definition
from mlfleet.factory.dags import build_dags
from mlfleet.manifest.known import UNKNOWN_COMMIT, commit_of
from mlfleet.manifest.parts import project_of


def dags_of(root: str, commit: str | None, entries: Sequence[Mapping[str, Any]]) -> dict[str, DAG]:
    """The DAGs of a loader file, under names that a module can hold.

    ``root``     the repository that holds the projects' code
    ``commit``   of that code; None when the repository is to be asked
    ``entries``  the fields of each :class:`Definition`

    A worker runs one task of one DAG and gets only that one.
    """
    wanted = get_parsing_context().dag_id
    if commit is None:
        # The commit is no part of a serialized DAG: only who runs tasks has to ask git for it.
        commit = commit_of(Path(root)) if wanted else UNKNOWN_COMMIT
    found: dict[str, DAG] = {}
    for entry in entries:
        if wanted is None or project_of(wanted) == entry["name"]:
            definition = Definition(**entry)
            dags = build_dags(definition.plan(Path(root), commit), wanted)
            found |= {f"dag_{definition.digest}_{number}": dag for number, dag in enumerate(dags)}
    return found
