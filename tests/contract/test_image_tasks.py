"""The image tasks one after the other, with real buildah and a real registry: build, verify, release."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from mlfleet.operators.image import BuildImageOperator
from mlfleet.operators.release import ReleaseOperator
from mlfleet.sensors.container_registry import ImageSensor
from tests.support.delivery import Run
from tests.support.image_build import RegistryUnderTest, push_base, running_registry

pytestmark = pytest.mark.skipif(
    not (shutil.which("buildah") and shutil.which("docker-registry")), reason="make setup installs these"
)
REPO = "ml/churn"
REFERENCES = {"static": {"project.name": "churn", "git.commit": "c0ffee"}}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryUnderTest]:
    with running_registry(tmp_path_factory.mktemp("registry") / "state") as running:
        yield running


@pytest.fixture(autouse=True)
def _connection(registry: RegistryUnderTest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    host, _, port = registry.address.partition(":")
    connection = {"conn_type": "container_registry", "schema": "http", "host": host, "port": int(port)}
    monkeypatch.setenv("AIRFLOW_CONN_CONTAINER_REGISTRY_DEFAULT", json.dumps(connection))
    monkeypatch.setenv("MLFLEET_BUILDAH_ROOT", str(tmp_path / "store"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "serve.py").write_text("print('serving')\n")
    (folder / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\nCOPY serve.py /app/\nCOPY models /app/models\n")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.joblib").write_text("a model")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Run:
    kfp = {"system": "kfp", "run_id": "r1", "outputs": {"mae": 5.5}, "model_uri": str(tmp_path / "model")}
    polyaxon = {"system": "polyaxon", "uuid": "u1", "outputs": {}}
    return Run(
        results={"default.kfp": kfp, "default.polyaxon": polyaxon},
        upstream={"default.kfp": {"default.polyaxon"}},
        task_id="build_image",
    )


def build(project: Path, registry: RegistryUnderTest, **changes: Any) -> BuildImageOperator:
    given: dict[str, Any] = {
        "task_id": "build_image",
        "repository": REPO,
        "dockerfile": str(project / "Dockerfile"),
        "context": str(project),
        "build_args": {"BASE": push_base(registry)},
        "models": {"default": "default.kfp"},
        "labels": {"org.opencontainers.image.revision": "${git.commit}"},
        "references": REFERENCES,
    }
    return BuildImageOperator(**{**given, **changes})


def test_build_verify_release(project: Path, registry: RegistryUnderTest, run: Run) -> None:
    image = build(project, registry).execute(run.context())
    assert set(image) == {"repository", "tag", "digest", "reference", "labels"}
    labels = {
        "mlfleet.project": "churn",
        "mlfleet.run_id": "scheduled__1",
        "mlfleet.polyaxon.default": "u1",
        "mlfleet.kfp.default": "r1",
        "mlfleet.metric.default.mae": "5.5",
        "mlfleet.key": image["tag"].removeprefix("build-"),
        "org.opencontainers.image.revision": "c0ffee",
    }
    assert labels.items() <= image["labels"].items()
    assert run.pushed["remote_url"].endswith(f"/v2/{REPO}/manifests/{image['tag']}")

    seen = ImageSensor(
        task_id="verify_image", repository=REPO, tag=image["tag"], digest=image["digest"], labels=labels
    ).execute(Run(task_id="verify_image").context())
    assert seen["digest"] == image["digest"]

    release = ReleaseOperator(task_id="release", build_task_id="build_image", references=REFERENCES)
    released = release.execute(Run(results={"build_image": image}).context())
    head = registry.ask(lambda client: client.head_manifest(REPO, released["tag"]))
    assert head.digest == image["digest"] == released["digest"]  # type: ignore[attr-defined]


def test_a_retry_builds_nothing_and_a_clear_builds_again(
    project: Path, registry: RegistryUnderTest, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    first = build(project, registry).execute(run.context())
    again = build(project, registry).execute(run.context())
    assert again == first
    cleared = build(project, registry).execute(run.cleared().context())
    assert cleared["tag"] != first["tag"]


def test_a_retry_with_changed_code_builds_under_the_next_key(
    project: Path, registry: RegistryUnderTest, run: Run
) -> None:
    first = build(project, registry).execute(run.context())
    (project / "serve.py").write_text("print('changed')\n")
    second = build(project, registry).execute(run.context())
    assert first["tag"] != second["tag"]
    assert first["labels"]["mlfleet.spec"] != second["labels"]["mlfleet.spec"]


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        (None, "there is no model of experiment default"),
        ({"artifacts": {"train.trained": "x"}}, r"no output artifact called `model`.*train\.trained"),
        ({"model_uri": "/no/such/model"}, "is not at /no/such/model"),
    ],
)
def test_no_model(
    result: dict[str, Any] | None, sentence: str, project: Path, registry: RegistryUnderTest, run: Run
) -> None:
    run.results["default.kfp"] = result
    with pytest.raises(AirflowFailException, match=sentence):
        build(project, registry).execute(run.context())


def test_no_dockerfile(project: Path, registry: RegistryUnderTest, run: Run) -> None:
    with pytest.raises(AirflowFailException, match=r"nowhere/Dockerfile does not exist .looked in"):
        build(project, registry, dockerfile="nowhere/Dockerfile").execute(run.context())


def test_no_connection(project: Path, registry: RegistryUnderTest, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_CONTAINER_REGISTRY_DEFAULT")
    with pytest.raises(AirflowFailException, match=r"'container_registry_default'.*does not exist"):
        build(project, registry).execute(run.context())


def test_a_label_that_buildah_would_change(project: Path, registry: RegistryUnderTest, run: Run) -> None:
    with pytest.raises(AirflowFailException, match=r"can't have the label price="):
        build(project, registry, labels={"price": "$5"}).execute(run.context())
