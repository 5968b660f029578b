"""What `ReleaseOperator` does when its task runs: decide, look at the Spinnaker pipeline, put the tag."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from mlfleet.clients.container_registry import ContainerRegistryClient
from mlfleet.clients.spinnaker_trigger import concurrency_warning, other_patterns, trigger_problems
from mlfleet.errors import ConfigError, Conflict, NotFound
from mlfleet.hooks.container_registry import ContainerRegistryHook
from mlfleet.hooks.registry_access import page_of, registry_of
from mlfleet.hooks.spinnaker import SpinnakerHook
from mlfleet.links.remote_job import REMOTE_URL
from mlfleet.manifest.naming import AUTO, NEWER
from mlfleet.operators.base import RELEASE_PARAM
from mlfleet.operators.records import TaskStateRecords, teller
from mlfleet.operators.release_policy import (
    BACKFILL,
    Facts,
    Verdict,
    decide,
    decide_on_age,
    decide_on_improvement,
)
from mlfleet.operators.released_data import ReleasedData, ReleasedDataStore, data_end
from mlfleet.operators.run_values import RunValues, task_identity
from mlfleet.remote import ordinal
from mlfleet.remote.job import JobKey, digest
from mlfleet.remote.record import Record
from mlfleet.systems.live_image import LiveImage, live_image

if TYPE_CHECKING:
    from airflow.sdk import Context

    from mlfleet.operators.release import ReleaseOperator

DECISION = "decision"


@dataclass(frozen=True)
class Releasing:
    """One try of the task; ``values`` are what references stand for in its run."""

    task: ReleaseOperator
    values: RunValues
    context: Context

    def release(self) -> dict[str, Any]:
        """What `ReleaseOperator` returns; raises AirflowSkipException for a no."""
        verdict = self._verdict()
        self.context["ti"].xcom_push(key=DECISION, value=verdict.as_json())
        if not verdict.release:
            raise AirflowSkipException(f"not released: {verdict.reason}")
        image = self._image()
        record, tag = self._tag(image)
        self._pre_flight(image["repository"], tag)
        self._note_data()
        registry = self._put(image, tag)
        self.task.log.info("Released %s:%s (%s): %s", image["repository"], tag, image["digest"], verdict.reason)
        return _released({**image, "registry": registry}, tag, record, verdict)

    def _verdict(self) -> Verdict:
        """The guards that cost nothing first; what is live is only asked when they all say yes."""
        facts = self._facts()
        verdict = decide(facts)
        if verdict.release and facts.run_type == BACKFILL:
            verdict = self._verdict_on_age()
        if not verdict.release or self.task.min_improvement is None or facts.evaluation is None:
            return verdict
        live = asyncio.run(self._live())
        if live is None:
            return Verdict(True, f"{verdict.reason}, and nothing is live yet")
        return decide_on_improvement(facts.evaluation.get("results") or (), live.metrics, live.name,
                                     self.task.min_improvement)  # fmt: skip

    def _verdict_on_age(self) -> Verdict:
        """A backfill's data must be newer than all that was released; before that was kept, than what is live."""
        end = self.values.interval.end
        released = self._released_data().load()
        if released == ReleasedData(end, self.context["dag_run"].run_id, self.context["ti"].max_tries):
            return Verdict(True, "this run is a backfill of newer data, and an earlier try has begun to release it")
        if released is not None:
            return decide_on_age(end, released.end, f"run {released.run_id}")
        live = asyncio.run(self._live())
        if live is None:
            return Verdict(True, "this run is a backfill, and nothing is live yet")
        return decide_on_age(end, data_end(live.data_end, end.tzinfo or UTC), live.name)

    def _note_data(self) -> None:
        """Before the push: a run that dies after it must not be forgotten."""
        if self.task.backfills != NEWER:
            return
        store, end = self._released_data(), self.values.interval.end
        before = store.load()
        if before is None or before.end < end:
            store.save(ReleasedData(end, self.context["dag_run"].run_id, self.context["ti"].max_tries))

    def _released_data(self) -> ReleasedDataStore:
        assert self.task.asset is not None, "`__init__` has seen to it"
        return ReleasedDataStore(self.context, self.task.asset, self._image()["repository"])

    @property
    def _pipeline(self) -> tuple[str, str]:
        """Spinnaker's application and the name of its pipeline."""
        return str(self.values.resolve(self.task.application)), str(self.values.resolve(self.task.pipeline))

    def _live(self) -> Coroutine[Any, Any, LiveImage | None]:
        application, pipeline = self._pipeline
        repository = self._image()["repository"]
        to_gate = SpinnakerHook(self.task.spinnaker_conn_id).client_factory()
        _, to_registry = registry_of(ContainerRegistryHook(self.task.container_registry_conn_id))

        async def ask() -> LiveImage | None:
            async with to_gate() as gate, to_registry() as registry:
                return await live_image(gate, registry, application, pipeline, repository)

        return ask()

    def _facts(self) -> Facts:
        evaluation = None
        if self.task.evaluate_task_id:
            try:
                evaluation = self.values.task_output(self.task.evaluate_task_id)
            except LookupError:
                evaluation = None
        run_type = self.context["dag_run"].run_type
        asked = str((self.context.get("params") or {}).get(RELEASE_PARAM, AUTO))
        kind = str(getattr(run_type, "value", run_type) or "")
        return Facts(kind, bool(self.task.evaluate_task_id), evaluation, asked, self.task.backfills)

    def _image(self) -> dict[str, str]:
        """Repository and digest of what was built."""
        try:
            built = self.values.task_output(self.task.build_task_id)
        except LookupError as exc:
            raise ConfigError(f"there is no image to release: {exc}", f"task {self.task.build_task_id}") from None
        if not isinstance(built, Mapping) or not built.get("digest") or not built.get("repository"):
            raise ConfigError(f"task {self.task.build_task_id} handed on no image", "its result")
        return {"repository": str(self.task.repository or built["repository"]), "digest": str(built["digest"])}

    def _tag(self, image: Mapping[str, str]) -> tuple[Record, str]:
        record = ordinal.enter(
            TaskStateRecords(self.context["task_state_store"]),
            self.context["ti"].max_tries,
            digest([image["repository"], image["digest"]]),
            tell=teller(self.task.log.info, "container_registry"),
            now=time.time(),
        )
        key = JobKey(task_identity(self.context), record.incarnation, record.n)
        return record, f"release-{key.value}-{record.n}"

    def _pre_flight(self, repository: str, tag: str) -> None:
        """Raises ConfigError when the push of ``tag`` would start nothing."""
        if self.task.spinnaker_conn_id is None:
            return
        application, pipeline = self._pipeline
        connect = SpinnakerHook(self.task.spinnaker_conn_id).client_factory()

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
        others = other_patterns(config, repository, self.task.tag_pattern) if self.task.tag_pattern else []
        if others and not problems:
            raise ConfigError(f"a docker trigger for {repository} has the tag pattern {others[0]!r}, and not "
                              f"{self.task.tag_pattern!r}", where, "Correct the trigger, or "
                              "deploy.spinnaker.tag_pattern of the manifest; nothing was pushed")  # fmt: skip
        if problems:
            raise ConfigError(f"pushing {repository}:{tag} would deploy nothing: {'; '.join(problems)}", where,
                              "Correct the pipeline's docker trigger; nothing was pushed")  # fmt: skip
        warning = concurrency_warning(config)
        if warning:
            self.task.log.warning("%s", warning)

    def _put(self, image: Mapping[str, str], tag: str) -> str:
        """The manifest under ``tag``, unless it is there; returns what stands before the repository in its name.

        Raises Conflict when another image is there.
        """
        registry, connect = registry_of(ContainerRegistryHook(self.task.container_registry_conn_id))
        self.context["ti"].xcom_push(key=REMOTE_URL, value=page_of(registry, image["repository"], tag))

        async def put() -> bool:
            async with connect() as client:
                return await put_tag(client, image["repository"], image["digest"], tag)

        if not asyncio.run(put()):
            self.task.log.info("%s:%s is there already, with this digest: nothing is pushed", image["repository"], tag)
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
