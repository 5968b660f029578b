"""Takes the documentation's pictures in the Airflow UI: a run's graph, the trigger form, an import error.

What can be shown is shown: the graph takes a run of price-suggestion, the error a manifest that is broken.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

DAG = "price-suggestion"
BASE = f"http://127.0.0.1:{os.environ.get('MLFLEET_AIRFLOW_PORT', '28080')}"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
SETTLE = 2000  # milliseconds for what moves to come to rest


def ask(path: str) -> Any:
    """A page of Airflow's API."""
    token = json.load(urllib.request.urlopen(f"{BASE}/auth/token", timeout=10))["access_token"]
    asked = urllib.request.Request(f"{BASE}/api/v2{path}", headers={"Authorization": f"Bearer {token}"})
    return json.load(urllib.request.urlopen(asked, timeout=10))


def graph(page: Page) -> bool:
    """The graph of the newest run; False when there is none."""
    runs = ask(f"/dags/{DAG}/dagRuns?order_by=-run_after&limit=1")["dag_runs"]
    if not runs:
        return False
    page.set_viewport_size({"width": 1400, "height": 560})
    page.goto(f"{BASE}/dags/{DAG}/runs/{runs[0]['dag_run_id']}", wait_until="networkidle")
    for button in ("Show Graph", "Expand all task groups", "Collapse Details Panel"):
        page.locator(f"button[aria-label^='{button}']").click()
        page.wait_for_timeout(SETTLE)
    page.locator(".react-flow__controls-fitview").click()
    page.wait_for_timeout(SETTLE)
    return True


def trigger_form(page: Page) -> bool:
    """The dialog in which a run is started by hand."""
    page.set_viewport_size({"width": 1100, "height": 900})
    page.goto(f"{BASE}/dags/{DAG}", wait_until="networkidle")
    page.locator("button[aria-label='Trigger Dag']").click()
    page.wait_for_timeout(SETTLE)
    return True


def import_error(page: Page) -> bool:
    """What Airflow says of a broken manifest; False when all are well."""
    if not ask("/importErrors")["import_errors"]:
        return False
    page.set_viewport_size({"width": 1100, "height": 700})
    page.goto(f"{BASE}/dags", wait_until="networkidle")
    page.locator("button[aria-label='Dag Import Error']").click()
    page.wait_for_timeout(SETTLE)
    page.get_by_text("broken/projects").first.click()
    page.wait_for_timeout(SETTLE)
    return True


PICTURES: dict[str, Callable[[Page], bool]] = {
    "dag.png": graph, "trigger-form.png": trigger_form, "import-error.png": import_error,
}  # fmt: skip


def main(folder: Path) -> None:
    """Writes the pictures that can be taken into ``folder``."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        for name, show in PICTURES.items():
            page = browser.new_page()
            taken = show(page)
            if taken:
                page.screenshot(path=str(folder / name))
            print(f"{name}: {'taken' if taken else 'nothing to show'}")
            page.close()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
