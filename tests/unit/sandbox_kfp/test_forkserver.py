"""A fork server that children are asked of, whatever happens to it or to them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.kfp.forkserver import Child, ForkServer, ForkServerError
from tests.support.processes import ProcessId, alive, command_line, descendants, wait_for

MARK = {"MLFLEET_TEST_MARK": "forkserver"}


@pytest.fixture
def server() -> Iterator[ForkServer]:
    server = ForkServer("tests.support.forked", MARK)
    yield server
    server.close()


def answer(child: Child) -> Any:
    wait_for(lambda: child.answered(0.2), "an answer", 20)
    try:
        return child.answer()
    finally:
        child.end()


def test_each_child_is_a_process_of_its_own_with_the_marks(server: ForkServer) -> None:
    children = [server.start(None) for _ in range(3)]
    answers = [answer(child) for child in children]
    assert len({pid for pid, _, _ in answers}) == 3
    assert all((session, mark) == (pid, "forkserver") for pid, session, mark in answers)
    assert os.getpid() not in {pid for pid, _, _ in answers}


def test_work_may_be_larger_than_a_pipe(server: ForkServer) -> None:
    assert answer(server.start("x" * 3_000_000)) == 3_000_000


def test_an_exception_comes_back_as_one_that_needs_no_import(server: ForkServer) -> None:
    with pytest.raises(RuntimeError, match=r"^KeyError: 'missing'$"):
        answer(server.start({}))


def test_a_child_that_dies_is_told_and_the_next_one_comes_from_the_same_server(server: ForkServer) -> None:
    with pytest.raises(ForkServerError, match=r"^process \d+, which ran it, was killed$"):
        answer(server.start(1))
    assert answer(server.start("next")) == 4


def test_a_server_that_dies_takes_its_children_with_it_and_is_started_again(server: ForkServer) -> None:
    child = server.start(60.0)
    assert not child.answered(1)
    family = wait_for(lambda: found if len(found := _servers()) == 2 else None, "the server and its child")
    (process,) = [each for each in family if len(descendants(each.pid)) == 2]
    os.kill(process.pid, signal.SIGKILL)
    told = f"the fork server that ran it, process {process.pid}, was killed by signal 9; the next task starts another"
    with pytest.raises(ForkServerError, match=f"^{told}"):
        answer(child)
    child.end()
    assert not any(alive(each) for each in family)
    assert answer(server.start("next")) == 4


def test_what_is_ended_before_it_was_asked_for_never_runs(server: ForkServer, tmp_path: Path) -> None:
    children = [server.start(tmp_path / str(number)) for number in range(2)]
    children[0].end()
    assert answer(children[1]) is True
    assert [each.name for each in tmp_path.iterdir()] == ["1"]
    wait_for(lambda: len(_servers()) == 1, "no child to be left")


def test_a_module_that_cannot_be_imported_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    server = ForkServer("tests.support.no_such_module", MARK)
    with pytest.raises(ForkServerError, match="ended with exit code 1; "):
        answer(server.start("x"))
    server.close()
    assert "No module named 'tests.support.no_such_module'" in capfd.readouterr().err


def test_nothing_starts_after_the_end(server: ForkServer) -> None:
    assert answer(server.start("x")) == 1
    server.close()
    assert not _servers()
    with pytest.raises(ForkServerError, match=r"^the fork server has been ended$"):
        server.start("x")


def _servers() -> list[ProcessId]:
    """The fork servers that this process started."""
    return [each for each in descendants(os.getpid()) if "sandbox.kfp.forking" in command_line(each.pid)]
