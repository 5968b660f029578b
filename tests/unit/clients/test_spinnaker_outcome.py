from __future__ import annotations

from typing import Any

import pytest

from mlfleet.clients.spinnaker_outcome import DeploymentOutcome, OutcomeKind, bound_references, deployment_outcome

REPO, TAG, DIGEST = "ml/churn", "release-k-1", "sha256:" + "c" * 64
OURS = f"registry.example.com/{REPO}:{TAG}"


def stage(ref: str, type_: str, status: str, after: list[str] | None = None, **extra: Any) -> dict[str, Any]:
    return {
        "id": f"S{ref}", "refId": ref, "type": type_, "name": f"{type_} {ref}", "status": status, "parentStageId": None,
        "requisiteStageRefIds": after or [], "context": {}, "outputs": {}, **extra,
    }  # fmt: skip


def deploy(ref: str = "3", status: str = "SUCCEEDED", reference: str | None = OURS, **extra: Any) -> dict[str, Any]:
    bound = [{"type": "docker/image", "reference": reference}] if reference else []
    return stage(ref, "deployManifest", status, outputs={"outputs.boundArtifacts": bound}, **extra)


def judgment(status: str, answer: str = "", ref: str = "2", **extra: Any) -> dict[str, Any]:
    return stage(ref, "manualJudgment", status, context={"judgmentStatus": answer, "instructions": "look"}, **extra)


def canary(status: str, ref: str = "1") -> dict[str, Any]:
    return stage(ref, "kayentaCanary", status, context={"canaryScoreMessage": "score 40 too low"})


def outcome(status: str, *stages: dict[str, Any], digest: str | None = DIGEST, **extra: Any) -> DeploymentOutcome:
    return deployment_outcome({"id": "E", "status": status, "stages": list(stages), **extra}, REPO, TAG, digest)


def test_deployed_is_succeeded_with_our_image_in_the_manifest():
    got = outcome("SUCCEEDED", canary("SUCCEEDED"), judgment("SUCCEEDED", "continue"), deploy())
    assert (got.kind, got.bound_reference, got.stage_id) == (OutcomeKind.DEPLOYED, OURS, "S3")
    assert got.is_final


@pytest.mark.parametrize(
    ("reference", "ours"),
    [
        (OURS, True),
        (f"{REPO}:{TAG}", True),
        (f"localhost:5000/{REPO}:{TAG}", True),
        (f"localhost:5000/{REPO}@{DIGEST}", True),
        (f"{OURS}@{DIGEST}", True),
        (f"{OURS}@sha256:{'0' * 64}", False),
        (f"localhost:5000/{REPO}@sha256:{'0' * 64}", False),
        (f"registry.example.com/{REPO}:other", False),
        (f"registry.example.com/{REPO}", False),
        (f"registry.example.com/other/{REPO}:{TAG}", True),  # a registry may keep it below a project
        (f"registry.example.com/x{REPO}:{TAG}", False),
        (f"registry.example.com/{REPO}-b:{TAG}", False),
    ],
)
def test_which_references_are_ours(reference, ours):
    got = outcome("SUCCEEDED", deploy(reference=reference))
    assert got.kind is (OutcomeKind.DEPLOYED if ours else OutcomeKind.SUCCEEDED_WITHOUT_DEPLOY)
    if not ours:
        assert f"bound {reference} instead" in got.reason


def test_without_a_digest_of_ours_the_tag_decides():
    assert outcome("SUCCEEDED", deploy(reference=f"{OURS}@{DIGEST}"), digest=None).kind is OutcomeKind.DEPLOYED
    by_digest_only = deploy(reference=f"registry.example.com/{REPO}@{DIGEST}")
    assert outcome("SUCCEEDED", by_digest_only, digest=None).kind is OutcomeKind.SUCCEEDED_WITHOUT_DEPLOY


def test_bound_artifacts_may_be_in_the_context():
    kept = stage(
        "1", "deployManifest", "SUCCEEDED", context={"outputs.boundArtifacts": [{"reference": OURS}, None, {}]}
    )
    assert bound_references(kept) == [OURS]
    assert outcome("SUCCEEDED", kept).kind is OutcomeKind.DEPLOYED


def test_the_trigger_s_digest_proves_and_disproves_nothing():
    trigger = {"digest": "sha256:" + "0" * 64, "repository": REPO, "tag": TAG}
    assert outcome("SUCCEEDED", deploy(), trigger=trigger).kind is OutcomeKind.DEPLOYED


