"""What Airflow's DAG processor parses again after it ran a callback of a run that has a bundle version."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import attrs
import pytest
from airflow.dag_processing.manager import DagFileInfo, DagFileProcessorManager, DagFileStat

from mlfleet.reparsing import forget_callbacks
from mlfleet.starting import before_command

TODAY = DagFileInfo(rel_path=Path("prices.py"), bundle_name="projects", bundle_path=Path(__file__).parent)
OF_THE_RUN = DagFileInfo(rel_path=Path("prices.py"), bundle_name="projects", bundle_version="3f2a")
OTHER = DagFileInfo(rel_path=Path("cards.py"), bundle_name="projects", bundle_path=Path(__file__).parent)


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> DagFileProcessorManager:
    """It parsed one file of two just now, and ran a callback for a run of it that has an older version."""
    monkeypatch.setattr(DagFileProcessorManager, "prepare_file_queue", DagFileProcessorManager.prepare_file_queue)
    made = DagFileProcessorManager(max_runs=-1)
    made._file_parsing_sort_mode = "alphabetical"
    made._file_stats[TODAY] = DagFileStat(num_dags=1, last_finish_time=datetime.now(UTC), run_count=1)
    ran = SimpleNamespace(had_callbacks=True, parsing_result=None, start_time=time.monotonic())
    made.handle_parsing_result(OF_THE_RUN, ran, session=None)  # type: ignore[arg-type]
    return made


def queued(processor: DagFileProcessorManager) -> list[DagFileInfo]:
    processor.prepare_file_queue({"projects": {TODAY, OTHER}})
    return list(processor._file_queue)


def test_airflow_alone_parses_the_file_again_at_once(processor: DagFileProcessorManager) -> None:
    """When this fails Airflow has mended it, and `mlfleet.reparsing` can go."""
    assert queued(processor) == [OTHER, TODAY]


def test_with_us_it_parses_what_is_due(processor: DagFileProcessorManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["airflow", "dag-processor", "--bundle-name", "projects"])
    before_command()
    assert queued(processor) == [OTHER]
    assert processor._file_stats[TODAY].run_count == 1


def test_an_airflow_that_keeps_its_notes_otherwise_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    @attrs.define
    class Manager:
        def prepare_file_queue(self) -> str:
            return "of that Airflow"

    monkeypatch.setattr("airflow.dag_processing.manager.DagFileProcessorManager", Manager)
    with pytest.raises(AttributeError):
        forget_callbacks()
    assert Manager().prepare_file_queue() == "of that Airflow"


def test_no_other_program_of_airflow_is_changed(
    processor: DagFileProcessorManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    for words in (["scheduler"], ["dags", "reserialize"], []):
        monkeypatch.setattr("sys.argv", ["airflow", *words])
        before_command()
    assert queued(processor) == [OTHER, TODAY]
