"""What the laid-out files call when Airflow parses them."""

from __future__ import annotations

import runpy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, get_parsing_context

from mlfleet.bundles.definition import Definition
from mlfleet.factory.dags import build_dags
from mlfleet.manifest.known import UNKNOWN_COMMIT, commit_of
from mlfleet.manifest.parts import project_of

if TYPE_CHECKING:
    from mlfleet.bundles.bundle import ManifestDagBundle


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


def dags_at(bundle: str, version: str, file: str) -> dict[str, DAG]:
    """The DAGs that projects had at a version which are in a file of the DAG processor today, for a callback of a run.

    Each is laid out as for a task of it; one that was not there then, or no good, is as it is today.
    """
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    bundles: Any = DagBundlesManager()  # type: ignore[no-untyped-call]
    ours: ManifestDagBundle = bundles.get_bundle(bundle, version)
    found: dict[str, DAG] = {}
    for project in ours.projects_of(file):
        ours.serve(project)
        ours.initialize()
        laid_out = runpy.run_path(str(next(ours.path.glob("*.py"))))
        found |= {name: dag for name, dag in laid_out.items() if isinstance(dag, DAG)}
    return found
