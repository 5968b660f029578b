"""A Polyaxon job as a step of a KFP pipeline: ``polyaxon_job`` adds it; docs/components.md shows it at work.

Two tasks, so that each gets the one secret that it needs, and a retry of the second one trains the commit that the
first one cloned:

1. *clone* fetches a private repository over HTTP with a token, without history;
2. *the job* logs in to Polyaxon with a token, submits the polyaxonfile through the API, trails the job's log to its
   end, and outputs ``project``, ``user``, ``job_id``, ``status`` and ``outputs`` (what the run logged, JSON).

Both exist as container components (for clusters; `container`) and as lightweight ones with the same interface (they
run in the sandbox; `lightweight`). Either needs an image with mlfleet and git in it: see the Dockerfile beside this.
"""

from dataclasses import dataclass
from typing import Any, Literal

from kfp import dsl, kubernetes

from include.components.polyaxon_job import container, lightweight

__all__ = ["Secret", "polyaxon_job"]

GIT_TOKEN, POLYAXON_TOKEN = "GIT_TOKEN", "POLYAXON_AUTH_TOKEN"
IN_CLUSTER = "http://ml-pipeline.kubeflow.svc.cluster.local:8888"
FORMS = {"container": container, "lightweight": lightweight}
# Minutes of a run are at stake when a node is lost, and a retry adopts the job that is there.
RETRIES = 2


@dataclass(frozen=True)
class Secret:
    """A Kubernetes secret of the namespace that runs the pipeline: its name, and the key that holds the token."""

    name: str
    key: str = "token"


def polyaxon_job(
    *,
    environment: str,
    repository: Any,
    polyaxonfile: Any,
    project: Any,
    polyaxon: Any,
    git_secret: Secret | None,
    polyaxon_secret: Secret | None,
    ref: Any = "main",
    path: Any = "",
    params: Any = None,
    files: Any = None,
    name: Any = "",
    git_user: str = "x-access-token",
    owner: str = "default",
    namespace: str = "polyaxon",
    kfp: Any = IN_CLUSTER,
    on_failed: Literal["resubmit", "resume", "fail"] = "resubmit",
    timeout: Any = 0.0,
    iteration: Any = dsl.PIPELINE_TASK_ID_PLACEHOLDER,
    retries: int = RETRIES,
    form: Literal["container", "lightweight"] = "container",
) -> dsl.PipelineTask:
    """Adds both tasks to the pipeline that is being defined; returns the second one, with its outputs.

    Where ``Any`` stands, a value or what another task or a pipeline's parameter gives.

    ``environment``   as in include/environments; part of the job's key
    ``repository``    http(s) address; ``ref`` is a branch, a tag or a commit, ``path`` the folder that is wanted of it
    ``polyaxonfile``  below ``path``; ``params`` (JSON object) are its inputs, and ``files`` (JSON object, name in the
                      run's working folder to path) travel with the run
    ``project``       of Polyaxon, created when it does not exist; ``name`` of the run, a readable key by default
    ``polyaxon``      base address of its API, ``kfp`` that of the KFP that runs this, which is asked on SIGTERM
    ``git_secret``    None for a public repository; ``polyaxon_secret`` None for a Polyaxon without users (CE)
    ``on_failed``     what a retry does with a job that failed
    ``timeout``       seconds after which the job is stopped, 0 for never
    ``iteration``     tells apart what runs under one task name. KFP's own number differs between a loop's rounds and
                      the uses of a nested pipeline, and stays in a retry: nobody needs to give this
    """
    forms = FORMS[form]
    source = forms.clone_repository(repository=repository, ref=ref, path=path, user=git_user)
    job = forms.polyaxon_job(
        source=source.outputs["source"],
        environment=environment,
        run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        task=dsl.PIPELINE_TASK_NAME_PLACEHOLDER,
        iteration=iteration,
        polyaxon=polyaxon,
        kfp=kfp,
        owner=owner,
        namespace=namespace,
        polyaxonfile=polyaxonfile,
        polyaxon_project=project,
        params={} if params is None else params,
        files={} if files is None else files,
        name=name,
        on_failed=on_failed,
        timeout=timeout,
    )
    for task, secret, variable in ((source, git_secret, GIT_TOKEN), (job, polyaxon_secret, POLYAXON_TOKEN)):
        # A cached answer would be that of another run's job.
        task.set_caching_options(False)
        task.set_retry(num_retries=retries, backoff_duration="10s", backoff_factor=2)
        if secret is not None:
            kubernetes.use_secret_as_env(task, secret.name, {secret.key: variable})
    return job