def test_a_child_stage_is_no_proof():
    child = deploy(parentStageId="S1")
    got = outcome("SUCCEEDED", stage("1", "wait", "SUCCEEDED"), child)
    assert got.kind is OutcomeKind.SUCCEEDED_WITHOUT_DEPLOY
    assert "no deploy stage" in got.reason


@pytest.mark.parametrize(
    ("stages", "kind", "words"),
    [
        ([judgment("STOPPED", "stop"), deploy(status="NOT_STARTED", after=["2"])], "rejected", "answered with stop"),
        ([judgment("FAILED_CONTINUE", "stop"), deploy(status="SKIPPED")], "rejected", "answered with stop"),
        ([canary("STOPPED"), deploy(status="NOT_STARTED")], "canary_failed", "score 40 too low"),
        ([canary("FAILED_CONTINUE"), deploy(status="SKIPPED")], "canary_failed", "score 40 too low"),
        ([canary("FAILED_CONTINUE"), deploy()], "deployed", OURS),
        ([deploy(status="SKIPPED")], "succeeded_without_deploy", "did not run: deployManifest 3"),
        ([deploy(status="NOT_STARTED")], "succeeded_without_deploy", "did not run"),
        ([deploy(reference=None)], "succeeded_without_deploy", "does not show that it bound our image"),
        ([deploy(status="FAILED_CONTINUE")], "failed", "which the pipeline ignores"),
        ([deploy(status="STOPPED")], "failed", "which the pipeline ignores"),
        ([stage("1", "wait", "SUCCEEDED")], "succeeded_without_deploy", "no deploy stage"),
        ([], "succeeded_without_deploy", "no deploy stage"),
    ],
)
def test_succeeded_is_not_deployed(stages, kind, words):
    got = outcome("SUCCEEDED", *stages)
    assert got.kind == kind
    assert words in got.reason


def test_staging_is_not_production():
    staging, prod = deploy("1"), deploy("3", "NOT_STARTED", after=["2"])
    stopped = judgment("STOPPED", "stop", requisiteStageRefIds=["1"])
    got = outcome("SUCCEEDED", staging, stopped, {**prod, "requisiteStageRefIds": ["2"]})
    assert got.kind is OutcomeKind.REJECTED
    assert got.bound_reference == OURS


def test_all_last_deploys_must_be_ours_or_skipped():
    eu, us = deploy("1"), deploy("2")
    assert outcome("SUCCEEDED", eu, us).kind is OutcomeKind.DEPLOYED
    assert outcome("SUCCEEDED", eu, deploy("2", "SKIPPED")).kind is OutcomeKind.DEPLOYED
    assert outcome("SUCCEEDED", eu, deploy("2", "FAILED_CONTINUE")).kind is OutcomeKind.FAILED
    assert outcome("SUCCEEDED", eu, deploy("2", "NOT_STARTED")).kind is OutcomeKind.SUCCEEDED_WITHOUT_DEPLOY
    other = outcome("SUCCEEDED", eu, deploy("2", reference=f"{REPO}:old"))
    assert other.kind is OutcomeKind.SUCCEEDED_WITHOUT_DEPLOY


def test_a_rollback_after_the_deployment_takes_it_back():
    undo = stage("4", "rollback", "SUCCEEDED", startTime=20)
    got = outcome("SUCCEEDED", deploy(startTime=10), undo)
    assert got.kind is OutcomeKind.SUCCEEDED_WITHOUT_DEPLOY
    assert "rolled the deployment back" in got.reason
    by_canary = outcome("SUCCEEDED", deploy("1", startTime=10), {**canary("FAILED_CONTINUE"), "refId": "2"}, undo)
    assert by_canary.kind is OutcomeKind.CANARY_FAILED
    assert (
        outcome("SUCCEEDED", deploy(), stage("4", "undoRolloutManifest", "SUCCEEDED")).kind is not OutcomeKind.DEPLOYED
    )


def test_a_rollback_that_did_not_run_or_ran_before_takes_nothing_back():
    for undo in (stage("4", "rollback", "SKIPPED"), stage("4", "rollback", "SUCCEEDED", startTime=5)):
        assert outcome("SUCCEEDED", deploy(startTime=10), undo).kind is OutcomeKind.DEPLOYED


