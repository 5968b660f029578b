"""Spinnaker through Gate (spinnaker.md 1): pipeline configurations, executions, judgments.

Traps this client knows:

* ``GET /pipelines/{id}`` turns Orca's errors into an empty 200: that is "not now", never "done".
* Search paging is broken: ``startIndex`` is never sent; a full answer is followed by an older time window.
* Search ignores case and takes regular expressions: values are quoted, and results compared exactly again.
* An expired session is a 302 to a login page, which is refused (AuthError).
* A judgment is answered 200 even when the caller had no right to it: read the execution again after 20 s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from mlfleet.clients.answers import Answer, mapping, number, optional_text
from mlfleet.clients.calls import Expect, Params, segment
from mlfleet.clients.http import HttpClient, SystemClient
from mlfleet.clients.spinnaker_images import Image, artifact_filter
from mlfleet.clients.spinnaker_trigger import encoded_trigger
from mlfleet.errors import ConfigError

# What a pushed image starts, by whichever way Spinnaker hears of it; a person who starts a docker-triggered pipeline
# again makes a "manual" execution with the same tag (spinnaker.md 1.4 and 3.6).
TRIGGER_TYPES = ("docker", "pubsub", "webhook", "manual")

_SIZE = 200
_MOST_WINDOWS = 20
_CHUNK = 100  # execution ids in one address
# Characters of a search's filter: addresses beyond 8 KiB are refused by Tomcat and by many a proxy.
_FILTER = 4000


@dataclass(frozen=True)
class FailedStage:
    """A leaf stage that failed, possibly in a nested pipeline, and the page that shows it (spinnaker.md 1.6)."""

    name: str
    type: str
    status: str
    exception: str
    pipeline: str
    url: str | None


@dataclass(frozen=True)
class ManualStart:
    """What Gate says to a manual start. It is no promise: the execution may stay 404 for ever (spinnaker.md 1.5)."""

    execution_id: str
    event_id: str | None


class StageGlance(msgspec.Struct, frozen=True, gc=False):
    """What changes of a stage while its execution runs."""

    id: Any = None
    status: Any = None


class Glance(msgspec.Struct, frozen=True, gc=False):
    """What changes of an execution while it runs; two are equal when nothing has happened that a list could show."""

    id: Any = None
    status: Any = None
    canceled: Any = None
    stages: list[StageGlance] | None = None


_decode_glances = msgspec.json.Decoder(list[Glance]).decode


@dataclass(frozen=True)
class Listed:
    """Executions of a list, by id: a glance of each, and with :meth:`rows` everything that the list tells.

    ``glances`` lacks what is not shaped as expected: such rows are in :meth:`rows` alone.
    """

    glances: Mapping[str, Glance]
    answers: Sequence[Answer]

    def rows(self) -> dict[str, dict[str, Any]]:
        """All executions as JSON objects; reading them costs several times a glance."""
        found: dict[str, dict[str, Any]] = {}
        for answer in self.answers:
            found.update({str(row.get("id")): row for row in answer.whole().objects()})
        return found


class SpinnakerClient(SystemClient):
    """One Gate. ``deck_url`` is the address of Deck, where people look at executions.

    Executions and configurations are handed out as Gate gives them, as JSON objects: their shape is open.
    """

    def __init__(self, http: HttpClient, deck_url: str = "") -> None:
        super().__init__(http)
        self.deck_url = (deck_url or http.base_url).rstrip("/")

    async def health(self) -> dict[str, Any]:
        """``{"status": "UP"}``; raises TransientError when Gate is down. Needs no credentials."""
        return (await self.http.request("GET", "/health")).object()

    async def version(self) -> str:
        """Gate's version, such as "2026.2.3"."""
        return (await self.http.request("GET", "/version")).text("version")

    async def user(self) -> str | None:
        """Who Gate takes us for, None for nobody: the call to test credentials with (spinnaker.md 1.1)."""
        answer = await self.http.request("GET", "/auth/user", expect=Expect.JSON_OR_NOTHING)
        return optional_text(mapping(answer.data).get("username"))

    async def pipeline_config(self, application: str, name: str) -> dict[str, Any]:
        """The configuration of one pipeline. Raises NotFound."""
        path = f"/applications/{segment(application)}/pipelineConfigs/{segment(name)}"
        return (await self.http.request("GET", path)).object()

    async def pipeline_configs(self, application: str) -> list[dict[str, Any]]:
        """All pipelines of an application, [] for one that does not exist."""
        return (await self.http.request("GET", f"/applications/{segment(application)}/pipelineConfigs")).objects()

    async def search(
        self,
        application: str,
        images: Iterable[Image],
        *,
        since_ms: int,
        until_ms: int | None = None,
        pipeline: str | None = None,
        trigger_types: Sequence[str] = TRIGGER_TYPES,
    ) -> list[dict[str, Any]]:
        """All executions that were started for exactly one of ``images``, newest first, without stage contexts.

        ``since_ms`` and ``until_ms`` bound their ``buildTime`` (epoch milliseconds, both inclusive). An unknown
        ``pipeline`` gives [], not NotFound. Raises UnexpectedAnswer when there is more in the time than can be read: an
        image that was not found then may still be there.
        """
        wanted = list(images)
        params: dict[str, str | int | bool | None] = {
            "triggerTypes": ",".join(trigger_types),
            "pipelineName": pipeline,
            "trigger": _filter(wanted),
            "triggerTimeStartBoundary": since_ms,
            "size": _SIZE,
            "expand": False,
        }
        path = f"/applications/{segment(application)}/executions/search"
        found: dict[str, dict[str, Any]] = {}
        for _ in range(_MOST_WINDOWS):
            params["triggerTimeEndBoundary"] = until_ms
            answer = await self.http.request("GET", path, params=params)
            rows = answer.objects()
            found.update({str(row.get("id")): row for row in rows if any(i.was_wanted_by(row) for i in wanted)})
            oldest = min((number(row.get("buildTime")) for row in rows), default=0)
            if len(rows) < _SIZE or oldest <= since_ms or oldest == until_ms:
                return sorted(found.values(), key=lambda row: number(row.get("buildTime")), reverse=True)
            # Inclusive, because others may share this millisecond; the dictionary drops what comes twice.
            until_ms = oldest
        raise answer.wrong(f"more than {_SIZE * _MOST_WINDOWS} executions since {since_ms}")

    async def executions(self, ids: Iterable[str], *, expand: bool = True) -> dict[str, dict[str, Any]]:
        """Many executions in few requests, by id; unknown and unreadable ones are left out (spinnaker.md 1.1).

        ``expand=False`` leaves stage contexts and outputs out: enough for a status, not for an outcome.
        """
        answers = await self._listed(ids, expand=expand)
        return {str(row.get("id")): row for answer in answers for row in answer.objects()}

    async def glance(self, ids: Iterable[str]) -> Listed:
        """As :meth:`executions` without contexts, for who only wants to know whether anything has changed."""
        answers = await self._listed(ids, expand=False, decode=_decode_glances)
        rows = [row for answer in answers if isinstance(answer.data, list) for row in answer.data]
        return Listed({str(row.id): row for row in rows if isinstance(row, Glance)}, answers)

    async def _listed(self, ids: Iterable[str], *, expand: bool, **how: Any) -> list[Answer]:
        wanted = list(dict.fromkeys(ids))
        answers = []
        for start in range(0, len(wanted), _CHUNK):
            params: Params = {"executionIds": ",".join(wanted[start : start + _CHUNK]), "expand": expand}
            answers.append(await self.http.request("GET", "/executions", params=params, **how))
        return answers

    async def recent_executions(self, config_id: str, limit: int) -> list[dict[str, Any]]:
        """The newest executions of a pipeline configuration, newest first, with everything in them.

        Of the last 14 days; when there is none of these, two older ones (spinnaker.md 1.1).
        """
        params: Params = {"pipelineConfigIds": config_id, "limit": limit, "expand": True}
        rows = (await self.http.request("GET", "/executions", params=params)).objects()
        return sorted(rows, key=lambda row: number(row.get("buildTime")), reverse=True)

    async def get_execution(self, execution_id: str) -> dict[str, Any]:
        """One execution with everything in it.

        Raises NotFound (never started, or cleaned up), UnexpectedAnswer while Gate answers with an empty 200.
        """
        answer = await self.http.request("GET", f"/pipelines/{segment(execution_id)}")
        answer.text("status")
        return answer.object()

    async def failed_stages(self, execution_id: str, limit: int = 1) -> list[FailedStage]:
        """The stages that made an execution fail, through nested pipelines."""
        params: Params = {"executionId": execution_id, "deckOrigin": self.deck_url, "limit": limit}
        answer = await self.http.request("GET", "/executions/failedStages", params=params)
        return [
            FailedStage(
                name=str(row.get("stageName") or ""),
                type=str(row.get("stageType") or ""),
                status=str(row.get("stageStatus") or ""),
                exception=str(row.get("stageException") or ""),
                pipeline=str(row.get("pipelineExecutionName") or ""),
                url=self._in_deck(optional_text(row.get("pipelineExecutionUrl"))),
            )
            for row in answer.objects()
        ]

    async def judge(
        self, execution_id: str, stage_id: str, decision: str, judgment_input: str | None = None
    ) -> dict[str, Any]:
        """Answer a manual judgment with "continue" or "stop"; returns the execution.

        The effect comes up to 15 s later, or not at all when the caller lacks the role: read it again after 20 s
        (spinnaker.md 1.7). Never sent twice.
        """
        if decision not in {"continue", "stop"}:
            raise ConfigError(f"a judgment is 'continue' or 'stop', not {decision!r}")
        body = {"judgmentStatus": decision, **({"judgmentInput": judgment_input} if judgment_input else {})}
        path = f"/pipelines/{segment(execution_id)}/stages/{segment(stage_id)}"
        return (await self.http.request("PATCH", path, json=body)).object()

    async def cancel(self, execution_id: str, reason: str) -> None:
        """Ask for the end of an execution; its status follows later."""
        path = f"/pipelines/{segment(execution_id)}/cancel"
        params: Params = {"reason": reason, "force": False}
        await self.http.request("PUT", path, params=params, expect=Expect.JSON_OR_NOTHING)

    async def start_manual(
        self,
        application: str,
        name: str,
        *,
        artifacts: Sequence[dict[str, Any]] = (),
        parameters: dict[str, Any] | None = None,
        trigger: Mapping[str, Any] | None = None,
        correlation_id: str | None = None,
    ) -> ManualStart:
        """Start a pipeline by hand. Never sent twice; after OutcomeUnknown search first.

        An artifact is ``{"type": "docker/image", "name", "version", "reference"}``; ``trigger`` is what else the
        execution's trigger shall have. While an execution with the same ``correlation_id`` is live no second one is
        made, but then the id in the answer leads nowhere (spinnaker.md 1.5); one that has ended doesn't count
        (SqlExecutionRepository.retrievePipelineForCorrelationId).
        """
        body: dict[str, Any] = {
            **(trigger or {}), "type": "manual", "parameters": parameters or {}, "artifacts": list(artifacts)
        }  # fmt: skip
        if correlation_id:
            body["correlationId"] = correlation_id
        path = f"/pipelines/v2/{segment(application)}/{segment(name)}"
        answer = await self.http.request("POST", path, json=body)
        return ManualStart(answer.text("ref").rsplit("/", 1)[-1], optional_text(answer.object().get("eventId")))

    def execution_url(self, application: str, execution_id: str, stage: int = 0) -> str:
        """The execution's page in Deck."""
        path = f"/#/applications/{segment(application)}/executions/details/{segment(execution_id)}"
        return f"{self.deck_url}{path}?stage={stage}&step=0"

    def _in_deck(self, url: str | None) -> str | None:
        # Gate puts deckOrigin in front of it; older ones give the path alone.
        return f"{self.deck_url}{url}" if url and url.startswith("/") else url


def _filter(images: Sequence[Image]) -> str | None:
    """The filter that lets Gate send only what is wanted; None for more images than an address holds."""
    found = encoded_trigger(artifact_filter(images))
    return found if len(found) <= _FILTER else None
