"""Gate's API as clients meet it, defects included, and mlfleet's own client against it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from mlfleet.clients.http import HttpClient
from mlfleet.clients.retry import RetryPolicy
from mlfleet.clients.spinnaker import SpinnakerClient
from mlfleet.clients.spinnaker_images import Image
from mlfleet.errors import AuthError, NotFound, TransientError
from tests.support.processes import SERVICES_PYTHON, wait_for
from tests.support.spinnaker import Spinnaker, image_artifact, stage, start_registry, statuses

T = TypeVar("T")
APP = "shop"
JUDGED = [stage("manualJudgment", failPipeline=True), stage("wait", "2", "1", waitTime=0)]


@pytest.fixture(scope="module")
def spinnaker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spinnaker]:
    """A stand-in whose pipelines only wait; `many` may run side by side."""
    folder = tmp_path_factory.mktemp("gate")
    with start_registry(folder) as registry:
        sandbox = Spinnaker(folder, registry)
        try:
            sandbox.pipeline(APP, "quick", [stage("wait", waitTime=0)], limitConcurrent=False)
            sandbox.pipeline(APP, "slow", [stage("wait", waitTime=30), stage("wait", "2", "1")], limitConcurrent=False)
            sandbox.pipeline(APP, "judged", JUDGED, limitConcurrent=False)
            sandbox.start()
            yield sandbox
        finally:
            sandbox.close()


def judge(spinnaker: Spinnaker, execution_id: str, **body: Any) -> dict[str, Any]:
    waiting = spinnaker.wait(execution_id, "RUNNING")
    path = f"/pipelines/{execution_id}/stages/{waiting['stages'][0]['id']}"
    return dict(spinnaker.http.patch(path, json=body).raise_for_status().json())


# Judgments


def test_a_judgment_lets_the_pipeline_go_on(spinnaker: Spinnaker) -> None:
    execution = spinnaker.begin(APP, "judged")
    answered = judge(spinnaker, execution, judgmentStatus="continue", judgmentInput="ship")
    assert answered["stages"][0]["lastModified"]["user"] == "sandbox"
    ended = spinnaker.wait(execution)
    assert ended["status"] == "SUCCEEDED"
    assert ended["stages"][0]["context"]["judgmentInput"] == "ship"


@pytest.mark.parametrize(
    ("settings", "status", "stages"),
    [
        ({"failPipeline": True}, "TERMINAL", {"manualJudgment": "TERMINAL", "wait": "NOT_STARTED"}),
        ({"failPipeline": False}, "SUCCEEDED", {"manualJudgment": "STOPPED", "wait": "NOT_STARTED"}),
        ({"continuePipeline": True}, "SUCCEEDED", {"manualJudgment": "FAILED_CONTINUE", "wait": "SUCCEEDED"}),
        (
            {"failPipeline": False, "completeOtherBranchesThenFail": True},
            "TERMINAL",
            {"manualJudgment": "STOPPED", "wait": "NOT_STARTED"},
        ),
    ],
)
def test_a_stopped_judgment_ends_as_the_stage_is_configured(
    spinnaker: Spinnaker, settings: dict[str, bool], status: str, stages: dict[str, str]
) -> None:
    spinnaker.pipeline(APP, "stopped", [stage("manualJudgment", **settings), stage("wait", "2", "1", waitTime=0)])
    execution = spinnaker.begin(APP, "stopped")
    judge(spinnaker, execution, judgmentStatus="stop")
    ended = spinnaker.wait(execution)
    assert (ended["status"], statuses(ended)) == (status, stages)


def test_a_judgment_without_the_role_is_answered_200_and_taken_back(spinnaker: Spinnaker) -> None:
    execution = spinnaker.begin(APP, "judged")
    spinnaker.switch(judgment_role_denied=True)
    assert (
        judge(spinnaker, execution, judgmentStatus="continue")["stages"][0]["context"]["judgmentStatus"] == "continue"
    )
    wait_for(lambda: spinnaker.execution(execution)["stages"][0]["context"]["judgmentStatus"] == "", "the reset")
    assert statuses(spinnaker.execution(execution))["manualJudgment"] == "RUNNING"
    spinnaker.switch(judgment_role_denied=False)
    judge(spinnaker, execution, judgmentStatus="continue")
    assert spinnaker.wait(execution)["status"] == "SUCCEEDED"


def test_a_stage_cannot_be_skipped_by_hand(spinnaker: Spinnaker) -> None:
    execution = spinnaker.begin(APP, "judged")
    path = f"/pipelines/{execution}/stages/{spinnaker.execution(execution)['stages'][0]['id']}"
    assert spinnaker.http.patch(path, json={"manualSkip": True}).status_code == 405
    assert spinnaker.http.patch(f"/pipelines/{execution}/stages/no-such", json={}).status_code == 404
    judge(spinnaker, execution, judgmentStatus="stop")


# Running


def test_branches_run_side_by_side_and_a_terminal_one_ends_the_others(spinnaker: Spinnaker) -> None:
    stages = [stage("wait", "1", waitTime=0), stage("no-such-stage", "2", "1"), stage("manualJudgment", "3")]
    spinnaker.pipeline(APP, "branches", stages)
    ended = spinnaker.wait(spinnaker.begin(APP, "branches"))
    assert ended["status"] == "TERMINAL"
    assert statuses(ended) == {"wait": "SUCCEEDED", "no-such-stage": "TERMINAL", "manualJudgment": "CANCELED"}
    assert "no stage of type no-such-stage" in ended["stages"][1]["context"]["exception"]["details"]["error"]


def test_cancelling_is_asked_for_and_follows(spinnaker: Spinnaker) -> None:
    execution = spinnaker.begin(APP, "slow")
    spinnaker.wait(execution, "RUNNING")
    assert spinnaker.http.delete(f"/pipelines/{execution}").status_code == 409
    answer = spinnaker.http.put(f"/pipelines/{execution}/cancel", params={"reason": "airflow task killed"})
    assert (answer.status_code, answer.content) == (200, b"")
    ended = spinnaker.wait(execution)
    assert (ended["status"], ended["canceled"], ended["canceledBy"]) == ("CANCELED", True, "sandbox")
    assert ended["cancellationReason"] == "airflow task killed"
    assert [each["status"] for each in ended["stages"]] == ["CANCELED", "NOT_STARTED"]
    assert spinnaker.http.delete(f"/pipelines/{execution}").status_code == 200
    assert spinnaker.http.get(f"/pipelines/{execution}").status_code == 404


def test_a_finished_execution_runs_again_when_a_stage_is_restarted(spinnaker: Spinnaker) -> None:
    execution = spinnaker.begin(APP, "judged")
    judge(spinnaker, execution, judgmentStatus="stop")
    ended = spinnaker.wait(execution)
    path = f"/pipelines/{execution}/stages/{ended['stages'][0]['id']}/restart"
    again = spinnaker.http.put(path, json={}).json()
    assert again["status"] == "RUNNING"
    assert "judgmentStatus" not in again["stages"][0]["context"]  # it is asked again
    assert again["stages"][0]["context"]["restartDetails"]["restartedBy"] == "sandbox"
    judge(spinnaker, execution, judgmentStatus="continue")
    assert spinnaker.wait(execution)["status"] == "SUCCEEDED"


# Starting by hand


def test_an_execution_of_v2_is_unknown_first_and_appears(spinnaker: Spinnaker) -> None:
    answer = spinnaker.http.post(f"/pipelines/v2/{APP}/quick", json={"parameters": {"a": 1}})
    assert answer.status_code == 202
    address = answer.json()["ref"]
    missing = spinnaker.http.get(address)
    assert missing.status_code == 404
    assert missing.json()["message"] == f"Pipeline not found (id: {address.rpartition('/')[2]})"
    assert set(missing.json()) == {"timestamp", "status", "error", "message"}
    found = wait_for(lambda: (get := spinnaker.http.get(address)).status_code == 200 and get.json(), "it to appear")
    assert found["trigger"]["eventId"] == answer.json()["eventId"]
    assert found["trigger"]["parameters"] == {"a": 1}
    assert spinnaker.search(APP, eventId=answer.json()["eventId"])[0]["id"] == found["id"]


def test_v2_promises_executions_that_never_come(spinnaker: Spinnaker) -> None:
    spinnaker.pipeline(APP, "asleep", [stage("wait")], disabled=True)
    answers = [spinnaker.http.post(f"/pipelines/v2/{APP}/{name}", json={}) for name in ("asleep", "no-such", "quick")]
    assert [answer.status_code for answer in answers] == [202, 202, 202]
    wait_for(lambda: spinnaker.http.get(answers[2].json()["ref"]).status_code == 200, "the last of them")
    assert [spinnaker.http.get(answer.json()["ref"]).status_code for answer in answers[:2]] == [404, 404]
    assert spinnaker.http.post(f"/pipelines/{APP}/asleep", json={}).status_code == 400
    assert spinnaker.http.post(f"/pipelines/{APP}/no-such", json={}).status_code == 404


def test_the_same_correlation_id_gives_the_same_execution(spinnaker: Spinnaker) -> None:
    first = spinnaker.begin(APP, "slow", correlationId="airflow:1")
    assert spinnaker.begin(APP, "quick", correlationId="airflow:1") == first
    assert spinnaker.begin(APP, "quick", correlationId="airflow:2") != first
    spinnaker.http.put(f"/pipelines/{first}/cancel")
    spinnaker.wait(first)
    assert spinnaker.begin(APP, "quick", correlationId="airflow:1") != first  # one that has ended counts as not found


# Searching and reading


def test_search_pages_are_broken_as_in_orca(spinnaker: Spinnaker) -> None:
    spinnaker.pipeline(APP, "many", [stage("wait", waitTime=0)], limitConcurrent=False)
    for number in range(50):
        spinnaker.begin(APP, "many", tag=f"v{number}", repository="ml/shop")
    counts = [len(spinnaker.search(APP, pipelineName="many", size=10, startIndex=start)) for start in (0, 10, 20, 30)]
    assert counts == [10, 10, 0, 0]
    assert [each["trigger"]["tag"] for each in spinnaker.search(APP, "v7")] == ["v7"]
    assert spinnaker.search(APP, pipelineName="no-such") == []
    newest, oldest = (spinnaker.search(APP, pipelineName="many", size=1, reverse=each)[0] for each in (False, True))
    assert (newest["trigger"]["tag"], oldest["trigger"]["tag"]) == ("v49", "v0")
    window = {"triggerTimeStartBoundary": oldest["buildTime"], "triggerTimeEndBoundary": oldest["buildTime"]}
    assert oldest["id"] in {each["id"] for each in spinnaker.search(APP, **window)}
    assert len(spinnaker.search(APP, pipelineName="many", triggerTypes="docker")) == 0
    assert newest["stages"][0]["context"] == {}


@pytest.mark.parametrize(
    ("params", "status"),
    [({"trigger": "%%%"}, 500), ({"size": 0}, 400), ({"size": "many"}, 400), ({"triggerTimeStartBoundary": -1}, 400)],
)
def test_a_wrong_search_is_refused(spinnaker: Spinnaker, params: dict[str, Any], status: int) -> None:
    answer = spinnaker.http.get(f"/applications/{APP}/executions/search", params=params)
    assert (answer.status_code, answer.json()["status"]) == (status, status)


def test_executions_in_a_batch_leave_unknown_ones_out(spinnaker: Spinnaker) -> None:
    ids = [spinnaker.begin(APP, "quick") for _ in range(2)]
    params = {"executionIds": ",".join([*ids, "no-such"]), "expand": False}
    found = spinnaker.http.get("/executions", params=params).json()
    assert [each["id"] for each in found] == ids
    assert spinnaker.http.get("/executions").json() == []
    assert len(spinnaker.http.get("/executions", params={"pipelineConfigIds": f"{APP}-quick-id"}).json()) == 1
    both = spinnaker.http.get("/executions", params={"executionIds": ids[0], "pipelineConfigIds": "x"})
    assert both.status_code == 400
    history = spinnaker.http.get(f"/applications/{APP}/pipelines", params={"limit": 2, "statuses": "SUCCEEDED"}).json()
    assert {each["status"] for each in history} == {"SUCCEEDED"}
    assert all(sum(each["name"] == name for each in history) <= 2 for name in ("quick", "many"))


def test_configurations_are_read_anew_and_a_broken_file_harms_nobody(spinnaker: Spinnaker) -> None:
    broken = spinnaker.pipelines / "broken.json"
    broken.write_text("{")
    names = {each["name"] for each in spinnaker.http.get(f"/applications/{APP}/pipelineConfigs").json()}
    broken.unlink()
    assert {"quick", "judged"} <= names
    assert spinnaker.http.get(f"/applications/{APP}/pipelineConfigs/quick").json()["id"] == f"{APP}-quick-id"
    assert spinnaker.http.get(f"/applications/{APP}/pipelineConfigs/no-such").status_code == 404
    assert [each["name"] for each in spinnaker.http.get("/applications").json()] == [APP]
    assert spinnaker.http.get(f"/applications/{APP}").json()["name"] == APP
    assert spinnaker.http.get("/applications/no-such").status_code == 404


def test_an_unknown_address_and_an_unknown_switch(spinnaker: Spinnaker) -> None:
    assert spinnaker.http.get("/no/such/page").json()["error"] == "Not Found"
    assert spinnaker.http.post("/sandbox/switches", json={"no_such": 1}).status_code == 400


def test_what_a_person_names_oddly_is_still_found_by_its_id(spinnaker: Spinnaker) -> None:
    spinnaker.pipeline(APP, "with space", [stage("wait", waitTime=0)])
    assert spinnaker.wait(spinnaker.begin(APP, f"{APP}-with space-id"))["name"] == "with space"


def test_the_page_shows_executions_with_their_stages(spinnaker: Spinnaker) -> None:
    name = "<b>&odd"
    spinnaker.pipeline(APP, name, [stage("wait", waitTime=0)])
    config = next(
        each for each in spinnaker.http.get(f"/applications/{APP}/pipelineConfigs").json() if each["name"] == name
    )
    execution = spinnaker.begin(APP, config["id"])
    spinnaker.wait(execution)
    page = spinnaker.http.get("/").text
    assert f'<tr id="{execution}">' in page
    assert "&lt;b&gt;&amp;odd" in page
    assert name not in page
    waiting = spinnaker.begin(APP, "judged")
    spinnaker.wait(waiting, "RUNNING")
    assert "waits for: manualJudgment" in spinnaker.http.get("/").text
    judge(spinnaker, waiting, judgmentStatus="stop")


# mlfleet's client


def with_client(spinnaker: Spinnaker, use: Callable[[SpinnakerClient], Awaitable[T]]) -> T:
    async def run() -> T:
        async with HttpClient(str(spinnaker.http.base_url), system="spinnaker", retry=RetryPolicy.once()) as http:
            return await use(SpinnakerClient(http))

    return asyncio.run(run())


def test_the_client_reads_and_finds_its_execution_among_many(spinnaker: Spinnaker) -> None:
    since = int(time.time() * 1000) - 1000
    tags = ("release-a.b", "release-axb", "RELEASE-A.B")
    artifacts = [image_artifact(spinnaker.registry, "ml/shop", tag) for tag in tags]
    execution, *_ = [spinnaker.begin(APP, "quick", artifacts=[artifact]) for artifact in artifacts]

    async def use(client: SpinnakerClient) -> list[dict[str, Any]]:
        assert (await client.health())["status"] == "UP"
        assert await client.version() == "2026.2.3"
        assert await client.user() == "sandbox"
        assert (await client.get_execution(execution))["id"] == execution
        assert list(await client.executions([execution, "no-such"])) == [execution]
        return await client.search(APP, [Image("ml/shop", "release-a.b")], since_ms=since, pipeline="quick")

    assert [each["id"] for each in with_client(spinnaker, use)] == [execution]


def test_the_client_names_what_gate_hides(spinnaker: Spinnaker) -> None:
    execution = spinnaker.begin(APP, "quick")

    async def read(client: SpinnakerClient) -> dict[str, Any]:
        return await client.get_execution(execution)

    spinnaker.switch(empty_200=1)
    raw = spinnaker.http.get(f"/pipelines/{execution}")
    assert (raw.status_code, raw.content) == (200, b"")
    spinnaker.switch(empty_200=1)
    with pytest.raises(TransientError):
        with_client(spinnaker, read)
    spinnaker.switch(unavailable=1)
    with pytest.raises(TransientError):
        with_client(spinnaker, read)
    spinnaker.switch(redirect_login=True)
    raw = spinnaker.http.get(f"/pipelines/{execution}")
    assert (raw.status_code, raw.headers["location"]) == (302, "/login")
    assert "<form" in spinnaker.http.get("/login").text
    assert spinnaker.http.get("/health").status_code == 200
    with pytest.raises(AuthError):
        with_client(spinnaker, read)
    spinnaker.switch(redirect_login=False)
    assert with_client(spinnaker, read)["id"] == execution
    with pytest.raises(NotFound):
        with_client(spinnaker, lambda client: client.get_execution("no-such"))


def test_the_client_starts_judges_and_explains(spinnaker: Spinnaker) -> None:
    started = with_client(spinnaker, lambda client: client.start_manual(APP, "judged", correlation_id="airflow:3"))
    wait_for(lambda: spinnaker.http.get(f"/pipelines/{started.execution_id}").status_code == 200, "it to appear")
    waiting = spinnaker.wait(started.execution_id, "RUNNING")["stages"][0]
    with_client(spinnaker, lambda client: client.judge(started.execution_id, waiting["id"], "stop"))
    assert spinnaker.wait(started.execution_id)["status"] == "TERMINAL"
    failed = with_client(spinnaker, lambda client: client.failed_stages(started.execution_id))
    assert [(each.name, each.status) for each in failed] == [("manualJudgment", "TERMINAL")]
    assert failed[0].url is not None
    assert failed[0].url.startswith(f"{spinnaker.http.base_url}".rstrip("/") + f"/#/applications/{APP}/executions/")


# The program


def test_a_taken_port_is_one_sentence(spinnaker: Spinnaker, tmp_path: Path) -> None:
    command = [
        SERVICES_PYTHON, "-m", "sandbox.spinnaker", "--port", str(spinnaker.port), "--state", tmp_path / "state",
        "--registry", spinnaker.registry, "--pipelines", spinnaker.pipelines, "--serving-port", "1",
    ]  # fmt: skip
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 1
    said = f"spinnaker: port {spinnaker.port} is in use; set MLFLEET_SPINNAKER_PORT to another one\n"
    assert ran.stderr == said
    assert not (tmp_path / "state").exists()


def test_it_ends_in_order_on_sigterm_in_the_midst_of_work(tmp_path: Path, spinnaker: Spinnaker) -> None:
    other = Spinnaker(tmp_path, spinnaker.registry)
    other.pipeline(APP, "slow", [stage("wait", waitTime=30)])
    other.start()
    assert other.service is not None
    try:
        other.wait(other.begin(APP, "slow"), "RUNNING")
        with httpx.Client(base_url=other.http.base_url, trust_env=False) as idle:
            idle.get("/health")
            other.service.process.send_signal(signal.SIGTERM)
            assert other.service.process.wait(15) == 0
        assert "Traceback" not in other.service.log_tail(200)
    finally:
        other.close()
