"""An Airflow of its own in a temporary folder: a database, one small DAG, triggerers as they are wanted."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pwd
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx

from waits.processes import end, free_port

BENCHMARKS = Path(__file__).resolve().parents[1]
AIRFLOW = Path(sys.executable).with_name("airflow")
DAG_ID, TASKS = "waiting", 10
DAG = f"""
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

with DAG("{DAG_ID}", schedule=None):
    for number in range({TASKS}):
        EmptyOperator(task_id=f"wait-{{number}}")
"""
# Triggers that one turn of a triggerer takes over. The default (50) makes the start of thousands the longest part.
PER_TURN = 200


class World:
    """The home of one benchmark. ``environment`` is what all its processes get."""

    def __init__(self, home: Path, database: str, remote: str) -> None:
        self.home, self.remote = home, remote
        host, port = remote.removeprefix("http://").split(":")
        connections = {
            f"AIRFLOW_CONN_{kind.upper()}_DEFAULT": json.dumps(
                {"conn_type": kind, "schema": "http", "host": host, "port": int(port)}
            )
            for kind in ("kfp", "spinnaker")
        }
        self.environment = {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
            "AIRFLOW__CORE__FERNET_KEY": "d2FpdGluZy13YWl0aW5nLXdhaXRpbmctd2FpdGluZyE=",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
            "AIRFLOW__TRIGGERER__MAX_TRIGGER_TO_SELECT_PER_LOOP": str(PER_TURN),
            "PYTHONPATH": str(BENCHMARKS),
            **connections,
        }

    def prepare(self) -> None:
        """Tables, and the DAG in them. This process may use Airflow's models afterwards."""
        (self.home / "dags").mkdir()
        (self.home / "dags" / "waiting.py").write_text(DAG)
        for command in (["db", "migrate"], ["dags", "reserialize"]):
            self._run(command)
        os.environ.update(self.environment)

    def _run(self, command: list[str]) -> None:
        log = self.home / f"{command[0]}.log"
        with log.open("wb") as out:
            code = subprocess.run([str(AIRFLOW), *command], env={**os.environ, **self.environment}, stdout=out,
                                  stderr=subprocess.STDOUT, check=False).returncode  # fmt: skip
        if code:
            raise SystemExit(f"airflow {' '.join(command)} ended with {code}:\n{log.read_text()[-3000:]}")

    @contextlib.contextmanager
    def triggerers(self, count: int, capacity: int) -> Iterator[list[subprocess.Popen[bytes]]]:
        """So many triggerer processes; they are killed at the end, for nobody waits for them any more."""
        shutil.rmtree(self.home / "logs", ignore_errors=True)
        command = [str(AIRFLOW), "triggerer", "--skip-serve-logs", "--capacity", str(capacity)]
        with contextlib.ExitStack() as stack:
            yield [
                stack.enter_context(_process(command, self.home / f"triggerer-{number}.log", self.environment))
                for number in range(count)
            ]

    def logs(self) -> Iterator[Path]:
        """The log files of the triggers."""
        return (self.home / "logs").glob(f"dag_id={DAG_ID}/*/*/*.log")


@contextlib.contextmanager
def world() -> Iterator[tuple[World, str]]:
    """A prepared world, and which database it has."""
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mlfleet-waiting-")))
        # Each trigger that waits has an open log file.
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        postgres = postgres_programs()
        if postgres is None:
            name, database = "SQLite", f"sqlite:///{home}/airflow.db"
        else:
            name, database = "Postgres", stack.enter_context(running_postgres(postgres))
        port = free_port()
        environment = {"PYTHONPATH": str(BENCHMARKS)}
        command = [sys.executable, "-m", "waits.remote", str(port)]
        stack.enter_context(_process(command, home / "remote.log", environment))
        found = World(home, database, f"http://127.0.0.1:{port}")
        wait_for(lambda: answers(found.remote), "the remote server", 30)
        found.prepare()
        yield found, name


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/control/told", trust_env=False).is_success
    except httpx.TransportError:
        return False


def wait_for(probe: Callable[[], object], what: str, timeout: float, pause: float = 0.2) -> None:
    until = time.monotonic() + timeout
    while not probe():
        if time.monotonic() > until:
            raise TimeoutError(f"waited {timeout:.0f} s in vain for {what}")
        time.sleep(pause)


@contextlib.contextmanager
def _process(command: list[str], log: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(command, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=out,
                                   stderr=subprocess.STDOUT, start_new_session=True)  # fmt: skip
    try:
        yield process
    finally:
        end(process)


def postgres_programs() -> Path | None:
    """Where initdb and postgres are, if they and the drivers of Python are here."""
    if not all(importlib.util.find_spec(driver) for driver in ("psycopg2", "asyncpg")):
        return None
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((folder for folder in reversed(folders) if (folder / "postgres").exists()), None)


@contextlib.contextmanager
def running_postgres(programs: Path) -> Iterator[str]:
    """A new Postgres with its default settings, on a free port; its address for SQLAlchemy."""
    # Postgres refuses to run as root.
    user = "postgres" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="mlfleet-waiting-postgres-") as folder:
        if user:
            os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        data, port = f"{folder}/data", free_port()
        subprocess.run([programs / "initdb", "-D", data, "-U", "airflow", "-A", "trust", "-E", "UTF8"], user=user,
                       cwd=folder, stdout=subprocess.DEVNULL, check=True)  # fmt: skip
        command = [programs / "postgres", "-D", data, "-p", str(port), "-k", folder, "-c", "listen_addresses=127.0.0.1",
                   "-c", "log_destination=stderr"]  # fmt: skip
        with Path(folder, "log").open("wb") as out:
            process = subprocess.Popen(command, user=user, cwd=folder, stdout=out, stderr=out, start_new_session=True)
        try:
            ready = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
            wait_for(lambda: subprocess.run(ready, check=False).returncode == 0, "Postgres", 30)
            subprocess.run([programs / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "airflow", "airflow"],
                           check=True)  # fmt: skip
            yield f"postgresql+psycopg2://airflow@127.0.0.1:{port}/airflow"
        finally:
            end(process, signal.SIGINT)
