"""The only place that changes production: puts a built image's manifest under a tag that Spinnaker deploys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlfleet.errors import ConfigError
from mlfleet.hooks.container_registry import ContainerRegistryHook
from mlfleet.links.remote_job import RemoteJobLink
from mlfleet.manifest.naming import NEVER, NEWER
from mlfleet.operators.base import MlfleetOperator
from mlfleet.triggers.events import failing_fast

if TYPE_CHECKING:
    from airflow.sdk import Asset, Context


class ReleaseOperator(MlfleetOperator):
    """Decides whether the image of ``build_task_id`` goes to production and, if so, tags it ``release-<key>-<n>``.

    With a docker trigger the push of that tag *is* the deployment. So before it: the guards of release_policy (a no
    skips the task and all after it), and, with ``spinnaker_conn_id``, a look at the pipeline, because a tag that no
    trigger matches starts nothing and Spinnaker would not say so. The tag gets the same manifest bytes, so the digest
    stays. A tag is never used twice: a retry finds its own and is done, a person's clear is the next ``n`` and a new
    deployment.

    The DAG's param ``release``, where there is one, is a guard too: ``never`` skips, ``auto`` leaves it to the others.

    ``evaluate_task_id``  None for a project without an evaluation
    ``min_improvement``   the share by which every metric must be better than that of the live model; None: not asked
    ``backfills``         what a backfill may release: "never" anything, or only "newer" data than ever was released;
                          then ``asset`` is needed, the project's, which becomes an inlet: its state says what was
    ``repository``        overrides the one of the build
    ``tag_pattern``       what the docker trigger must have as its tag pattern; None: any that matches the tag

    Returns ``{"released", "tag", "digest", "repository", "registry", "n", "reason", "released_at_ms"}``; the last is an
    epoch time before the tag could be seen. XCom ``decision`` holds ``{"released", "reason", "guard"}`` either way.
    """

    operator_extra_links = (RemoteJobLink(),)

    def __init__(
        self,
        *,
        build_task_id: str,
        evaluate_task_id: str | None = None,
        min_improvement: float | None = None,
        backfills: str = NEVER,
        asset: Asset | None = None,
        repository: str | None = None,
        application: str | None = None,
        pipeline: str | None = None,
        tag_pattern: str | None = None,
        spinnaker_conn_id: str | None = None,
        container_registry_conn_id: str = ContainerRegistryHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        if backfills == NEWER:
            # Who looks what was released last, and who says so, must not come between another one's look and word.
            kwargs = {"inlets": [asset], "max_active_tis_per_dag": 1, **kwargs}
        super().__init__(**kwargs)
        if backfills not in (NEVER, NEWER):
            raise ConfigError(f"backfills is {NEVER!r} or {NEWER!r}, not {backfills!r}", f"task {self.task_id}")
        if backfills == NEWER and not (asset and spinnaker_conn_id):
            raise ConfigError("a release of backfills needs the project's asset and Spinnaker", f"task {self.task_id}")
        if spinnaker_conn_id and not (application and pipeline):
            raise ConfigError("a release to Spinnaker needs application and pipeline", f"task {self.task_id}")
        if min_improvement is not None and not (evaluate_task_id and spinnaker_conn_id):
            raise ConfigError("min_improvement needs an evaluation and Spinnaker", f"task {self.task_id}")
        self.build_task_id, self.evaluate_task_id = build_task_id, evaluate_task_id
        self.min_improvement = min_improvement
        self.backfills, self.asset = backfills, asset
        self.repository, self.application, self.pipeline = repository, application, pipeline
        self.tag_pattern = tag_pattern
        self.spinnaker_conn_id, self.container_registry_conn_id = spinnaker_conn_id, container_registry_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Decide, look at the pipeline, tag. Raises AirflowSkipException for a no."""
        from mlfleet.operators.releasing import Releasing

        with failing_fast():
            return Releasing(self, self.values(context), context).release()
