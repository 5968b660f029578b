from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sandbox.spinnaker.model import Store, final_status, new_execution, pending_judgments, ulid, without_details
from sandbox.spinnaker.stages import failure_status


def execution(*statuses: str, **context: Any) -> dict[str, Any]:
    stages = [{"refId": str(number), "type": "manualJudgment", **context} for number in range(len(statuses))]
    made = new_execution({"application": "shop", "name": "deploy", "id": "1", "stages": stages}, {"type": "manual"})
    for stage, status in zip(made["stages"], statuses, strict=True):
        stage["status"] = status
    return made


@pytest.mark.parametrize(
    ("statuses", "context", "final"),
    [
        (["SUCCEEDED", "SKIPPED", "FAILED_CONTINUE"], {}, "SUCCEEDED"),
        (["SUCCEEDED", "TERMINAL", "CANCELED"], {}, "TERMINAL"),
        (["SUCCEEDED", "CANCELED"], {}, "CANCELED"),
        (["STOPPED", "NOT_STARTED"], {}, "SUCCEEDED"),
        (["STOPPED", "NOT_STARTED"], {"completeOtherBranchesThenFail": True}, "TERMINAL"),
        ([], {}, "SUCCEEDED"),
    ],
)
def test_the_final_status_is_computed_from_the_stages(statuses: list[str], context: dict[str, Any], final: str) -> None:
    assert final_status(execution(*statuses, **context)) == final


def test_stages_of_stages_do_not_count() -> None:
    made = execution("SUCCEEDED", "TERMINAL")
    made["stages"][1]["parentStageId"] = made["stages"][0]["id"]
    assert final_status(made) == "SUCCEEDED"


@pytest.mark.parametrize(
    ("context", "status"),
    [
        ({}, "TERMINAL"),
        ({"failPipeline": None}, "TERMINAL"),
        ({"failPipeline": False}, "STOPPED"),
        ({"failPipeline": False, "continuePipeline": True}, "FAILED_CONTINUE"),
    ],
)
def test_what_a_failed_stage_becomes(context: dict[str, Any], status: str) -> None:
    assert failure_status({"context": context}) == status


def test_judgments_wait_only_while_the_execution_runs() -> None:
    made = execution("RUNNING", "NOT_STARTED")
    made["status"] = "RUNNING"
    assert pending_judgments(made) == ["manualJudgment"]
    made["status"] = "CANCELED"
    assert pending_judgments(made) == []


def test_without_details_the_original_keeps_its_details() -> None:
    made = execution("RUNNING", instructions="look")
    assert without_details(made)["stages"][0]["context"] == {}
    assert made["stages"][0]["context"] == {"instructions": "look"}


def test_ids_have_26_letters_and_sort_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = []
    for moment in (1, 1000, 1795466741000):
        monkeypatch.setattr("sandbox.spinnaker.model.now_ms", lambda moment=moment: moment)
        ids.append(ulid())
    assert ids == sorted(ids)
    assert {len(each) for each in ids} == {26}


def test_a_store_remembers(tmp_path: Path) -> None:
    file, made = tmp_path / "a" / "store.db", execution("RUNNING")
    store = Store(file)
    store.save(made)
    store.put("x", [1])
    store.close()
    again = Store(file)
    assert again.executions == {made["id"]: made}
    assert (again.get("x", None), again.get("y", 7)) == ([1], 7)
    again.delete(made["id"])
    assert again.newest_first() == []
    again.close()
    assert file.stat().st_mode & 0o777 == 0o600
