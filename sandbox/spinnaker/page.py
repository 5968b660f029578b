"""What people see: applications, what is deployed, executions with their stages. Deck's addresses lead here."""

from __future__ import annotations

import html
import time
from typing import Any

from sandbox.spinnaker.model import Execution, pending_judgments
from sandbox.spinnaker.production import Production

_COLOURS = {"SUCCEEDED": "#1a7f37", "TERMINAL": "#cf222e", "CANCELED": "#9a6700", "RUNNING": "#0969da",
            "STOPPED": "#cf222e", "NOT_STARTED": "#6e7781"}  # fmt: skip
# Deck's links are fragments: …/#/applications/churn/executions/details/ID
_SCRIPT = """
const id = (location.hash.match(/executions\\/details\\/([^?]+)/) || [])[1];
const row = id && document.getElementById(id);
if (row) { row.scrollIntoView(); row.style.outline = '2px solid #0969da'; }
setTimeout(() => location.reload(), 5000);
"""


def render(production: Production, executions: list[Execution]) -> str:
    """The whole page, executions newest first."""
    deployed = "".join(_deployed(name, version) for name, version in sorted(production.deployed.items()))
    rows = "".join(_row(execution) for execution in executions)
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Spinnaker (sandbox)</title>
<style>body{{font:15px system-ui;margin:2em;color:#1f2328}}table{{border-collapse:collapse;width:100%}}
td,th{{text-align:left;padding:.5em;border-bottom:1px solid #d0d7de;vertical-align:top}}
.stage{{display:inline-block;color:#fff;border-radius:4px;padding:.1em .5em;margin:.1em}}code{{font-size:13px}}</style>
<h1>Spinnaker <small>a stand-in of the mlfleet sandbox</small></h1>
<h2>Deployed</h2><table><tr><th>application<th>tag<th>digest<th>since<th>former</tr>{deployed}</table>
<h2>Executions</h2><table><tr><th>execution<th>pipeline<th>trigger<th>status<th>stages</tr>{rows}</table>
<script>{_SCRIPT}</script></html>"""


def _deployed(name: str, version: dict[str, Any]) -> str:
    former = (version.get("former") or {}).get("tag", "")
    return _cells(_text(name), _text(version["tag"]), f"<code>{_text(version['digest'][:19])}…</code>",
                  _when(version["since"]), _text(former))  # fmt: skip


def _row(execution: Execution) -> str:
    stages = "".join(_stage(stage) for stage in execution["stages"])
    waiting = pending_judgments(execution)
    note = f"<br>waits for: {_text(', '.join(waiting))}" if waiting else _text(execution["cancellationReason"] or "")
    trigger = execution["trigger"]
    cells = _cells(
        f"<code>{_text(execution['id'])}</code><br>{_when(execution['buildTime'])}",
        _text(f"{execution['application']} / {execution['name']}"),
        _text(f"{trigger['type']} {trigger.get('tag', '')}"),
        f"<b style='color:{_COLOURS.get(execution['status'], '#000')}'>{_text(execution['status'])}</b> {note}", stages,
    )  # fmt: skip
    return cells.replace("<tr>", f'<tr id="{_text(execution["id"])}">', 1)


def _stage(stage: dict[str, Any]) -> str:
    details = stage["context"].get("exception", {}).get("details", {}).get("error", "")
    hint = _text(f"{stage['status']} {details or stage['context'].get('canaryScoreMessage', '')}")
    colour = _COLOURS.get(stage["status"], "#6e7781")
    return f'<span class="stage" style="background:{colour}" title="{hint}">{_text(stage["name"])}</span>'


def _cells(*cells: str) -> str:
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _text(value: str) -> str:
    return html.escape(value, quote=True)


def _when(milliseconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(milliseconds / 1000))
