"""Pipelines that use this repository's components. A file of its own: the SDK reads a component's source from it."""

from kfp import dsl

from include.components.build_image import build_image
from include.components.evaluate import evaluate
from include.components.polyaxon_job import Secret, polyaxon_job

GIT_SECRET, POLYAXON_SECRET = Secret("git-reader", "password"), Secret("polyaxon")


@dsl.component(base_image="python:3.12", packages_to_install=[], install_kfp_package=False)
def tell(project: str, user: str, job_id: str, status: str, outputs: dict) -> str:  # type: ignore[type-arg]
    """What a later step gets."""
    return f"{project}/{user}/{job_id}/{status}/{outputs}"


@dsl.pipeline(name="polyaxon-job-lightweight")
def lightweight_job(
    repository: str, polyaxon: str, kfp: str, project: str, params: dict, polyaxonfile: str = "job.yaml"
):
    """Clone, train, tell."""
    job = polyaxon_job(
        environment="test", repository=repository, path="training", polyaxonfile=polyaxonfile,
        files={"train.py": "code/train.py"}, project=project, polyaxon=polyaxon, kfp=kfp, params=params,
        git_secret=GIT_SECRET, polyaxon_secret=POLYAXON_SECRET, retries=1, form="lightweight",
    )  # fmt: skip
    told = {name: job.outputs[name] for name in ("project", "user", "job_id", "status", "outputs")}
    tell(**told).set_caching_options(False)


@dsl.pipeline(name="polyaxon-job-container")
def container_job(repository: str, polyaxon: str, project: str, params: dict):
    """The same as clusters run it."""
    polyaxon_job(
        environment="prod", repository=repository, polyaxonfile="job.yaml", project=project, polyaxon=polyaxon,
        params=params, git_secret=GIT_SECRET, polyaxon_secret=POLYAXON_SECRET,
    )  # fmt: skip


@dsl.pipeline(name="polyaxon-job-loop")
def job_per_segment(repository: str):
    """A round each."""
    with dsl.ParallelFor(["premium", "fair"]) as segment:
        polyaxon_job(
            environment="prod", repository=repository, polyaxonfile="job.yaml", project="lab",
            polyaxon="http://polyaxon.test", name=segment, git_secret=None, polyaxon_secret=POLYAXON_SECRET,
        )  # fmt: skip


@dsl.component(base_image="python:3.12", packages_to_install=[], install_kfp_package=False)
def measure(mae: float, metrics: dsl.Output[dsl.Metrics], mlfleet_outputs: dsl.Output[dsl.Artifact]):
    """Numbers in metadata, and in a file."""
    metrics.log_metric("mae", mae)
    with open(mlfleet_outputs.path, "w") as file:
        file.write('{"rows_test": 100}')


@dsl.pipeline(name="judged")
def judged(mae: float, bounds: dict, fail: bool = False):
    """Three ways to give numbers, and a step that runs only after a pass."""
    made = measure(mae=mae)
    verdict = evaluate(bounds=bounds, metrics={"rmse": 2.0}, measured=made.outputs["metrics"], fail=fail)
    evaluate(bounds={"rows_test": {"min": 100}}, measured=made.outputs["mlfleet_outputs"])
    with dsl.If(verdict.outputs["passed"] == True):  # noqa: E712 - the compiler reads it
        tell(project="", user="", job_id="", status="released", outputs=verdict.outputs["results"])


@dsl.pipeline(name="image")
def image(uri: str, tag: str):
    """A build from code that lies somewhere."""
    source = dsl.importer(artifact_uri=uri, artifact_class=dsl.Artifact)
    build_image(
        source=source.output, repository="registry.example.com/shop/churn", tag=tag, registry_secret="registry-writer",
        context="serving", build_args={"PYTHON": "3.12", "NAME": "a b"}, labels={"team": "ml"},
    )  # fmt: skip
