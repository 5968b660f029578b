"""Every event of the table in docs/durability.md, with real processes: Airflow's programs, Polyaxon, the KFP stand-in.

The cases are played at the same time on one Airflow by the fixture ``rows``; a test looks at its row. The quick half of
them is part of `make test`; the others are marked ``chaos_long`` and run with `make test-chaos` alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.chaos.playing import CASES, Play, Row, play_all

PLAYS = [
    pytest.param((case, system), id=f"{case.slug}-{system}", marks=() if case.quick else pytest.mark.chaos_long)
    for case in CASES
    for system in case.systems
]


@pytest.fixture(scope="session")
def rows(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mapping[Play, Row]:
    """The rows of all plays that this session wants; also written to the file that MLFLEET_CHAOS_ROWS names."""
    wanted = [
        item.callspec.params["play"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.path == Path(__file__) and "play" in item.callspec.params
    ]
    found = play_all(wanted, tmp_path_factory.mktemp("chaos"))
    if file := os.environ.get("MLFLEET_CHAOS_ROWS"):
        Path(file).write_text(json.dumps([found[play].as_json() for play in wanted]))
    return found


@pytest.mark.parametrize("play", PLAYS)
def test_one_job_whatever_happens(play: Play, rows: Mapping[Play, Row]) -> None:
    row = rows[play]
    assert not row.problems, "\n".join(row.problems)
    assert (row.duplicates, row.lost) == (0, 0)
