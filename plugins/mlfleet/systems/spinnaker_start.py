"""A tag that starts nothing: why (spinnaker.md 3.4), and starting its pipeline by hand (spinnaker.md 1.5)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from mlfleet.clients.spinnaker import ManualStart, SpinnakerClient
from mlfleet.clients.spinnaker_trigger import concurrency_warning, manual_trigger, trigger_problems
from mlfleet.errors import NotFound, RemoteError, RequestRefused
from mlfleet.systems.spinnaker_deployment import Deployment

_SILENT_CAUSES = (
    "the tag was used before (a tag fires once)",
    "the account that runs the trigger may not execute the application",
    "an expected artifact does not match",
    "igor has the first image of this account, or too many new ones at once (itemUpperThreshold)",
    "clouddriver can't list the repository's tags",
    "igor, echo or orca lost the event",
)


async def diagnosis(client: SpinnakerClient, wanted: Deployment) -> str:
    """Why a push started nothing: what the pipeline's configuration shows, else the causes that nothing shows."""
    where = f"pipeline {wanted.pipeline} of application {wanted.application}"
    try:
        config = await client.pipeline_config(wanted.application, wanted.pipeline)
    except NotFound:
        return f"there is no {where}. Create it, or correct deploy.spinnaker in the manifest"
    except RemoteError as exc:
        return f"the configuration of {where} could not be read ({exc})"
    problems = trigger_problems(config, wanted.repository, wanted.tag)
    if problems:
        return "; ".join(problems) + f". Correct the triggers of {where}"
    causes = "; ".join(_SILENT_CAUSES)
    warning = concurrency_warning(config)
    hint = f" ({warning})" if warning else ""
    return f"a trigger of {where} matches, so one of: {causes}{hint}"


async def start_by_hand(client: SpinnakerClient, wanted: Deployment) -> Callable[[], Awaitable[ManualStart]]:
    """The call that starts the pipeline with the image that the push would have brought, as Deck does it for a person.

    It is handed out and not made, so that the caller can look for an execution at the very last. The reference is by
    tag, as after a push: a tag is never reused, and expected artifacts match it.

    Raises RequestRefused when the pipeline can't be started. The call raises OutcomeUnknown when the answer was lost;
    asking again is safe while what the first one may have started is live, because both carry the same correlation id.
    """
    config = await client.pipeline_config(wanted.application, wanted.pipeline)
    if config.get("disabled"):
        # Gate would answer 202 and nothing would come of it.
        raise RequestRefused("spinnaker", f"pipeline {wanted.pipeline} is disabled, so it can't be started by hand")
    trigger = manual_trigger(config, wanted.repository, wanted.tag, wanted.digest)
    artifact = _artifact(wanted, str(trigger.get("registry") or wanted.registry))
    return lambda: client.start_manual(
        wanted.application,
        wanted.pipeline,
        artifacts=[artifact],
        trigger=trigger,
        correlation_id=wanted.correlation_id,
    )


def _artifact(wanted: Deployment, registry: str) -> dict[str, Any]:
    """The image as a push's event brings it (spinnaker.md 1.3)."""
    if not registry:
        raise RequestRefused(
            "spinnaker",
            f"{wanted.id} can't be started by hand: neither the docker trigger of pipeline {wanted.pipeline} nor the "
            "release names the registry",
        )
    name = f"{registry}/{wanted.repository}"
    return {"type": "docker/image", "name": name, "version": wanted.tag, "reference": f"{name}:{wanted.tag}"}
