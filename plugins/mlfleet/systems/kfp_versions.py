"""Which uploaded version of a pipeline a manifest means, asked of the server when the task runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlfleet.clients.kfp import KFPClient
from mlfleet.clients.kfp_models import PipelineVersion, Predicate
from mlfleet.errors import NotFound, SpecError
from mlfleet.manifest.pipeline_versions import is_of_branch, is_of_commit
from mlfleet.systems.kfp_package import PipelinePackage, without_caching

_SHOWN = 5


async def find_version(client: KFPClient, pipeline: str, selector: Mapping[str, str]) -> PipelineVersion:
    """The newest version that the selector fits.

    ``selector`` is one of ``{"name"}`` (exactly that), ``{"branch"}`` and ``{"commit"}`` (`pipeline_versions`).
    Raises SpecError that names the newest versions that there are.
    """
    found = await client.get_pipeline_by_name(pipeline)
    if found is None:
        raise _none(pipeline, "there is no pipeline of that name; its versions are uploaded by CI")
    wanted = [Predicate("name", selector["name"])] if "name" in selector else []
    versions = await client.list_versions(found.pipeline_id, wanted)
    fitting = [version for version in versions if _fits(version.name, selector)]
    if fitting:
        return fitting[0]
    asked = " ".join(f"{word} {value}" for word, value in selector.items())
    there = versions or await client.list_versions(found.pipeline_id)
    hint = "" if "name" in selector else "; what changes nothing of a pipeline is not uploaded again"
    raise _none(pipeline, f"it has no version of {asked}; {_named(there)}{hint}")


async def read_version(client: KFPClient, pipeline: str, pipeline_id: str, version_id: str) -> PipelineVersion:
    """A version that was found before. Raises SpecError when it was removed meanwhile."""
    try:
        versions = await client.list_versions(pipeline_id, [Predicate("pipeline_version_id", version_id)])
    except NotFound:
        versions = []
    if not versions:
        raise _none(pipeline, f"its version {version_id}, which this task ran before, is gone")
    return versions[0]


def package_of(version: PipelineVersion, *, enable_caching: bool) -> PipelinePackage:
    """The compiled pipeline of a version, as `load_package` gives that of a file. Raises SpecError."""
    spec = version.spec
    ir, platform = spec.get("pipeline_spec", spec), spec.get("platform_spec")
    try:
        package = PipelinePackage(ir, platform)
        package.name  # noqa: B018 - a spec without it is no pipeline
    except (KeyError, TypeError, AttributeError):
        raise _none(version.name, "the server has no compiled pipeline of this version") from None
    return package if enable_caching else PipelinePackage(without_caching(ir), platform)


def _fits(name: str, selector: Mapping[str, str]) -> bool:
    if "branch" in selector:
        return is_of_branch(name, selector["branch"])
    if "commit" in selector:
        return is_of_commit(name, selector["commit"])
    return name == selector.get("name")


def _named(versions: Sequence[PipelineVersion]) -> str:
    if not versions:
        return "it has none"
    more = f" and {len(versions) - _SHOWN} older ones" if len(versions) > _SHOWN else ""
    return f"it has {', '.join(version.name for version in versions[:_SHOWN])}{more}"


def _none(pipeline: str, reason: str) -> SpecError:
    return SpecError("kfp", pipeline, "not submitted", reason)
