"""What the stages do; each is a coroutine that returns the stage's final status."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from sandbox.spinnaker.container import Container, ContainerError
from sandbox.spinnaker.images import ImageError, Images
from sandbox.spinnaker.model import Execution, Stage, Store, now_ms
from sandbox.spinnaker.production import Production
from sandbox.spinnaker.switches import Switches

JUDGMENT_POLL_SECONDS = 1.0  # 15 in orca
MARGINAL, PASS = 50.0, 75.0


class StageFailed(Exception):
    """The stage failed; the text becomes its exception details."""


class StageRunner:
    """The stages that the sandbox knows, over what it deploys."""

    def __init__(self, production: Production, images: Images, store: Store, switches: Switches) -> None:
        self._production = production
        self._images = images
        self._store = store
        self._switches = switches
        self.known: dict[str, Callable[[Execution, Stage], Awaitable[str]]] = {
            "wait": self._wait,
            "kayentaCanary": self._canary,
            "canary": self._canary,
            "manualJudgment": self._judgment,
            "deployManifest": self._deploy,
            "undoRolloutManifest": self._rollback,
            "rollback": self._rollback,
        }

    async def run(self, execution: Execution, stage: Stage) -> str:
        """Runs the stage to its end and returns its status; its own failures become its exception details."""
        work = self.known.get(stage["type"])
        try:
            if _switched_off(stage):
                return "SKIPPED"
            if work is None:
                raise StageFailed(f"the sandbox has no stage of type {stage['type']}; it has {', '.join(self.known)}")
            milliseconds = stage["context"].get("stageTimeoutMs")
            async with asyncio.timeout(milliseconds / 1000 if milliseconds else None) as limit:
                return await work(execution, stage)
        except TimeoutError:
            if not limit.expired():
                raise
            return self._failed(stage, StageFailed(f"{stage['name']} took longer than {milliseconds} ms"))
        except (StageFailed, ContainerError, ImageError) as error:
            return self._failed(stage, error)

    @staticmethod
    def _failed(stage: Stage, error: Exception) -> str:
        stage["context"]["exception"] = {
            "timestamp": now_ms(), "exceptionType": type(error).__name__, "shouldRetry": False,
            "details": {"error": str(error), "errors": [str(error)]},
        }  # fmt: skip
        return failure_status(stage)

    async def _wait(self, execution: Execution, stage: Stage) -> str:
        await asyncio.sleep(float(stage["context"].get("waitTime", 1)))
        return "SUCCEEDED"

    async def _deploy(self, execution: Execution, stage: Stage) -> str:
        repository, tag, digest, reference = await self._image(execution)
        await self._production.deploy(execution["application"], repository, tag, digest, execution["id"])
        artifact = {
            "type": "docker/image",
            "name": reference.partition("@")[0] if "@" in reference else reference.rpartition(":")[0],
            "version": tag,
            "reference": reference,
        }
        manifest = {
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": execution["application"]},
            "spec": {"template": {"spec": {"containers": [{"name": "model", "image": reference}]}}},
        }  # fmt: skip
        # Literal key names with a dot: orca's PromoteManifestKatoOutputsTask (reference spinnaker.md, 1.3).
        found = {"outputs.manifests": [manifest], "outputs.boundArtifacts": [artifact], "outputs.createdArtifacts": []}
        stage["context"].update(found)
        stage["outputs"].update({**found, "manifests": [manifest], "artifacts": [artifact]})
        return "SUCCEEDED"

    async def _rollback(self, execution: Execution, stage: Stage) -> str:
        stage["outputs"]["broughtBack"] = await self._production.rollback(execution["application"])
        return "SUCCEEDED"

    async def _judgment(self, execution: Execution, stage: Stage) -> str:
        context = stage["context"]
        context.setdefault("judgmentStatus", "")
        while True:
            await asyncio.sleep(JUDGMENT_POLL_SECONDS)
            status = str(context.get("judgmentStatus", "")).lower()
            if status and self._switches.judgment_role_denied:
                # A caller without the role got 200; orca takes the judgment back (reference spinnaker.md, 1.7).
                context["judgmentStatus"] = ""
                self._store.save(execution)
            elif status == "continue":
                return "SUCCEEDED"
            elif status == "stop":
                return failure_status(stage)

    async def _canary(self, execution: Execution, stage: Stage) -> str:
        baseline = self._production.server(execution["application"])
        if baseline is None:
            stage["context"]["canaryScoreMessage"] = "Nothing is deployed yet, so there is nothing to compare with."
            return "SUCCEEDED"
        repository, tag, digest, _ = await self._image(execution)
        canary = await self._production.run_beside(execution["application"], repository, tag, digest)
        try:
            score = await _score(stage["context"], baseline, canary)
        finally:
            await canary.stop()
        stage["context"]["canaryScores"] = [score]
        stage["context"]["canaryScoreMessage"] = f"Final canary score {score} {_verdict(score)} score threshold."
        if score < PASS:
            raise StageFailed(stage["context"]["canaryScoreMessage"])
        return "SUCCEEDED"

    async def _image(self, execution: Execution) -> tuple[str, str, str, str]:
        """Repository, tag, digest and reference of the image that the trigger brought."""
        artifact = _image_artifact(execution["trigger"])
        reference = str(artifact["reference"])
        path = reference.partition("/")[2]
        if "@" in path:
            repository, _, digest = path.partition("@")
            return repository, str(artifact.get("version") or digest[7:19]), digest, reference
        repository, _, tag = path.rpartition(":")
        return repository, tag, await asyncio.to_thread(self._images.digest, repository, tag), reference


def _image_artifact(trigger: dict[str, Any]) -> dict[str, Any]:
    """The image that a trigger brought, bound or not.

    A person who starts a docker-triggered pipeline again brings repository and tag only (reference spinnaker.md, 1.4).
    """
    bound = [each["boundArtifact"] for each in trigger.get("resolvedExpectedArtifacts") or []]
    for artifact in (*bound, *(trigger.get("artifacts") or [])):
        if artifact.get("type") == "docker/image":
            return dict(artifact)
    if trigger.get("repository") and trigger.get("tag"):
        name = f"{trigger.get('registry') or 'registry'}/{trigger['repository']}"
        return {"type": "docker/image", "version": trigger["tag"], "reference": f"{name}:{trigger['tag']}"}
    raise StageFailed("the trigger brought no image: no artifact of type docker/image")


def _switched_off(stage: Stage) -> bool:
    """A stage whose condition is the plain word false; other expressions are not evaluated here and count as true."""
    expression = str((stage["context"].get("stageEnabled") or {}).get("expression", "true"))
    return expression.strip("${} ").lower() == "false"


def failure_status(stage: Stage) -> str:
    """What a failed stage becomes (reference spinnaker.md, 2): go on, end it all, or end this branch."""
    context = stage["context"]
    if context.get("continuePipeline"):
        return "FAILED_CONTINUE"
    return "TERMINAL" if context.get("failPipeline", True) in (True, None) else "STOPPED"


def _verdict(score: float) -> str:
    if score <= MARGINAL:
        return "is not above the marginal"
    return "is below the pass" if score < PASS else "met or exceeded the pass"


async def _score(context: dict[str, Any], baseline: Container, canary: Container) -> float:
    """Percentage of the configured requests that both servers answer alike.

    Two numbers are alike when they differ by at most ``toleratedDifference`` of the larger one, or by at most
    ``toleratedAbsolute``, which is for numbers around zero. A request that the server of today can't answer
    is passed by any answer.
    """
    requests, path = context.get("requests", []), context.get("path", "/predict")
    limits = float(context.get("toleratedDifference", 0.5)), float(context.get("toleratedAbsolute", 0.0))
    alike = 0
    for body in requests:
        expected, got = await asyncio.gather(_numbers(baseline, path, body), _numbers(canary, path, body))
        alike += got is not None and (expected is None or _close(expected, got, *limits))
    return round(100 * alike / len(requests), 1) if requests else 100.0


async def _numbers(server: Container, path: str, body: Any) -> list[float] | None:
    try:
        async with httpx.AsyncClient(timeout=15, trust_env=False) as client:
            answer = await client.post(f"http://127.0.0.1:{server.port}{path}", json=body)
        return [float(value) for value in answer.raise_for_status().json()["predictions"]]
    except (httpx.HTTPError, ValueError, TypeError, LookupError):
        return None


def _close(expected: list[float], got: list[float], relative: float, absolute: float) -> bool:
    if len(expected) != len(got):
        return False
    return all(math.isclose(a, b, rel_tol=relative, abs_tol=absolute) for a, b in zip(expected, got, strict=True))
