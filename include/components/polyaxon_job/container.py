"""The container form: what clusters run. Not run on a cluster here; what it starts is tested as a process."""

from kfp import dsl
from kfp.dsl import Artifact, Input, Output, OutputPath

# Built from the Dockerfile beside this file.
IMAGE = "registry.example.com/ml/mlfleet-components:py312"
PROGRAM = ["python3", "-m", "mlfleet.components"]


@dsl.container_component
def clone_repository(
    repository: str,
    source: Output[Artifact],
    commit: OutputPath(str),  # type: ignore[valid-type]
    ref: str = "main",
    path: str = "",
    user: str = "x-access-token",
):
    """Clones a repository, or a folder of it, at a branch, tag or commit; the token is in GIT_TOKEN.

    Args:
        repository: http(s) address, without a password in it.
        source: The files, without history.
        commit: Id of the commit.
        ref: Branch, tag or whole commit id.
        path: Folder of the repository that is wanted, all of it by default.
        user: What the host expects beside a token.
    """
    return dsl.ContainerSpec(
        image=IMAGE,
        command=[*PROGRAM, "clone"],
        args=[
            "--repository", repository, "--ref", ref, "--path", path, "--user", user, "--to", source.path,
            "--commit-output", commit,
        ],
    )  # fmt: skip


@dsl.container_component
def polyaxon_job(
    source: Input[Artifact],
    environment: str,
    run_id: str,
    task: str,
    polyaxon: str,
    kfp: str,
    polyaxonfile: str,
    polyaxon_project: str,
    project: OutputPath(str),  # type: ignore[valid-type]
    user: OutputPath(str),  # type: ignore[valid-type]
    job_id: OutputPath(str),  # type: ignore[valid-type]
    status: OutputPath(str),  # type: ignore[valid-type]
    outputs: OutputPath(dict),  # type: ignore[valid-type]
    iteration: str = "",
    owner: str = "default",
    namespace: str = "polyaxon",
    params: dict = {},  # noqa: B006
    files: dict = {},  # noqa: B006
    name: str = "",
    on_failed: str = "resubmit",
    timeout: float = 0.0,
):
    """Runs a polyaxonfile to its end and trails its log; the token is in POLYAXON_AUTH_TOKEN.

    Args:
        source: Folder with the polyaxonfile.
        environment: As in include/environments; part of the job's key with run_id, task and iteration.
        run_id: Of the KFP run.
        task: Name of the task within its pipeline.
        polyaxon: Base address of Polyaxon's API.
        kfp: Base address of the KFP that runs this.
        polyaxonfile: Path below source.
        polyaxon_project: Created when it does not exist.
        project: The Polyaxon project.
        user: Whose token was used; the owner where Polyaxon has no users.
        job_id: Uuid of the run.
        status: Its last status.
        outputs: What the run logged.
        iteration: Tells apart what runs under one task name.
        owner: Of the project.
        namespace: Of Polyaxon's logs.
        params: Values for the inputs of the polyaxonfile.
        files: Name in the run's working folder to path below source.
        name: Of the run in Polyaxon, a readable key by default.
        on_failed: What a retry does with a job that failed: resubmit, resume or fail.
        timeout: Seconds after which the job is stopped, 0 for never.
    """
    return dsl.ContainerSpec(
        image=IMAGE,
        command=[*PROGRAM, "polyaxon-job"],
        args=[
            "--source", source.path, "--environment", environment, "--run-id", run_id, "--task", task,
            "--iteration", iteration, "--polyaxon", polyaxon, "--kfp", kfp, "--owner", owner,
            "--namespace", namespace, "--polyaxonfile", polyaxonfile, "--project", polyaxon_project,
            "--params", params, "--files", files, "--name", name, "--on-failed", on_failed, "--timeout", timeout,
            "--project-output", project, "--user-output", user, "--job-id-output", job_id,
            "--status-output", status, "--outputs-output", outputs,
        ],
    )  # fmt: skip
