"""Airflow reads its settings on its first import: before that they must point at a folder of this test session."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
HOME = Path(tempfile.mkdtemp(prefix="mlfleet-tests-"))
atexit.register(shutil.rmtree, HOME, ignore_errors=True)

for name in [name for name in os.environ if name.startswith("AIRFLOW")]:
    del os.environ[name]
os.environ.update(
    AIRFLOW_HOME=str(HOME),
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__DAGS_FOLDER=str(HOME / "dags"),
    AIRFLOW__CORE__PLUGINS_FOLDER=str(HOME / "plugins"),
    AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH=str(HOME / "bundles"),
    AIRFLOW__CORE__UNIT_TEST_MODE="True",
    # No unit test needs a database; one that touches it fails at once instead of making a file somewhere.
    AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{HOME}/no-such-folder/airflow.db",
)
for name in ("MLFLEET_ENV", "MLFLEET_DATA_ROOT", "MLFLEET_PIPELINE_ROOT", "MLFLEET_BASE_IMAGE"):
    os.environ.pop(name, None)

# Subprocesses of tests import mlfleet and sandbox as this process does (pyproject's `pythonpath` reaches only us).
if str(REPOSITORY / "plugins") not in sys.path:
    sys.path.insert(0, str(REPOSITORY / "plugins"))

from tests.support.world import world  # noqa: E402 - Airflow's settings come first

__all__ = ["world"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the outputs of tests/golden anew")
