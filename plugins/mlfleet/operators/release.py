"""The only place that changes production: puts a built image's manifest under a tag that Spinnaker deploys."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping
from datetime import UTC
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from mlfleet.clients.container_registry import ContainerRegistryClient
from mlfleet.clients.spinnaker_trigger import concurrency_warning, other_patterns, trigger_problems
from mlfleet.errors import ConfigError, Conflict, NotFound
from mlfleet.hooks.container_registry import ContainerRegistryHook
from mlfleet.hooks.registry_access import page_of, registry_of
from mlfleet.hooks.spinnaker import SpinnakerHook
from mlfleet.links.remote_job import REMOTE_URL, RemoteJobLink
from mlfleet.operators.base import MlfleetOperator
from mlfleet.operators.records import TaskStateRecords, teller
from mlfleet.operators.release_policy import (
    AUTO,
    BACKFILL,
    NEVER,
    NEWER,
    Facts,
    Verdict,
    decide,
    decide_on_age,
    decide_on_improvement,
)
from mlfleet.operators.released_data import ReleasedData, ReleasedDataStore, data_end
from mlfleet.operators.run_values import task_identity
from mlfleet.remote import ordinal
from mlfleet.remote.job import JobKey, digest
from mlfleet.remote.record import Record
from mlfleet.systems.live_image import LiveImage, live_image
from mlfleet.triggers.events import failing_fast

if TYPE_CHECKING:
    from airflow.sdk import Asset, Context

    from mlfleet.operators.run_values import RunValues

DECISION = "decision"
# Of the DAG's params: auto or never.
RELEASE_PARAM = "release"


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
        with failing_fast():
            values = self.values(context)
            verdict = self._verdict(values, context)
            context["ti"].xcom_push(key=DECISION, value=verdict.as_json())
            if not verdict.release:
                raise AirflowSkipException(f"not released: {verdict.reason}")
            image = self._image(values)
            record, tag = self._tag(image, context)
            self._pre_flight(image["repository"], tag, values)
            self._note_data(values, context)
            registry = self._put(image, tag, context)
        self.log.info("Released %s:%s (%s): %s", image["repository"], tag, image["digest"], verdict.reason)
        return _released({**image, "registry": registry}, tag, record, verdict)

    def _verdict(self, values: RunValues, context: Context) -> Verdict:
        """The guards that cost nothing first; what is live is only asked when they all say yes."""
        facts = self._facts(values, context)
        verdict = decide(facts)
        if verdict.release and facts.run_type == BACKFILL:
            verdict = self._verdict_on_age(values, context)
        if not verdict.release or self.min_improvement is None or facts.evaluation is None:
            return verdict
        live = asyncio.run(self._live(values))
        if live is None:
            return Verdict(True, f"{verdict.reason}, and nothing is live yet")
        return decide_on_improvement(facts.evaluation.get("results") or (), live.metrics, live.name,
                                     self.min_improvement)  # fmt: skip

    def _verdict_on_age(self, values: RunValues, context: Context) -> Verdict:
        """A backfill's data must be newer than all that was released; before that was kept, than what is live."""
        end = values.interval.end
        released = self._released_data(values, context).load()
        if released == ReleasedData(end, context["dag_run"].run_id, context["ti"].max_tries):
            return Verdict(True, "this run is a backfill of newer data, and an earlier try has begun to release it")
        if released is not None:
            return decide_on_age(end, released.end, f"run {released.run_id}")
        live = asyncio.run(self._live(values))
        if live is None:
            return Verdict(True, "this run is a backfill, and nothing is live yet")
        return decide_on_age(end, data_end(live.data_end, end.tzinfo or UTC), live.name)

    def _note_data(self, values: RunValues, context: Context) -> None:
        """Before the push: a run that dies after it must not be forgotten."""
        if self.backfills != NEWER:
            return
        store, end = self._released_data(values, context), values.interval.end
        before = store.load()
        if before is None or before.end < end:
            store.save(ReleasedData(end, context["dag_run"].run_id, context["ti"].max_tries))

    def _released_data(self, values: RunValues, context: Context) -> ReleasedDataStore:
        assert self.asset is not None, "`__init__` has seen to it"
        return ReleasedDataStore(context, self.asset, self._image(values)["repository"])

    def _live(self, values: RunValues) -> Coroutine[Any, Any, LiveImage | None]:
        application, pipeline = str(values.resolve(self.application)), str(values.resolve(self.pipeline))
        repository = self._image(values)["repository"]
        to_gate = SpinnakerHook(self.spinnaker_conn_id).client_factory()
        _, to_registry = registry_of(ContainerRegistryHook(self.container_registry_conn_id))

        async def ask() -> LiveImage | None:
            async with to_gate() as gate, to_registry() as registry:
                return await live_image(gate, registry, application, pipeline, repository)

        return ask()

    def _facts(self, values: RunValues, context: Context) -> Facts:
        evaluation = None
        if self.evaluate_task_id:
            try:
                evaluation = values.task_output(self.evaluate_task_id)
            except LookupError:
                evaluation = None
        run_type = context["dag_run"].run_type
        asked = str((context.get("params") or {}).get(RELEASE_PARAM, AUTO))
        kind = str(getattr(run_type, "value", run_type) or "")
        return Facts(kind, bool(self.evaluate_task_id), evaluation, asked, self.backfills)

    def _image(self, values: RunValues) -> dict[str, str]:
        """Repository and digest of what was built."""
        try:
            built = values.task_output(self.build_task_id)
        except LookupError as exc:
            raise ConfigError(f"there is no image to release: {exc}", f"task {self.build_task_id}") from None
        if not isinstance(built, Mapping) or not built.get("digest") or not built.get("repository"):
            raise ConfigError(f"task {self.build_task_id} handed on no image", "its result")
        return {"repository": str(self.repository or built["repository"]), "digest": str(built["digest"])}

    def _tag(self, image: Mapping[str, str], context: Context) -> tuple[Record, str]:
        record = ordinal.enter(
            TaskStateRecords(context["task_state_store"]),
            context["ti"].max_tries,
            digest([image["repository"], image["digest"]]),
            tell=teller(self.log.info, "container_registry"),
            now=time.time(),
        )
        key = JobKey(task_identity(context), record.incarnation, record.n)
        return record, f"release-{key.value}-{record.n}"

    def _pre_flight(self, repository: str, tag: str, values: RunValues) -> None:
        """Raises ConfigError when the push of ``tag`` would start nothing."""
        if self.spinnaker_conn_id is None:
            return
        application, pipeline = str(values.resolve(self.application)), str(values.resolve(self.pipeline))
        connect = SpinnakerHook(self.spinnaker_conn_id).client_factory()

        async def ask() -> dict[str, Any]:
            async with connect() as client:
                return await client.pipeline_config(application, pipeline)

        where = f"Spinnaker application {application}, pipeline {pipeline}"
        try:
            config = asyncio.run(ask())
        except NotFound as exc:
            todo = "Create it, or correct deploy.spinnaker of the manifest; nothing was pushed"
            raise ConfigError(f"there is no such pipeline: {exc}", where, todo) from None
        problems = trigger_problems(config, repository, tag)
        others = other_patterns(config, repository, self.tag_pattern) if self.tag_pattern else []
        if others and not problems:
            raise ConfigError(f"a docker trigger for {repository} has the tag pattern {others[0]!r}, and not "
                              f"{self.tag_pattern!r}", where, "Correct the trigger, or deploy.spinnaker.tag_pattern of "
                              "the manifest; nothing was pushed")  # fmt: skip
        if problems:
            raise ConfigError(f"pushing {repository}:{tag} would deploy nothing: {'; '.join(problems)}", where,
                              "Correct the pipeline's docker trigger; nothing was pushed")  # fmt: skip
        warning = concurrency_warning(config)
        if warning:
            self.log.warning("%s", warning)

    def _put(self, image: Mapping[str, str], tag: str, context: Context) -> str:
        """The manifest under ``tag``, unless it is there; returns what stands before the repository in its name.

        Raises Conflict when another image is there.
        """
        registry, connect = registry_of(ContainerRegistryHook(self.container_registry_conn_id))
        context["ti"].xcom_push(key=REMOTE_URL, value=page_of(registry, image["repository"], tag))

        async def put() -> bool:
            async with connect() as client:
                return await put_tag(client, image["repository"], image["digest"], tag)

        if not asyncio.run(put()):
            self.log.info("%s:%s is there already, with this digest: nothing is pushed", image["repository"], tag)
        return registry.address


