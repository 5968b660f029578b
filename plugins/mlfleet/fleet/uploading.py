"""Uploads compiled pipelines as versions, once.

A version's name is unique within its pipeline, so whatever happened before (a lost answer, a rerun of the same commit,
two runs at once) it is there at most once; one that is there is compared. A pipeline that is as the newest version of
its branch, or for a new branch as any version, is not uploaded again.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from mlfleet.clients.kfp import KFPClient, PipelineVersion, Predicate
from mlfleet.errors import MlfleetError, OutcomeUnknown
from mlfleet.fleet.compiling import Compiled
from mlfleet.fleet.ir import as_yaml, content_hash, first_difference, stored
from mlfleet.fleet.together import together
from mlfleet.manifest.pipeline_versions import branch_slug, slug_in, version_name

# Of a branch, newest first; more only when branches have names that begin alike.
_NEWEST = 20
# After a lost answer the server may still be storing it.
_LOOKS = (1.0, 3.0)


class Action(enum.StrEnum):
    """What became of a pipeline."""

    UPLOADED = "uploaded"
    VERIFIED = "verified"
    UNCHANGED = "unchanged"
    FAILED = "failed"
    # What only the command says: nobody was asked, or there was nothing to upload.
    PLANNED = "planned"
    REFUSED = "refused"


@dataclass(frozen=True)
class Source:
    """Where pipelines come from. ``fleet`` is written on what is made."""

    branch: str
    commit: str
    fleet: str = "mlfleet"

    @property
    def version(self) -> str:
        """The name of its versions."""
        return version_name(self.branch, self.commit)


@dataclass(frozen=True)
class Uploaded:
    """A project's pipeline: the version that has it now, or why none does."""

    project: str
    action: Action
    version: str
    why: str = ""


async def upload_all(
    client: KFPClient,
    pipelines: Sequence[Compiled],
    source: Source,
    *,
    parallel: int = 8,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> list[Uploaded]:
    """Each of the pipelines in the order given; one that fails takes no other with it."""
    gate = asyncio.Semaphore(parallel)

    async def one(compiled: Compiled) -> Uploaded:
        async with gate:
            try:
                return await _upload(client, compiled, source, sleep)
            except MlfleetError as error:
                return Uploaded(compiled.declared.project, Action.FAILED, source.version, str(error))

    return await together(one(compiled) for compiled in pipelines)


async def _upload(
    client: KFPClient, compiled: Compiled, source: Source, sleep: Callable[[float], Awaitable[None]]
) -> Uploaded:
    project, name = compiled.declared.project, source.version
    pipeline = await client.ensure_pipeline(project, f"{source.fleet}: include/projects/{project}.yaml")
    present = await client.find_version(pipeline.pipeline_id, name)
    if present is not None:
        return _verified(compiled, present)
    same = await _same(client, pipeline.pipeline_id, compiled, source)
    if same is not None:
        return Uploaded(project, Action.UNCHANGED, same.name)
    description = f"{source.fleet}: branch {source.branch}, commit {source.commit}, {_mark(compiled)}"
    package = as_yaml(compiled.package).encode()
    for wait in (*_LOOKS, None):
        try:
            made, _ = await client.ensure_version(pipeline.pipeline_id, name, package, description)
        except OutcomeUnknown:
            if wait is None:
                raise
            await sleep(wait)
        else:
            # An answer may leave the content out; what another one has uploaded meanwhile has it.
            return _verified(compiled, made, Action.UPLOADED) if made.spec else Uploaded(project, Action.UPLOADED, name)
    raise AssertionError("the last look raises")


async def _same(
    client: KFPClient, pipeline_id: str, compiled: Compiled, source: Source
) -> PipelineVersion | None:  # fmt: skip
    """The version that makes an upload needless: the branch's newest, if it has any, else the newest with this content.

    Only the branch's newest, because whoever takes that must get what the branch has now.
    """
    slug = branch_slug(source.branch)
    alike = await client.list_versions(pipeline_id, [Predicate("name", f"{slug}_", "IS_SUBSTRING")], _NEWEST)
    of_branch = [version for version in alike if slug_in(version.name) == slug]
    if of_branch:
        # KFP counts in seconds: among several of the newest one nobody can tell which came last.
        newest = [version for version in of_branch if version.created_at == of_branch[0].created_at]
        return newest[0] if all(_has(version, compiled) for version in newest) else None
    marked = await client.list_versions(pipeline_id, [Predicate("description", _mark(compiled), "IS_SUBSTRING")], 1)
    return next((version for version in marked if _has(version, compiled)), None)


def _mark(compiled: Compiled) -> str:
    """What versions with the same content have in their description."""
    return f"content {compiled.hash}"


def _has(version: PipelineVersion, compiled: Compiled) -> bool:
    return bool(version.spec) and content_hash(stored(version.spec)) == compiled.hash


def _verified(compiled: Compiled, version: PipelineVersion, action: Action = Action.VERIFIED) -> Uploaded:
    project = compiled.declared.project
    if _has(version, compiled):
        return Uploaded(project, action, version.name)
    found = first_difference(compiled.package, stored(version.spec)) if version.spec else "it shows no content"
    return Uploaded(project, Action.FAILED, version.name,
                    f"the server has a version {version.name} with other content: {found}")  # fmt: skip
