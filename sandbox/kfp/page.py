"""The sandbox's own page, outside ``/apis``: runs, and every task's inputs, outputs, artifacts and metadata."""

from __future__ import annotations

import html
import json
from typing import Any

from sandbox.kfp.records import pod_name
from sandbox.kfp.store import Document

_STYLE = """body{font:15px system-ui;margin:2em;color:#1f2328}table{border-collapse:collapse;width:100%}
td,th{text-align:left;padding:.5em;border-bottom:1px solid #d0d7de;vertical-align:top}pre{margin:0;font-size:13px;
white-space:pre-wrap;word-break:break-all}.SUCCEEDED{color:#1a7f37}.FAILED{color:#cf222e}.RUNNING{color:#0969da}"""
_LONG = 3000  # characters of a value that are shown
# The UI's addresses are fragments: …/#/runs/details/ID
_ROUTE = "const m = location.hash.match(/runs\\/details\\/([^?]+)/); if (m) location.replace('/runs/' + m[1]);"


def runs(documents: list[Document]) -> str:
    """All runs, newest first."""
    rows = "".join(
        f"<tr><td><a href='/runs/{_text(run['run_id'])}'>{_text(run['display_name'])}</a><td class={run['state']}>"
        f"{run['state']}<td>{run['created_at']}<td>{_text(run['run_id'])}</tr>"
        for run in reversed(documents)
    )
    return _page("Runs", f"<table><tr><th>run<th>state<th>created<th>id</tr>{rows}</table>")


def run(document: Document) -> str:
    """One run with its tasks."""
    rows = "".join(_task(document, task) for task in document["sandbox"]["tasks"])
    error = document.get("error", {}).get("message", "")
    executions = document["sandbox"]["executions"]
    twice = f"<p class=FAILED>executed {executions} times: submitted more than once</p>" if executions > 1 else ""
    head = (
        f"<p><b class={document['state']}>{document['state']}</b> {_text(error)}</p><p>{_text(document['run_id'])}</p>"
        f"{twice}<h2>Parameters</h2>{_json(document['runtime_config'])}<h2>Tasks</h2>"
    )
    names = "<tr><th>task<th>state<th>inputs<th>outputs</tr>"
    return _page(document["display_name"], f"{head}<table>{names}{rows}</table><p><a href='/'>all runs</a></p>")


def _task(document: Document, task: dict[str, Any]) -> str:
    log = f"/apis/v1alpha1/runs/{document['run_id']}/nodes/{pod_name(document['run_id'], task)}/log"
    cached = task.get("cached", False)
    link = f"<br><a href='{log}'>log</a>" if task["kind"] == "component" and not cached else ""
    return (
        f"<tr><td>{_text(task['path'])}{link}<td class={task['state']}>{task['state']}{' (cached)' if cached else ''}"
        f"<br>{_text(task.get('error', ''))}<td>{_json(task.get('inputs', {}))}"
        f"<td>{_json(task.get('outputs', {}))}</tr>"
    )


def _page(title: str, body: str) -> str:
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{_text(title)} - KFP (sandbox)</title>"
        f"<style>{_STYLE}</style><h1>{_text(title)} <small>Kubeflow Pipelines, a stand-in</small></h1>{body}"
        f"<script>{_ROUTE}setTimeout(() => location.reload(), 5000)</script></html>"
    )


def _json(value: Any) -> str:
    text = json.dumps(value, indent=1)
    return f"<pre>{_text(text if len(text) < _LONG else text[:_LONG] + '…')}</pre>"


def _text(value: str) -> str:
    return html.escape(str(value), quote=True)
