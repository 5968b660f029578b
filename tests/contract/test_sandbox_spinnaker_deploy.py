"""What is deployed really runs: containers, traffic, canary, rollback, restarts, and nothing left behind."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.images import Pushed, base_root, push_model
from tests.support.processes import REPOSITORY, alive, descendants, wait_for
from tests.support.spinnaker import Spinnaker, image_artifact, stage, start_registry, statuses

CANARY = {"requests": [{"items": [1]}, {"items": [10, 20]}], "toleratedDifference": 0.3}


@pytest.fixture(scope="module")
def spinnaker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spinnaker]:
    """A stand-in with a pipeline `deploy` (canary, then deploy) and a pipeline `rollback` for several applications."""
    folder = tmp_path_factory.mktemp("deploy")
    with start_registry(folder) as registry:
        sandbox = Spinnaker(folder, registry)
        try:
            for name in ("shop", "broken", "canary", "kept", "killed"):
                sandbox.pipeline(name, "deploy", [stage("kayentaCanary", **CANARY), stage("deployManifest", "2", "1")])
                sandbox.pipeline(name, "rollback", [stage("undoRolloutManifest")])
            sandbox.start()
            yield sandbox
        finally:
            sandbox.close()


def deploy(spinnaker: Spinnaker, application: str, tag: str, **spec: Any) -> tuple[dict[str, Any], Pushed]:
    """Pushes a model and deploys it by digest; the finished execution and the image."""
    pushed = push_model(spinnaker.registry, f"ml/{application}", tag, **spec)
    artifact = image_artifact(spinnaker.registry, f"ml/{application}", pushed.digest)
    started = spinnaker.begin(application, "deploy", artifacts=[{**artifact, "version": tag}])
    return spinnaker.wait(started), pushed


@pytest.fixture(scope="module")
def shop(spinnaker: Spinnaker) -> Pushed:
    """The application `shop` with its first model, whose factor is 2."""
    execution, pushed = deploy(spinnaker, "shop", "v1", factor=2.0)
    assert execution["status"] == "SUCCEEDED", execution
    return pushed


def test_a_deployed_image_answers_through_the_proxy(spinnaker: Spinnaker, shop: Pushed) -> None:
    assert spinnaker.predict("shop", 1, 2) == [2, 4]
    production = spinnaker.production("shop")
    assert production is not None
    assert (production["digest"], production["tag"], production["former"]) == (shop.digest, "v1", None)


def test_the_deploy_stage_shows_what_it_bound(spinnaker: Spinnaker, shop: Pushed) -> None:
    execution = spinnaker.execution(spinnaker.production("shop")["execution_id"])  # type: ignore[index]
    bound = execution["stages"][1]["outputs"]["outputs.boundArtifacts"]
    assert bound == execution["stages"][1]["context"]["outputs.boundArtifacts"]
    assert bound[0]["reference"] == f"{spinnaker.registry}/ml/shop@{shop.digest}"
    assert "nothing to compare with" in execution["stages"][0]["context"]["canaryScoreMessage"]


def test_a_server_sees_the_image_and_nothing_of_the_machine(spinnaker: Spinnaker, shop: Pushed) -> None:
    world = spinnaker.serving.get("/shop/world").json()
    assert set(world["environment"]) == {"PATH", "HOME", "PORT", "GREETING"}
    assert world["environment"]["GREETING"] == "a=b"
    assert world["directory"] == "/app"
    assert world["pids"] == [1, 2]

    def look(path: str) -> Any:
        answer = spinnaker.serving.get("/shop/look", params={"path": path})
        return answer.json() if answer.status_code == 200 else None

    assert look("/") == sorted(os.listdir(base_root()))
    assert look("/app") == ["serve.py", "spec.json"]
    for path in (REPOSITORY, sys.executable, os.path.realpath(sys.executable), __file__, "/proc/1/root", "/proc/1/exe",
                 "/proc/1/environ", "/../../../../.." + str(REPOSITORY)):  # fmt: skip
        assert look(str(path)) is None, path


def test_a_server_cannot_change_the_files_that_others_share(spinnaker: Spinnaker, shop: Pushed) -> None:
    for path in ("/app/spec.json", "/etc/passwd", "/new", "/proc/sys/vm/swappiness"):
        answer = spinnaker.serving.post("/shop/write", json={"path": path})
        assert answer.status_code == 403, path
        assert answer.json()["error"] == "Read-only file system"
    for path in ("/tmp/mine", "/dev/null", "/dev/shm/mine"):
        assert spinnaker.serving.post("/shop/write", json={"path": path}).status_code == 200, path


def test_the_proxy_says_what_is_the_matter(spinnaker: Spinnaker) -> None:
    assert spinnaker.serving.get("/nobody/health").status_code == 404
    deploy(spinnaker, "killed", "v1")
    assert spinnaker.serving.get("/killed/health").status_code == 200
    assert spinnaker.serving.get("/killed/die").status_code == 502
    assert "does not answer" in spinnaker.serving.get("/killed/health").json()["error"]


def test_an_image_that_does_not_start_leaves_the_former_one_serving(spinnaker: Spinnaker) -> None:
    spinnaker.pipeline("broken", "at-once", [stage("deployManifest")])
    deploy(spinnaker, "broken", "good", factor=5.0)
    push_model(spinnaker.registry, "ml/broken", "bad", exit=True)
    artifact = image_artifact(spinnaker.registry, "ml/broken", "bad")
    failed = spinnaker.wait(spinnaker.begin("broken", "at-once", artifacts=[artifact]))
    assert failed["status"] == "TERMINAL"
    assert "no model here" in failed["stages"][0]["context"]["exception"]["details"]["error"]
    assert spinnaker.predict("broken", 1) == [5]
    assert spinnaker.production("broken")["tag"] == "good"  # type: ignore[index]
    stages = spinnaker.http.get("/executions/failedStages", params={"executionId": failed["id"]}).json()
    assert stages[0]["stageName"] == "deployManifest"
    assert "no model here" in stages[0]["stageException"]


@pytest.mark.parametrize(
    ("artifacts", "message"),
    [
        ([], "brought no image"),
        ([("ml/broken", "sha256:" + "0" * 64)], "answered 404"),
        ([("ml/broken", "no-such-tag")], "answered 404"),
    ],
)
def test_what_cannot_be_deployed_fails_with_one_sentence(
    spinnaker: Spinnaker, artifacts: list[tuple[str, str]], message: str
) -> None:
    spinnaker.pipeline("broken", "at-once", [stage("deployManifest")])
    given = [image_artifact(spinnaker.registry, *each) for each in artifacts]
    failed = spinnaker.wait(spinnaker.begin("broken", "at-once", artifacts=given))
    assert failed["status"] == "TERMINAL"
    assert message in failed["stages"][0]["context"]["exception"]["details"]["error"]


def test_a_canary_lets_like_pass_and_stops_unlike(spinnaker: Spinnaker) -> None:
    deploy(spinnaker, "canary", "v1", factor=10.0)
    passed, _ = deploy(spinnaker, "canary", "v2", factor=11.0)
    assert passed["status"] == "SUCCEEDED"
    assert passed["stages"][0]["context"]["canaryScores"] == [100.0]
    assert spinnaker.predict("canary", 1) == [11]
    stopped, _ = deploy(spinnaker, "canary", "v3", factor=30.0)
    assert stopped["status"] == "TERMINAL"
    assert statuses(stopped) == {"kayentaCanary": "TERMINAL", "deployManifest": "NOT_STARTED"}
    message = "Final canary score 0.0 is not above the marginal score threshold."
    assert stopped["stages"][0]["context"]["canaryScoreMessage"] == message
    assert spinnaker.predict("canary", 1) == [11]
    assert spinnaker.service is not None
    # Two processes of setpriv/unshare and of the image per server: the canary that was compared is gone.
    before = len(descendants(spinnaker.service.pid))
    deploy(spinnaker, "canary", "v4", factor=31.0)
    assert len(descendants(spinnaker.service.pid)) == before


def test_a_rollback_brings_the_former_model_back_and_forth(spinnaker: Spinnaker, shop: Pushed) -> None:
    newer, _ = deploy(spinnaker, "shop", "v2", factor=2.5)
    assert newer["status"] == "SUCCEEDED"
    assert spinnaker.predict("shop", 2) == [5]
    assert spinnaker.wait(spinnaker.begin("shop", "rollback"))["status"] == "SUCCEEDED"
    assert spinnaker.predict("shop", 2) == [4]
    assert spinnaker.production("shop")["digest"] == shop.digest  # type: ignore[index]
    assert spinnaker.wait(spinnaker.begin("shop", "rollback"))["status"] == "SUCCEEDED"
    assert spinnaker.predict("shop", 2) == [5]


def test_without_a_former_version_a_rollback_fails(spinnaker: Spinnaker) -> None:
    failed = spinnaker.wait(spinnaker.begin("kept", "rollback"))
    assert failed["status"] == "TERMINAL"
    assert "no former version" in failed["stages"][0]["context"]["exception"]["details"]["error"]


def test_a_restart_keeps_servers_and_history_and_goes_on_with_what_ran(spinnaker: Spinnaker) -> None:
    execution, _ = deploy(spinnaker, "kept", "v1", factor=7.0)
    spinnaker.pipeline("kept", "judged", [stage("manualJudgment"), stage("wait", "2", "1", waitTime=0)])
    waiting = spinnaker.begin("kept", "judged")
    spinnaker.wait(waiting, "RUNNING")
    spinnaker.stop()
    with pytest.raises(Exception, match="refused"):
        spinnaker.predict("kept", 1)
    spinnaker.start()
    assert spinnaker.predict("kept", 1) == [7]
    assert spinnaker.execution(execution["id"]) == execution
    judgment = spinnaker.wait(waiting, "RUNNING")["stages"][0]
    spinnaker.http.patch(f"/pipelines/{waiting}/stages/{judgment['id']}", json={"judgmentStatus": "continue"})
    assert spinnaker.wait(waiting)["status"] == "SUCCEEDED"


def test_nothing_outlives_the_stand_in_even_when_it_is_killed(spinnaker: Spinnaker) -> None:
    deploy(spinnaker, "kept", "v2", factor=7.0)
    assert spinnaker.service is not None
    family = descendants(spinnaker.service.pid)
    assert len(family) > 3
    os.kill(spinnaker.service.pid, signal.SIGKILL)
    try:
        wait_for(lambda: not any(alive(process) for process in family), "every server to end", 10)
    finally:
        for process in filter(alive, family):
            os.kill(process.pid, signal.SIGKILL)
    spinnaker.stop()
    spinnaker.start()
    assert spinnaker.predict("kept", 1) == [7]


def test_where_namespaces_are_off_it_says_so(spinnaker: Spinnaker, tmp_path: Path) -> None:
    """With an `unshare` first on the PATH that is refused as the kernel refuses it."""
    fake = tmp_path / "unshare"
    fake.write_text("#!/bin/sh\necho 'unshare: unshare failed: Operation not permitted' >&2\nexit 1\n")
    fake.chmod(0o755)
    other = Spinnaker(tmp_path / "other", spinnaker.registry, environment={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    other.pipeline("shop", "deploy", [stage("deployManifest")])
    try:
        other.start()
        artifact = image_artifact(spinnaker.registry, "ml/shop", "v1")
        failed = other.wait(other.begin("shop", "deploy", artifacts=[artifact]))
    finally:
        other.close()
    error = failed["stages"][0]["context"]["exception"]["details"]["error"]
    assert error.startswith("user namespaces are off on this machine")