@pytest.mark.parametrize(
    ("stages", "kind", "words"),
    [
        ([judgment("TERMINAL", "stop", lastModified={"user": "alice"})], "rejected", "stop by alice"),
        ([judgment("TERMINAL", "STOP")], "rejected", "stop"),
        ([judgment("TERMINAL", "")], "failed", "not answered in time"),
        ([canary("TERMINAL")], "canary_failed", "score 40 too low"),
        ([canary("FAILED_CONTINUE"), deploy(status="TERMINAL")], "failed", "deployManifest 3 failed"),
        ([canary("STOPPED"), deploy(status="NOT_STARTED")], "canary_failed", "score 40"),
        ([deploy(), stage("4", "webhook", "TERMINAL")], "failed", f"after {OURS} was deployed"),
        ([], "failed", "names no stage"),
    ],
)
def test_terminal(stages, kind, words):
    got = outcome("TERMINAL", *stages)
    assert got.kind == kind
    assert words in got.reason


@pytest.mark.parametrize(
    "context",
    [
        {"exception": {"details": {"errors": ["no quota", "at all"]}}},
        {"exception": {"details": {"error": "no quota; at all"}}},
        {"failureMessage": "no quota; at all"},
    ],
)
def test_the_stage_says_why(context):
    broken = {**deploy(status="TERMINAL"), "context": context}
    assert outcome("TERMINAL", broken).reason == "deployManifest 3 failed: no quota; at all"


def test_a_startup_failure_is_one_only_if_no_stage_ran():
    extra = {"cancellationReason": "Failed on startup: Unable to process", "canceledBy": "system"}
    got = outcome("TERMINAL", deploy(status="NOT_STARTED"), **extra)
    assert got.kind is OutcomeKind.STARTUP_FAILURE
    assert "Unable to process" in got.reason
    assert outcome("TERMINAL", **extra).kind is OutcomeKind.STARTUP_FAILURE
    assert outcome("TERMINAL", deploy(status="TERMINAL"), **extra).kind is OutcomeKind.FAILED


SUPERSEDED = (
    "This execution was queued but then canceled because a newer queued execution superceded it. This pipeline is "
    "configured to automatically cancel waiting executions."
)


def test_superseded_is_not_canceled_by_a_person():
    got = outcome("CANCELED", canceledBy="spinnaker", cancellationReason=SUPERSEDED, startTime=None)
    assert got.kind is OutcomeKind.SUPERSEDED
    person = outcome("CANCELED", canceledBy="alice", cancellationReason="superseded by my own")
    assert person.kind is OutcomeKind.CANCELED
    assert "alice" in person.reason
    late = outcome("CANCELED", cancellationReason="Could not begin execution before start time expiry")
    assert (late.kind, "expiry" in late.reason) == (OutcomeKind.CANCELED, True)
    assert outcome("CANCELED").reason == "canceled: no reason given"


def test_a_deployment_that_was_canceled_afterwards_still_shows_its_image():
    assert outcome("CANCELED", deploy()).bound_reference == OURS


@pytest.mark.parametrize(
    "status", ["NOT_STARTED", "RUNNING", "PAUSED", "SUSPENDED", "BUFFERED", "REDIRECT", "NEW_ONE", ""]
)
def test_what_is_not_complete_is_running_even_with_a_finished_deploy_stage(status):
    got = outcome(status, deploy(), stage("4", "wait", "RUNNING"))
    assert (got.kind, got.is_final) == (OutcomeKind.RUNNING, False)


def test_a_judgment_that_waits_is_told_apart():
    got = outcome("RUNNING", canary("SUCCEEDED"), judgment("RUNNING"), deploy(status="NOT_STARTED"))
    assert (got.kind, got.is_final, got.stage_id) == (OutcomeKind.WAITING_FOR_JUDGMENT, False, "S2")
    assert "look" in got.reason
    answered = outcome("RUNNING", judgment("RUNNING", "continue"))
    assert answered.kind is OutcomeKind.RUNNING
    ended = outcome("RUNNING", judgment("RUNNING"), canceled=True)
    assert ended.kind is OutcomeKind.RUNNING


def test_an_execution_whose_stages_are_missing_or_odd_is_no_crash():
    for stages in (None, [], [None, "x", 3]):
        assert (
            deployment_outcome({"status": "SUCCEEDED", "stages": stages}, REPO, TAG).kind == "succeeded_without_deploy"
        )
    assert deployment_outcome({}, REPO, TAG).kind == "running"
