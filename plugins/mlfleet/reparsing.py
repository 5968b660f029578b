"""A fault of Airflow's DAG processor that runs with a bundle version bring about, kept away in the processor's process.

To run a callback of such a run (that of a DAG, or of a task whose worker is gone), the processor takes the file at that
version, and keeps what it noted of it beside what it knows of the file of today. It reads the later note for both, and
that one is never renewed: it parses the file again as soon as it has parsed it, until it is started anew. A fleet with
notifications would keep a core busy with that. It is apache/airflow issue 73432, open as of Airflow 3.3.2; see
``prepare_file_queue`` in airflow/dag_processing/manager.py.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

import attrs

log = logging.getLogger(__name__)


def forget_callbacks() -> None:
    """From now on the DAG processor forgets its notes of files at a version before it looks for files to parse.

    Raises AttributeError, and changes nothing, for an Airflow that keeps them otherwise.
    """
    from airflow.dag_processing.manager import DagFileProcessorManager

    prepare = DagFileProcessorManager.prepare_file_queue
    attrs.fields(DagFileProcessorManager)._file_stats  # noqa: B018 - raises where there is none

    @functools.wraps(prepare)
    def prepare_file_queue(self: Any, *args: Any, **kwargs: Any) -> None:
        for file in [each for each in self._file_stats if each.bundle_version is not None]:
            del self._file_stats[file]
        prepare(self, *args, **kwargs)

    DagFileProcessorManager.prepare_file_queue = prepare_file_queue  # type: ignore[method-assign]
    log.info("The DAG processor will not parse files without a pause after callbacks (apache/airflow issue 73432)")
