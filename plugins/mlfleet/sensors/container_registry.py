"""Waits for an image."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue

from mlfleet.errors import ConfigError, JobTimedOut, RequestRefused, TransientError
from mlfleet.hooks.container_registry import ContainerRegistryHook
from mlfleet.links.remote_job import REMOTE_URL, RemoteJobLink
from mlfleet.triggers.events import earliest_event, failing_fast

if TYPE_CHECKING:
    from airflow.sdk import Context

    from mlfleet.triggers.container_registry import ImageTrigger


class ImageSensor(BaseSensorOperator):
    """Waits until ``repository:tag`` is in the registry, and checks what it is.

    With ``digest`` it waits until the tag points to exactly that one; with ``labels`` the image must have them (a name
    with the value None must be there with any value), else the task fails. ``timeout`` (Airflow's own) bounds the wait.

    Deferrable by default. Returns ``{"repository", "tag", "digest", "labels"}``.
    """

    template_fields: Sequence[str] = ("repository", "tag", "digest")
    operator_extra_links = (RemoteJobLink(),)

    def __init__(
        self,
        *,
        repository: str,
        tag: str,
        digest: str | None = None,
        labels: Mapping[str, str | None] | None = None,
        container_registry_conn_id: str = ContainerRegistryHook.default_conn_name,
        deferrable: bool = True,
        poke_interval: float = 10.0,
        timeout: float | timedelta = 900.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, timeout=timeout, **kwargs)
        self.repository, self.tag, self.digest = repository, tag, digest
        self.labels = dict(labels or {})
        self.container_registry_conn_id = container_registry_conn_id
        self.deferrable = deferrable

    def execute(self, context: Context) -> Any:
        """Look once; wait in the triggerer, or here, for what is not there yet."""
        if not self.deferrable:
            return super().execute(context)
        with failing_fast():
            if not self._is_there(context):
                self.defer(trigger=self._trigger(), method_name="execute_complete")
            return self._check()

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        """The trigger fired."""
        with failing_fast():
            if event["outcome"] == "finished":
                return self._check()
            if event["outcome"] == "timeout":
                late = JobTimedOut("container_registry", f"{self.repository}:{self.tag}", reason=event["error"])
                late.todo = "Look whether the image was pushed there, then clear the task to look again"
                raise late
            kind = RequestRefused if event["outcome"] == "refused" else TransientError
            raise kind("container_registry", event["error"])

    def poke(self, context: Context) -> PokeReturnValue:
        """One look."""
        with failing_fast():
            if not self._is_there(context):
                return PokeReturnValue(is_done=False)
            return PokeReturnValue(is_done=True, xcom_value=self._check())

    def _trigger(self) -> ImageTrigger:
        from mlfleet.triggers.container_registry import ImageTrigger

        return ImageTrigger(
            conn_id=self.container_registry_conn_id,
            repository=self.repository,
            tag=self.tag,
            digest=self.digest or None,
            deadline=time.time() + self.timeout if self.timeout else None,
            poll_interval=self.poke_interval,
            not_before=earliest_event(),
        )

    def _is_there(self, context: Context) -> bool:
        from mlfleet.hooks.registry_access import page_of, registry_of

        registry, connect = registry_of(ContainerRegistryHook(self.container_registry_conn_id))
        context["ti"].xcom_push(key=REMOTE_URL, value=page_of(registry, self.repository, self.tag))

        async def ask() -> bool:
            async with connect() as client:
                found = await client.head_manifest(self.repository, self.tag)
            return found is not None and self.digest in {None, "", found.digest}

        return asyncio.run(ask())

    def _check(self) -> dict[str, Any]:
        """The image's labels, compared; raises ConfigError."""
        from mlfleet.hooks.registry_access import registry_of

        _, connect = registry_of(ContainerRegistryHook(self.container_registry_conn_id))

        async def ask() -> tuple[str, dict[str, str]]:
            async with connect() as client:
                _, info = await client.get_manifest(self.repository, self.tag)
                return info.digest, await client.labels(self.repository, info.digest)

        digest, labels = asyncio.run(ask())
        if self.digest and digest != self.digest:
            raise ConfigError(f"{self.repository}:{self.tag} moved to {digest} while it was looked at", "the registry")
        wrong = [
            f"{name} is {labels.get(name)!r}"
            for name, value in self.labels.items()
            if name not in labels or value not in {None, labels[name]}
        ]
        if wrong:
            raise ConfigError(f"{self.repository}:{self.tag} has other labels than asked for: {', '.join(wrong)}")
        self.log.info("%s:%s is %s", self.repository, self.tag, digest)
        return {"repository": self.repository, "tag": self.tag, "digest": digest, "labels": labels}
