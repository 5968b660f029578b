"""A real DAG processor over a fleet, in an Airflow home of its own, and what its database knows."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy
from waits.processes import TICKS, children, end

AIRFLOW = Path(sys.executable).with_name("airflow")
LOCAL = "airflow.dag_processing.bundles.local.LocalDagBundle"
GIT = "airflow.providers.git.bundles.git.GitDagBundle"
# Seconds. A file is parsed again when it changes; an hour is for what no file says.
SETTINGS = {"REFRESH_INTERVAL": 5, "BUNDLE_REFRESH_CHECK_INTERVAL": 2, "MIN_FILE_PROCESS_INTERVAL": 3600}


@dataclass(frozen=True)
class Setup:
    """One way to have the fleet: how many projects share a file, and whether it comes from git."""

    per_file: int
    git: bool

    @property
    def layout(self) -> str:
        return "one_each" if self.per_file == 1 else "grouped"

    @property
    def source(self) -> str:
        return "git" if self.git else "local"


def environment(home: Path, database: str, root: Path, setup: Setup | None) -> dict[str, str]:
    """What all processes of one Airflow get; without a setup it has an empty folder of Airflow's own kind."""
    local: dict[str, Any] = {"path": str(root)}
    bundle = {"name": "nothing", "classpath": LOCAL, "kwargs": local}
    if setup:
        kwargs = {"tracking_ref": "main", "git_conn_id": "fleet"}
        source: dict[str, Any] = {"source": {"classpath": GIT, "kwargs": kwargs}} if setup.git else local
        bundle = {"name": "projects", "classpath": "mlfleet.bundles.ManifestDagBundle",
                  "kwargs": {**source, "projects_per_file": setup.per_file}}  # fmt: skip
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__FERNET_KEY": "d2FpdGluZy13YWl0aW5nLXdhaXRpbmctd2FpdGluZyE=",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle]),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(home / "bundles"),
        **{f"AIRFLOW__DAG_PROCESSOR__{name}": str(value) for name, value in SETTINGS.items()},
        "AIRFLOW_CONN_FLEET": json.dumps({"conn_type": "git", "host": str(root)}),
        "MLFLEET_ENV": "dev",
    }


def migrate(variables: Mapping[str, str], log: Path) -> None:
    with log.open("wb") as out:
        subprocess.run([str(AIRFLOW), "db", "migrate"], env={**os.environ, **variables}, stdout=out, stderr=out,
                       check=True, timeout=300)  # fmt: skip


class Database:
    """What Airflow knows of the fleet."""

    def __init__(self, address: str) -> None:
        self._engine = sqlalchemy.create_engine(address, isolation_level="AUTOCOMMIT")

    def ask(self, text: str, **values: Any) -> Any:
        with self._engine.connect() as connection:
            return connection.execute(sqlalchemy.text(text), values).scalar()

    def dags(self) -> int:
        return int(self.ask("select count(distinct dag_id) from serialized_dag"))

    def tagged(self, dag_id: str, tag: str) -> bool:
        return bool(self.ask("select 1 from dag_tag where dag_id = :dag and name = :tag", dag=dag_id, tag=tag))

    def errors(self) -> int:
        return int(self.ask("select count(*) from import_error"))

    def close(self) -> None:
        self._engine.dispose()


@contextlib.contextmanager
def processor(variables: Mapping[str, str], log: Path) -> Iterator[int]:
    """A running DAG processor; its pid. Ended with everything it has started."""
    with log.open("ab") as out:
        process = subprocess.Popen([str(AIRFLOW), "dag-processor"], env={**os.environ, **variables}, stdout=out,
                                   stderr=out, stdin=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
    try:
        yield process.pid
    finally:
        end(process)


def cpu_of(pid: int) -> float:
    """CPU seconds of a process, of its children that have ended and, one level down, of those that have not."""
    return _cpu(pid) + sum(_cpu(child) for child in children(pid))


def wait(probe: Any, what: str, seconds: float, pause: float = 0.05) -> float:
    """Seconds until the probe says yes."""
    began = time.monotonic()
    while not probe():
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(pause)
    return time.monotonic() - began


def _cpu(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(field) for field in fields[11:15]) / TICKS
