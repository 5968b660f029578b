"""A release or a deployment that can't go on, with the Spinnaker stand-in behind a real registry, and what helps."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from mlfleet.operators.release import ReleaseOperator
from mlfleet.operators.spinnaker import SpinnakerDeployOperator
from tests.support.delivery import Run
from tests.support.images import push_model
from tests.support.spinnaker import Spinnaker, stage, start_registry
from tests.support.trouble import connection, fails_at_once, fails_for_now

DEPLOY = [stage("deployManifest")]
RELEASES = "^release-.*$"


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spinnaker]:
    folder = tmp_path_factory.mktemp("spinnaker")
    with start_registry(folder) as registry:
        sandbox = Spinnaker(folder, registry)
        try:
            sandbox.start()
            yield sandbox
        finally:
            sandbox.close()


@pytest.fixture
def spinnaker(sandbox: Spinnaker, monkeypatch: pytest.MonkeyPatch) -> Spinnaker:
    registry = connection("container_registry", f"http://{sandbox.registry}")
    monkeypatch.setenv("AIRFLOW_CONN_CONTAINER_REGISTRY_DEFAULT", registry)
    monkeypatch.setenv("AIRFLOW_CONN_SPINNAKER_DEFAULT", connection("spinnaker", str(sandbox.http.base_url)))
    return sandbox


def built(spinnaker: Spinnaker, application: str, **model: Any) -> dict[str, Any]:
    """What the build task hands on: an image whose tag no trigger matches."""
    pushed = push_model(spinnaker.registry, f"ml/{application}", "build-1", **model)
    spinnaker.seen("build-1")
    return {"repository": pushed.repository, "digest": pushed.digest, "tag": "build-1"}


def release(application: str) -> ReleaseOperator:
    return ReleaseOperator(
        task_id="release",
        build_task_id="build_image",
        application=application,
        pipeline="deploy-model",
        spinnaker_conn_id="spinnaker_default",
    )


def deploy(application: str, **changes: Any) -> SpinnakerDeployOperator:
    given: dict[str, Any] = {"task_id": "deploy", "application": application, "pipeline": "deploy-model"}
    return SpinnakerDeployOperator(
        **{**given, "release_task_id": "release", "deferrable": False, "poll_interval": 0.5, **changes}
    )


def known(spinnaker: Spinnaker, repository: str) -> list[str]:
    answer = httpx.get(f"http://{spinnaker.registry}/v2/{repository}/tags/list", trust_env=False)
    return sorted(answer.raise_for_status().json()["tags"])


@pytest.mark.parametrize(
    ("pipeline", "sentence"),
    [
        ({"tag": "^prod-.*$"}, "^prod-.*$"),
        ({}, "has no docker trigger"),
        ({"tag": RELEASES, "trigger": {"enabled": False}}, "is not enabled"),
        ({"tag": RELEASES, "trigger": {"repository": "ml/other"}}, "watches another repository"),
        (None, "there is no such pipeline"),
    ],
)
def test_no_trigger_matches_and_nothing_is_pushed(
    pipeline: dict[str, Any] | None, sentence: str, spinnaker: Spinnaker, request: pytest.FixtureRequest
) -> None:
    application = f"untriggered-{request.node.callspec.indices['pipeline']}"
    if pipeline is not None:
        spinnaker.pipeline(application, "deploy-model", DEPLOY, **pipeline)
    image = built(spinnaker, application, factor=3.0)
    releasing, deploying = Run(results={"build_image": image}), Run(task_id="deploy")
    told = fails_at_once(release(application), releasing)
    assert sentence in told
    assert f"Spinnaker application {application}, pipeline deploy-model" in told
    assert "nothing was pushed" in told
    assert known(spinnaker, image["repository"]) == ["build-1"]

    spinnaker.pipeline(application, "deploy-model", DEPLOY, tag=RELEASES)
    deploying.results["release"] = release(application).execute(releasing.cleared().context())
    assert deploy(application).execute(deploying.context())["outcome"] == "deployed"
    assert spinnaker.predict(application, 2) == [6.0]


def test_the_trigger_goes_between_release_and_deploy(spinnaker: Spinnaker) -> None:
    spinnaker.pipeline("changed", "deploy-model", DEPLOY, tag=RELEASES)
    releasing, deploying = Run(results={"build_image": built(spinnaker, "changed")}), Run(task_id="deploy")
    blind = ReleaseOperator(task_id="release", build_task_id="build_image")  # looks at no pipeline
    spinnaker.pipeline("changed", "deploy-model", DEPLOY, tag="^prod-.*$")
    deploying.results["release"] = blind.execute(releasing.context())
    told = fails_for_now(deploy("changed", start_timeout=timedelta(seconds=1)), deploying)
    assert "no execution for ml/changed:release-" in told
    assert "clear 'release' to release the image anew" in told

    spinnaker.pipeline("changed", "deploy-model", DEPLOY, tag=RELEASES)
    deploying.results["release"] = release("changed").execute(releasing.cleared().context())
    assert deploy("changed").execute(deploying.cleared().context())["outcome"] == "deployed"


def test_a_model_that_does_not_start(spinnaker: Spinnaker) -> None:
    spinnaker.pipeline("broken", "deploy-model", DEPLOY, tag=RELEASES)
    releasing = Run(results={"build_image": built(spinnaker, "broken", exit=True)})
    deploying = Run(task_id="deploy", results={"release": release("broken").execute(releasing.context())})
    told = fails_for_now(deploy("broken"), deploying)
    assert "deployManifest" in told
    assert "clear 'release' to release the image anew" in told
    assert spinnaker.production("broken") is None

    releasing.results["build_image"] = built(spinnaker, "broken", factor=4.0)
    deploying.results["release"] = release("broken").execute(releasing.cleared().context())
    assert deploy("broken").execute(deploying.cleared().context())["outcome"] == "deployed"
    assert spinnaker.predict("broken", 1) == [4.0]


def test_a_missing_connection(spinnaker: Spinnaker, monkeypatch: pytest.MonkeyPatch) -> None:
    spinnaker.pipeline("lonely", "deploy-model", DEPLOY, tag=RELEASES)
    image = built(spinnaker, "lonely", factor=2.0)
    releasing, deploying = Run(results={"build_image": image}), Run(task_id="deploy")
    for name in ("SPINNAKER", "CONTAINER_REGISTRY"):
        with monkeypatch.context() as without:
            without.delenv(f"AIRFLOW_CONN_{name}_DEFAULT")
            told = fails_at_once(release("lonely"), releasing)
            assert f"'{name.lower()}_default'" in told
            assert f"set AIRFLOW_CONN_{name}_DEFAULT=" in told
    assert known(spinnaker, "ml/lonely") == ["build-1"]
    deploying.results["release"] = release("lonely").execute(releasing.context())
    with monkeypatch.context() as without:
        without.delenv("AIRFLOW_CONN_SPINNAKER_DEFAULT")
        assert "set AIRFLOW_CONN_SPINNAKER_DEFAULT=" in fails_at_once(deploy("lonely"), deploying)
    assert deploy("lonely").execute(deploying.context())["outcome"] == "deployed"
