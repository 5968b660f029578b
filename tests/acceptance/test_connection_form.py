"""The connection form of the Airflow UI: our four types, with the fields that each system needs and no others."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.support.world import World

FIELDS = {
    "polyaxon": {"owner", "ui_url", "verify_ssl"},
    "kfp": {"namespace", "ui_url", "verify_ssl"},
    "spinnaker": {"deck_url", "auth", "verify_ssl"},
    "container_registry": {"verify_ssl"},
}


@pytest.fixture(scope="module")
def form(world: World) -> dict[str, dict[str, Any]]:
    """What the form is drawn from, by connection type."""
    base = world.settings.url("airflow")
    token = httpx.get(f"{base}/auth/token", timeout=30).json()["access_token"]
    answer = httpx.get(
        f"{base}/ui/connections/hook_meta", headers={"Authorization": f"Bearer {token}"}, timeout=60
    ).raise_for_status()
    return {entry["connection_type"]: entry for entry in answer.json()}


@pytest.mark.parametrize("conn_type", FIELDS)
def test_a_type_has_its_fields(form: dict[str, dict[str, Any]], conn_type: str) -> None:
    entry = form[conn_type]
    assert set(entry["extra_fields"]) == FIELDS[conn_type]
    for field in entry["extra_fields"].values():
        assert field["schema"]["title"]
    standard = entry["standard_fields"]
    assert not standard["host"].get("hidden")
    assert standard["url_schema"]["title"] == "Scheme (http or https)"


def test_a_token_goes_into_the_password(form: dict[str, dict[str, Any]]) -> None:
    assert form["polyaxon"]["standard_fields"]["password"]["title"] == "API token"
    assert form["polyaxon"]["standard_fields"]["login"]["hidden"]
