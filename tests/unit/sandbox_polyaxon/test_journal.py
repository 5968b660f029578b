from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from sandbox.polyaxon.agent.journal import Journal, Run, Status
from sandbox.polyaxon.agent.logs import MAX_LINE, LogFile
from sandbox.polyaxon.agent.proc import ProcessId, identify

RUN = Run("default", "team.project", "b" * 32, "name", "job", "{}")
RUNNING = Status("running", "r", "m", {"attempt": 1})
FAILED = Status("failed", "r", "m")


def test_a_run_is_remembered_with_what_was_delivered(tmp_path: Path) -> None:
    folder = Journal(tmp_path / "runs").folder(RUN.uuid)
    folder.create(RUN)
    folder.append(RUNNING)
    folder.append(FAILED)
    folder.mark_delivered()
    again = Journal(tmp_path / "runs")
    assert RUN.uuid in again
    [found] = again
    assert found.run() == RUN
    assert found.undelivered() == [FAILED]
    assert RUN.instance == f"default.team.project.runs.{RUN.uuid}"


def test_nothing_follows_a_terminal_status(tmp_path: Path) -> None:
    folder = Journal(tmp_path).folder(RUN.uuid)
    folder.create(RUN)
    folder.append(FAILED)
    folder.append(Status("succeeded", "late", ""))
    assert folder.statuses() == [FAILED]


def test_half_a_line_is_no_status(tmp_path: Path) -> None:
    folder = Journal(tmp_path).folder(RUN.uuid)
    folder.create(RUN)
    folder.append(RUNNING)
    with (folder.path / "statuses.jsonl").open("a") as file:
        file.write('{"type": "succ')
    assert folder.statuses() == [RUNNING]
    assert not folder.ended()


def test_the_first_intent_stands(tmp_path: Path) -> None:
    folder = Journal(tmp_path).folder(RUN.uuid)
    folder.create(RUN)
    assert folder.intent_age() == 0
    folder.write_intent(Status("stopped", "first", ""))
    folder.write_intent(Status("failed", "second", ""))
    assert folder.intent() == Status("stopped", "first", "")


def test_there_is_one_runner(tmp_path: Path) -> None:
    folder = Journal(tmp_path).folder(RUN.uuid)
    folder.create(RUN)
    assert folder.claim_runner()
    assert not folder.claim_runner()
    assert folder.runner() == identify(os.getpid())


def test_a_reused_pid_is_another_process() -> None:
    me = identify(os.getpid())
    assert me is not None
    assert me.alive
    assert not ProcessId(me.pid, me.start + 1).alive


def values(path: Path) -> list[str]:
    return [json.loads(line)["value"] for line in path.read_text().splitlines()]


@given(st.lists(st.binary(max_size=30)))
def test_a_log_has_the_same_lines_however_they_arrive(pieces: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        whole, cut = Path(folder) / "whole.jsonl", Path(folder) / "cut.jsonl"
        for path, parts in ((whole, [b"".join(pieces)]), (cut, pieces)):
            log = LogFile(path, "pod", "main")
            for part in parts:
                log.write(part)
            log.close()
        assert values(whole) == values(cut)


def test_progress_bars_long_lines_and_foreign_bytes(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log.jsonl", "pod", "main")
    log.start_attempt(1, "attempt 1")
    log.write(b"10%\r50%\r100%\ncaf\xe9\nwindows\r\n" + b"x" * (MAX_LINE + 5) + b"\nno end")
    assert log.last == "xxxxx"
    log.close()
    assert values(tmp_path / "log.jsonl") == ["attempt 1", "100%", "caf�", "windows", "x" * MAX_LINE, "xxxxx", "no end"]
    first = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])
    assert first["pod"] == "pod-1"
    assert first["container"] == "polyaxon-agent"