async def put_tag(client: ContainerRegistryClient, repository: str, digest: str, tag: str) -> bool:
    """``tag`` points to the manifest ``digest`` afterwards; False when it did before.

    Raises Conflict when the tag points elsewhere, ConfigError when the registry no longer has the image.
    """
    there = await client.head_manifest(repository, tag)
    if there is not None and there.digest == digest:
        return False
    if there is not None:
        raise Conflict(
            "container_registry",
            f"{repository}:{tag} is in the registry as {there.digest}, to be released is {digest}; a tag is never "
            "moved, because Spinnaker would not see it: clear the release task to get the next tag",
        )
    try:
        body, info = await client.get_manifest(repository, digest)
    except NotFound:
        raise ConfigError(f"{repository}@{digest} is not in the registry any more", "",
                          "Clear the build task to build it again") from None  # fmt: skip
    await client.put_manifest(repository, tag, body, info.media_type)
    return True


def _released(image: Mapping[str, str], tag: str, record: Record, verdict: Verdict) -> dict[str, Any]:
    return {
        "released": True,
        "tag": tag,
        "digest": image["digest"],
        "repository": image["repository"],
        "registry": image["registry"],
        "n": record.n,
        "reason": verdict.reason,
        "released_at_ms": int(record.attempted_at * 1000),
    }
