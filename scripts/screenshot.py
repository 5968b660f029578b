"""Takes the README's picture: the graph of the newest price-suggestion run in the Airflow UI."""

from __future__ import annotations

import json
import os
import sys
import urllib.request

from playwright.sync_api import sync_playwright

DAG = "price-suggestion"
BASE = f"http://127.0.0.1:{os.environ.get('MLFLEET_AIRFLOW_PORT', '28080')}"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def newest_run() -> str:
    """The id of the run that started last."""
    token = json.load(urllib.request.urlopen(f"{BASE}/auth/token", timeout=10))["access_token"]
    asked = urllib.request.Request(
        f"{BASE}/api/v2/dags/{DAG}/dagRuns?order_by=-run_after&limit=1", headers={"Authorization": f"Bearer {token}"}
    )
    return str(json.load(urllib.request.urlopen(asked, timeout=10))["dag_runs"][0]["dag_run_id"])


def main(target: str) -> None:
    """Writes a PNG of 1400 by 560 points to `target`."""
    run = newest_run()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 560})
        page.goto(f"{BASE}/dags/{DAG}/runs/{run}", wait_until="networkidle")
        for button in ("Show Graph", "Expand all task groups", "Collapse Details Panel"):
            page.locator(f"button[aria-label^='{button}']").click()
            page.wait_for_timeout(2000)
        page.locator(".react-flow__controls-fitview").click()
        page.wait_for_timeout(2000)
        page.screenshot(path=target)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "docs/dag.png")
