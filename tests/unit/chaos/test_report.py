"""The table of the chaos tests: what it prints of a row, and what counts as wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.chaos import report
from tests.support.chaos.airflow import tries_spent
from tests.support.chaos.playing import Row

SPENT = (
    "2026-11-26T12:59:40.177357Z [error    ] Executor LocalExecutor(parallelism=8) reported that the task instance "
    "<TaskInstance: after_submit_kfp.job chaos [{state}] ti_id=01a217f0-48df-76a2-b9fc-884fea23b88a> finished with "
    "state success, but the task instance's state attribute is {state}. [airflow.task] loc=taskinstance.py:1878\n"
)


def row(tries: int = 2, spent: int = 0, lost: int = 0, problems: tuple[str, ...] = ()) -> Row:
    return Row(
        event="kill | -9", system="kfp", executions=1, jobs=("succeeded",), task="success", tries=tries, spent=spent,
        duplicates=0, lost=lost, wrong=int(bool(problems)), problems=problems, told="as it must be",
        seconds=1.0,
    )  # fmt: skip


def test_a_row_becomes_a_line_of_the_page() -> None:
    assert report.markdown([row().as_json()]).splitlines()[2:] == [
        "| kill / -9 | kfp | 1 | succeeded | success | 2 | as it must be |"
    ]


def test_a_try_that_airflow_spent_is_told_and_not_wrong() -> None:
    assert report.cells(row(tries=3, spent=1).as_json())[5:] == (
        "3, 1 of them spent by Airflow itself", "as it must be",
    )  # fmt: skip


def test_the_page_keeps_what_stands_around_the_table() -> None:
    page = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    assert report.with_table(page, "new") == f"before\n{report.BEGIN}\nnew\n{report.END}\nafter\n"
    with pytest.raises(ValueError, match="has no lines"):
        report.with_table("a page", "new")


@pytest.mark.parametrize(
    ("rows", "code", "last"),
    [
        ([row(), row()], 0, {"cases": 2, "duplicates": 0, "lost": 0, "wrong_outcome": 0}),
        ([row(), row(lost=1, problems=("lost",))], 1, {"cases": 2, "duplicates": 0, "lost": 1, "wrong_outcome": 1}),
        ([], 1, {"cases": 0, "duplicates": 0, "lost": 0, "wrong_outcome": 0}),
    ],
)
def test_the_last_line_is_json_and_the_code_says_whether_all_is_well(
    rows: list[Row], code: int, last: dict[str, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([each.as_json() for each in rows]))
    assert report.main([str(file)]) == code
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == last


def test_only_tries_whose_process_had_not_begun_count_as_spent_by_airflow() -> None:
    # "running" is what a process looks like that a test has killed.
    told = SPENT.format(state="queued") + SPENT.format(state="scheduled") + SPENT.format(state="running")
    assert tries_spent(told, "after_submit_kfp") == 2
    assert tries_spent(told, "submit_kfp") == 0
