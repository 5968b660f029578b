"""Kubeflow Pipelines v2beta1 over REST (kfp.md 4): experiments, pipelines, versions, runs, logs.

Traps this client knows:

* ``POST /runs`` with a run_id that exists makes a second execution before it answers 500, and a bad spec is a 500 too:
  it is sent once. GET first, POST only on NotFound, and after OutcomeUnknown look up for 120 s (kfp.md 4).
* Upload endpoints have another error shape; int64 arrives as text; empty lists are left out.
* A terminated run normally ends FAILED, not CANCELED: remember that you asked.
* ``finished_at`` of a live run is the epoch: here it is None. Look at ``state``.
* ``display_name EQUALS`` ignores case on MySQL: results are compared exactly again.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from mlfleet.clients.answers import optional_text
from mlfleet.clients.calls import Expect, segment
from mlfleet.clients.http import HttpClient, SystemClient
from mlfleet.clients.kfp_models import (
    TERMINAL,
    UNKNOWN_STATE,
    KFPRun,
    KFPTask,
    Pipeline,
    PipelineVersion,
    PolledRun,
    Predicate,
    RunPage,
    decode_poll,
    read_pipeline,
    read_poll,
    read_run,
    read_version,
)
from mlfleet.errors import Conflict, NotFound, OutcomeUnknown, RequestRefused

__all__ = [
    "TERMINAL",
    "UNKNOWN_STATE",
    "KFPClient",
    "KFPRun",
    "KFPTask",
    "Pipeline",
    "PipelineVersion",
    "PolledRun",
    "Predicate",
    "RunPage",
]

API = "/apis/v2beta1"
_PAGE = 200  # the server's maximum
_CHUNK = 100  # run ids in one filter: uuids, twice encoded, within the usual limit on the length of an address


class KFPClient(SystemClient):
    """One KFP server. ``namespace`` is needed in multi-user mode only; ``ui_url`` is where people reach the UI."""

    def __init__(self, http: HttpClient, namespace: str | None = None, ui_url: str | None = None) -> None:
        super().__init__(http)
        self.namespace = namespace or None
        self._ui_url = (ui_url or http.base_url).rstrip("/")

    async def healthz(self) -> dict[str, Any]:
        """``{"commit_sha", "tag_name", "multi_user", "pipeline_store"}``."""
        return (await self.http.request("GET", f"{API}/healthz")).object()

    # Experiments

    async def find_experiment(self, name: str) -> str | None:
        """The id of the experiment called exactly ``name``, None when there is none."""
        params = {"namespace": self.namespace, "page_size": _PAGE, "filter": _filter([Predicate("display_name", name)])}
        answer = await self.http.request("GET", f"{API}/experiments", params=params)
        for row in answer.objects("experiments"):
            if row.get("display_name") == name:
                return optional_text(row.get("experiment_id"))
        return None

    async def ensure_experiment(self, name: str, description: str = "") -> str:
        """The id of the experiment called ``name``, created if needed. Two callers at once get the same one."""
        found = await self.find_experiment(name)
        if found is not None:
            return found
        body = _without_none({"display_name": name, "description": description or None, "namespace": self.namespace})
        try:
            # Names are unique within the namespace: a second POST ends in 409.
            answer = await self.http.request("POST", f"{API}/experiments", json=body, repeatable=True)
            return answer.text("experiment_id")
        except Conflict:
            found = await self.find_experiment(name)
            if found is None:
                raise
            return found

    # Pipelines and versions

    async def get_pipeline_by_name(self, name: str) -> Pipeline | None:
        """The pipeline called ``name``, None when there is none."""
        path = f"{API}/pipelines/names/{segment(name)}"
        try:
            answer = await self.http.request("GET", path, params={"namespace": self.namespace})
        except NotFound:
            return None
        return read_pipeline(answer)

    async def ensure_pipeline(self, name: str, description: str = "") -> Pipeline:
        """The pipeline called ``name``, created empty if needed.

        Created empty because an upload would name the first version after the pipeline (kfp.md 5).
        """
        found = await self.get_pipeline_by_name(name)
        if found is not None:
            return found
        body = _without_none({"display_name": name, "description": description or None, "namespace": self.namespace})
        try:
            return read_pipeline(await self.http.request("POST", f"{API}/pipelines", json=body, repeatable=True))
        except Conflict:
            found = await self.get_pipeline_by_name(name)
            if found is None:
                raise
            return found

    async def upload_pipeline_version(
        self, pipeline_id: str, name: str, package: bytes, description: str = ""
    ) -> PipelineVersion:
        """Upload compiled YAML as a version. Never sent twice; see :meth:`ensure_version`.

        Raises Conflict when the pipeline has a version of that name, RequestRefused for a package that is no pipeline.
        """
        answer = await self.http.request(
            "POST",
            f"{API}/pipelines/upload_version",
            params={"name": name, "pipelineid": pipeline_id, "description": description or None},
            files={"uploadfile": ("pipeline.yaml", package, "application/yaml")},
        )
        return read_version(answer, answer.object())

    async def ensure_version(
        self, pipeline_id: str, name: str, package: bytes, description: str = ""
    ) -> tuple[PipelineVersion, bool]:
        """The version called ``name`` and whether this call uploaded it.

        Version names are unique within a pipeline (kfp.md 5), so an upload whose answer was lost is looked up by name.
        Whether an existing version has the same content is for the caller to compare (``spec``).
        """
        found = await self.find_version(pipeline_id, name)
        if found is not None:
            return found, False
        try:
            return await self.upload_pipeline_version(pipeline_id, name, package, description), True
        except (Conflict, OutcomeUnknown):
            found = await self.find_version(pipeline_id, name)
            if found is None:
                raise
            return found, True

    async def find_version(self, pipeline_id: str, name: str) -> PipelineVersion | None:
        """The version called exactly ``name``."""
        versions = await self.list_versions(pipeline_id, [Predicate("name", name)])
        return next((version for version in versions if version.name == name), None)

    async def list_versions(
        self, pipeline_id: str, predicates: Sequence[Predicate] = (), most: int | None = None
    ) -> list[PipelineVersion]:
        """The versions of a pipeline that satisfy ``predicates``, newest first, all or the first ``most``."""
        path = f"{API}/pipelines/{segment(pipeline_id)}/versions"
        found: list[PipelineVersion] = []
        token = ""
        while True:
            params = _page("created_at desc", token, predicates, min(most or _PAGE, _PAGE))
            answer = await self.http.request("GET", path, params=params)
            found += [read_version(answer, row) for row in answer.objects("pipeline_versions")]
            token = optional_text(answer.object().get("next_page_token")) or ""
            if not token or (most is not None and len(found) >= most):
                return found[:most]

    async def delete_version(self, pipeline_id: str, version_id: str) -> None:
        """Delete a version; one that is gone already is as good."""
        path = f"{API}/pipelines/{segment(pipeline_id)}/versions/{segment(version_id)}"
        with contextlib.suppress(NotFound):
            await self.http.request("DELETE", path, expect=Expect.JSON_OR_NOTHING)

    # Runs

    async def create_run(
        self,
        *,
        run_id: str,
        display_name: str,
        experiment_id: str,
        pipeline_spec: Mapping[str, Any] | None = None,
        pipeline_version_reference: Mapping[str, str] | None = None,
        parameters: Mapping[str, Any] | None = None,
        pipeline_root: str | None = None,
        description: str = "",
        service_account: str | None = None,
    ) -> KFPRun:
        """Start a run from a compiled spec (IR as JSON) or a ``{"pipeline_id", "pipeline_version_id"}``; sent once.

        ``run_id`` is a uuid of ours; servers honour it without promising so: compare the answer's (kfp.md 4).
        Raises OutcomeUnknown on any 5xx: a bad request is a 500 here, and so is a second POST of the same run_id, which
        leaves a duplicate execution behind.
        """
        runtime = _without_none({"parameters": dict(parameters or {}) or None, "pipeline_root": pipeline_root or None})
        body = _without_none(
            {
                "run_id": run_id,
                "display_name": display_name,
                "experiment_id": experiment_id,
                "description": description or None,
                "pipeline_spec": dict(pipeline_spec) if pipeline_spec is not None else None,
                "pipeline_version_reference": dict(pipeline_version_reference) if pipeline_version_reference else None,
                "runtime_config": runtime or None,
                "service_account": service_account,
            }
        )
        answer = await self.http.request("POST", f"{API}/runs", json=body)
        return read_run(answer, answer.object())

    async def get_run(self, run_id: str) -> KFPRun:
        """One run with its tasks. Raises NotFound."""
        answer = await self.http.request("GET", f"{API}/runs/{segment(run_id)}")
        return read_run(answer, answer.object())

    async def list_runs(
        self,
        predicates: Sequence[Predicate] = (),
        *,
        experiment_id: str | None = None,
        sort_by: str = "created_at desc",
        page_size: int = _PAGE,
        page_token: str = "",
    ) -> RunPage:
        """One page of runs that satisfy ``predicates``."""
        scope = {"experiment_id": experiment_id, "namespace": None if experiment_id else self.namespace}
        params = {**_page(sort_by, page_token, predicates, page_size), **scope}
        answer = await self.http.request("GET", f"{API}/runs", params=params)
        token = optional_text(answer.object().get("next_page_token")) or ""
        return RunPage(tuple(read_run(answer, row) for row in answer.objects("runs")), token)

    async def find_runs(self, display_name: str, experiment_id: str | None = None) -> list[KFPRun]:
        """All runs called exactly ``display_name``, oldest first: the way to find a run again (kfp.md 4)."""
        runs = await self._all([Predicate("display_name", display_name)], experiment_id)
        return [run for run in runs if run.display_name == display_name]

    async def unfinished_runs(self) -> list[KFPRun]:
        """All runs that may still do something, oldest first."""
        return await self._all([Predicate("state", state, "NOT_EQUALS") for state in sorted(TERMINAL)])

    async def runs_by_id(self, run_ids: Iterable[str]) -> dict[str, PolledRun]:
        """How many runs are, in few requests, without their details; the ones that do not exist are left out."""
        wanted = list(dict.fromkeys(run_ids))
        found: dict[str, PolledRun] = {}
        for start in range(0, len(wanted), _CHUNK):
            predicate = Predicate("run_id", wanted[start : start + _CHUNK], "IN")
            params = {**_page("created_at asc", "", [predicate]), "namespace": self.namespace}
            while True:
                answer = await self.http.request("GET", f"{API}/runs", params=params, decode=decode_poll)
                runs, token = read_poll(answer)
                found.update({run.run_id: run for run in runs})
                if not token:
                    break
                params["page_token"] = token
        return found

    async def _all(self, predicates: Sequence[Predicate], experiment_id: str | None = None) -> list[KFPRun]:
        found: list[KFPRun] = []
        token = ""
        while True:
            page = await self.list_runs(
                predicates, experiment_id=experiment_id, sort_by="created_at asc", page_token=token
            )
            found += page.runs
            token = page.next_page_token
            if not token:
                return found

    async def terminate(self, run_id: str) -> bool:
        """Ask for the end of a run; True when it is on its way there, False when the run is finished already.

        The run goes to CANCELING and normally ends FAILED (kfp.md 4). Raises NotFound.
        """
        try:
            await self._act(run_id, "terminate")
        except NotFound:
            raise
        except RequestRefused as exc:
            if exc.status != 400:
                raise
            # 400 "Row not found" is also the answer for a run that was terminated before and has not ended yet.
            run = await self.get_run(run_id)
            if not run.is_final and run.state != "CANCELING":
                raise
            return not run.is_final
        return True

    async def retry(self, run_id: str) -> None:
        """Run the failed tasks of a finished run again, under the same run_id. Raises RequestRefused when it can't."""
        await self._act(run_id, "retry", repeatable=False)

    async def _act(self, run_id: str, verb: str, repeatable: bool = True) -> None:
        path = f"{API}/runs/{segment(run_id)}:{verb}"
        await self.http.request("POST", path, expect=Expect.JSON_OR_NOTHING, repeatable=repeatable)

    async def node_log(self, run_id: str, node_id: str) -> str:
        """The whole log of one task, each time from its beginning; keep an offset.

        Raises NotFound when there is none, or none any more: the server says 200 before it looks, so its error is the
        text of the "log" (kfp.md 4).
        """
        path = f"/apis/v1alpha1/runs/{segment(run_id)}/nodes/{segment(node_id)}/log"
        answer = await self.http.request("GET", path, headers={"Accept": "*/*"}, expect=Expect.TEXT)
        text = answer.content.decode("utf-8", "replace")
        fault = _log_fault(text)
        if fault:
            raise NotFound(
                answer.system, "no log of this task", method="GET", url=answer.url, status=answer.status,
                reason=self.http.redact(fault),
            )  # fmt: skip
        return text

    def run_url(self, run_id: str) -> str:
        """The run's page in the KFP UI."""
        return f"{self._ui_url}/#/runs/details/{segment(run_id)}"


def _log_fault(text: str) -> str:
    """The server's error that came in place of a log, "" when it is a log."""
    if not text.startswith('{"error_'):
        return ""
    try:
        data = json.loads(text)
    except ValueError:
        return ""
    return str(data["error_message"]) if set(data) == {"error_message", "error_details"} else ""


def _filter(predicates: Sequence[Predicate]) -> str | None:
    if not predicates:
        return None
    text = json.dumps({"predicates": [p.as_json() for p in predicates]}, separators=(",", ":"))
    # The server unescapes a filter once more than other parameters: a "+" would arrive as a space, a "%" as an error.
    return quote(text, safe="")


def _page(sort: str, token: str, predicates: Sequence[Predicate], size: int = _PAGE) -> dict[str, str | int | None]:
    return {"page_size": size, "page_token": token or None, "sort_by": sort, "filter": _filter(predicates)}


def _without_none(body: Mapping[str, Any]) -> dict[str, Any]:
    """Unset fields are left out: a null for an unknown field is refused like a value (kfp.md 4)."""
    return {key: value for key, value in body.items() if value is not None}
