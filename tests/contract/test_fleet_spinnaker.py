"""Spinnaker's application and pipelines from a template, against the sandbox's Gate: saved, planned again, retired."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlfleet.clients.http import HttpClient
from mlfleet.clients.retry import RetryPolicy
from mlfleet.clients.spinnaker_configs import SpinnakerConfigs
from mlfleet.errors import RequestRefused
from mlfleet.fleet.apply import Applied, Outcome, apply_steps, steps_of
from mlfleet.fleet.connecting import Wire
from mlfleet.fleet.plan import Plan
from tests.support.fleet import Between, Crash, FleetRepository, connections
from tests.support.processes import REPOSITORY
from tests.support.spinnaker import Spinnaker, start_registry

DEPLOYING = """\
kind: Project
name: {name}
owners: [{{github: "@acme/pricing", email: pricing@example.com}}]
experiments: [{{name: default}}]
image: {{repository: ml/{name}}}
deploy: {{spinnaker: {{application: {name}, pipeline: deploy-model}}}}
"""
PLACE = "registry: registry.example.com\nspinnaker: {account: acme, template: include/spinnaker/deploy.yaml}\n"


@pytest.fixture(scope="module")
def spinnaker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spinnaker]:
    folder = tmp_path_factory.mktemp("spinnaker")
    with start_registry(folder) as registry:
        stand_in = Spinnaker(folder, registry)
        stand_in.start()
        yield stand_in
        stand_in.close()


@pytest.fixture
def fleet(tmp_path: Path, request: pytest.FixtureRequest) -> FleetRepository:
    name = f"p{abs(hash(request.node.name)) % 10**8}"
    fleet = FleetRepository(tmp_path / "repository", name, PLACE)
    add(fleet, name)
    (fleet.root / "include" / "spinnaker").mkdir()
    shutil.copy(REPOSITORY / "include" / "spinnaker" / "deploy.yaml", fleet.root / "include" / "spinnaker")
    return fleet


def add(fleet: FleetRepository, name: str) -> None:
    fleet.manifest(name).write_text(DEPLOYING.format(name=name))
    code = fleet.root / "include" / "pipelines" / name
    code.mkdir()
    (code / "Dockerfile").write_text("FROM scratch\n")


def prepared(fleet: FleetRepository, spinnaker: Spinnaker, transport: httpx.AsyncBaseTransport | None = None) -> Any:
    return fleet.prepared(Wire(connections(spinnaker=str(spinnaker.http.base_url)), transport, RetryPolicy.once()))


def plan(fleet: FleetRepository, spinnaker: Spinnaker) -> Plan:
    found: Plan = prepared(fleet, spinnaker).plan()
    return found


def apply(
    fleet: FleetRepository, spinnaker: Spinnaker, transport: httpx.AsyncBaseTransport | None = None, prune: bool = False
) -> Applied:
    ready = prepared(fleet, spinnaker, transport)
    applied = steps_of(ready.plan(), prune=prune)
    asyncio.run(apply_steps(applied, ready.systems, concurrency=1))
    return applied


def changes(found: Plan) -> dict[str, str]:
    return {f"{change.kind.value} {change.name}": change.action.value for change in found.changes}


def config(spinnaker: Spinnaker, application: str, name: str) -> dict[str, Any]:
    answer = spinnaker.http.get(f"/applications/{application}/pipelineConfigs/{name}").raise_for_status()
    return dict(answer.json())


def test_an_application_and_its_pipelines(fleet: FleetRepository, spinnaker: Spinnaker) -> None:
    name = fleet.mark
    assert changes(plan(fleet, spinnaker)) == {
        f"Spinnaker application {name}": "create",
        f"Spinnaker pipeline {name}/deploy-model": "create",
        f"Spinnaker pipeline {name}/rollback": "create",
    }
    assert {step.outcome for step in apply(fleet, spinnaker).steps} == {Outcome.DONE}
    assert changes(plan(fleet, spinnaker)) == {}
    assert spinnaker.http.get(f"/applications/{name}").json()["attributes"]["email"] == "pricing@example.com"
    saved = config(spinnaker, name, "deploy-model")
    (trigger,) = saved["triggers"]
    assert (trigger["account"], trigger["repository"], trigger["tag"]) == ("acme", f"ml/{name}", "^release-.*$")
    assert [stage["type"] for stage in saved["stages"]] == ["kayentaCanary", "manualJudgment", "deployManifest"]
    enabled = [stage.get("stageEnabled", {}).get("expression") for stage in saved["stages"]]
    assert enabled == ["true", "true", None]


def test_the_trigger_has_the_manifests_tag_pattern(fleet: FleetRepository, spinnaker: Spinnaker) -> None:
    manifest = next(fleet.root.glob("include/projects/*.yaml"))
    pattern = "release-[0-9a-f]+-[0-9]+"
    manifest.write_text(manifest.read_text().replace("spinnaker: {", f"spinnaker: {{tag_pattern: '{pattern}', "))
    apply(fleet, spinnaker)
    assert [trigger["tag"] for trigger in config(spinnaker, fleet.mark, "deploy-model")["triggers"]] == [pattern]


def test_a_manifest_that_goes_without_a_canary_and_a_judgment(fleet: FleetRepository, spinnaker: Spinnaker) -> None:
    apply(fleet, spinnaker)
    manifest = next(fleet.root.glob("include/projects/*.yaml"))
    manifest.write_text(manifest.read_text().replace("deploy: {", "deploy: {canary: false, judgment: false, "))
    assert changes(plan(fleet, spinnaker)) == {f"Spinnaker pipeline {fleet.mark}/deploy-model": "change"}
    apply(fleet, spinnaker)
    saved = config(spinnaker, fleet.mark, "deploy-model")
    assert [stage.get("stageEnabled", {}).get("expression") for stage in saved["stages"]] == ["false", "false", None]


def test_what_a_person_switched_off_stays_off_and_what_they_edited_is_drift(
    fleet: FleetRepository, spinnaker: Spinnaker
) -> None:
    apply(fleet, spinnaker)
    saved = config(spinnaker, fleet.mark, "deploy-model")
    edited = {**saved, "disabled": True, "stages": saved["stages"][2:]}
    spinnaker.http.post("/pipelines", json=edited).raise_for_status()
    assert changes(plan(fleet, spinnaker)) == {f"Spinnaker pipeline {fleet.mark}/deploy-model": "drift"}
    apply(fleet, spinnaker)
    after = config(spinnaker, fleet.mark, "deploy-model")
    assert (after["disabled"], len(after["stages"]), after["id"]) == (True, 3, saved["id"])
    assert changes(plan(fleet, spinnaker)) == {}


def test_a_pipeline_that_was_made_by_hand_is_taken_over_with_its_id(
    fleet: FleetRepository, spinnaker: Spinnaker
) -> None:
    by_hand = {"id": "by-hand", "application": fleet.mark, "name": "deploy-model", "stages": []}
    spinnaker.http.post("/pipelines", json=by_hand).raise_for_status()
    assert changes(plan(fleet, spinnaker))[f"Spinnaker pipeline {fleet.mark}/deploy-model"] == "change"
    apply(fleet, spinnaker)
    assert config(spinnaker, fleet.mark, "deploy-model")["id"] == "by-hand"
    assert changes(plan(fleet, spinnaker)) == {}


def test_a_project_that_is_gone_is_disabled_with_prune(fleet: FleetRepository, spinnaker: Spinnaker) -> None:
    apply(fleet, spinnaker)
    fleet.manifest(fleet.mark).unlink()
    add(fleet, f"{fleet.mark}-too")
    orphans = [key for key, action in changes(plan(fleet, spinnaker)).items() if action == "orphan"]
    assert orphans == [f"Spinnaker pipeline {fleet.mark}/deploy-model", f"Spinnaker pipeline {fleet.mark}/rollback"]
    apply(fleet, spinnaker)
    assert "disabled" not in config(spinnaker, fleet.mark, "deploy-model")
    apply(fleet, spinnaker, prune=True)
    assert config(spinnaker, fleet.mark, "deploy-model")["disabled"] is True
    assert changes(plan(fleet, spinnaker)) == {}


# Two lists, the application's task and a look at it, two pipelines.
@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("answer", ["not sent", "lost"])
def test_a_crash_at_any_request_is_cured_by_a_rerun(
    fleet: FleetRepository, spinnaker: Spinnaker, number: int, answer: str
) -> None:
    async def die(now: int, request: httpx.Request, send: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
        if now == number:
            if answer == "lost":
                await send()
            raise Crash
        return await send()

    with pytest.raises(BaseException) as caught:
        apply(fleet, spinnaker, Between(die))
    assert isinstance(caught.value, Crash) or caught.group_contains(Crash)
    apply(fleet, spinnaker)
    assert changes(plan(fleet, spinnaker)) == {}
    configs = spinnaker.http.get(f"/applications/{fleet.mark}/pipelineConfigs").json()
    assert sorted(each["name"] for each in configs) == ["deploy-model", "rollback"]


def test_an_application_that_is_refused_keeps_its_pipelines_waiting(
    fleet: FleetRepository, spinnaker: Spinnaker
) -> None:
    template = fleet.root / "include" / "spinnaker" / "deploy.yaml"
    template.write_text(template.read_text().replace("  email: ${owner.email}\n", ""))
    applied = apply(fleet, spinnaker)
    (failed,) = applied.of(Outcome.FAILED)
    assert "email cannot be empty" in failed.why
    assert {step.why for step in applied.of(Outcome.NOT_TRIED)} == {f"its application {fleet.mark} was not saved"}


def test_the_rules_of_front50(spinnaker: Spinnaker) -> None:
    async def save(**config: Any) -> None:
        async with HttpClient(str(spinnaker.http.base_url), system="spinnaker", retry=RetryPolicy.once()) as http:
            await SpinnakerConfigs(http).save_pipeline(config)

    asyncio.run(save(id="1", application="rules", name="Deploy", custom="kept"))
    asyncio.run(save(id="1", application="rules", name="Deploy", custom="kept"))
    with pytest.raises(RequestRefused, match="already exists in application rules"):
        asyncio.run(save(id="2", application="rules", name="deploy"))
    with pytest.raises(RequestRefused, match="requires name and application"):
        asyncio.run(save(id="3", application="rules"))
    (known,) = [each for each in spinnaker.http.get("/pipelineConfigs").json() if each["application"] == "rules"]
    assert (known["id"], known["custom"]) == ("1", "kept")
