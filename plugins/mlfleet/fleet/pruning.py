"""Removes old versions that `uploading` has made: never one in use, never the newest of a pipeline.

Old is a version that is older than asked for and not among the newest of its branch; of a branch that is gone, none is
kept. In use is what a run that has not ended or a recurring run names.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from mlfleet.clients.kfp import KFPClient, PipelineVersion
from mlfleet.clients.kfp_catalog import KFPCatalog
from mlfleet.errors import ConfigError, MlfleetError
from mlfleet.fleet.git import Git
from mlfleet.fleet.together import together
from mlfleet.manifest.pipeline_versions import branch_slug, slug_in


@dataclass(frozen=True)
class Rule:
    """``keep`` versions of each branch in ``alive`` (None: of every branch), and all that are newer than ``age``."""

    age: timedelta
    keep: int
    now: datetime
    fleet: str = "mlfleet"
    alive: frozenset[str] | None = None


@dataclass(frozen=True)
class Old:
    """A version that can go; ``failed`` is why it did not."""

    project: str
    version: PipelineVersion
    failed: str = ""


def old_versions(versions: Sequence[PipelineVersion], used: Iterable[str], rule: Rule) -> list[PipelineVersion]:
    """Those of one pipeline, newest first as `versions` are; what has no age that is known stays."""
    in_use, seen = set(used), Counter[str]()
    found = []
    for position, version in enumerate(versions):
        slug = slug_in(version.name)
        if slug is None or not version.description.startswith(f"{rule.fleet}: branch "):
            continue
        seen[slug] += 1
        kept = rule.keep if rule.alive is None or slug in rule.alive else 0
        young = version.created_at is None or version.created_at > rule.now - rule.age
        if position > 0 and seen[slug] > kept and not young and version.version_id not in in_use:
            found.append(version)
    return found


def live_branches(git: Git, remote: str) -> frozenset[str] | None:
    """The slugs of the branches at a remote, asked of it; None when it cannot be asked."""
    try:
        listed = git.text("ls-remote", "--heads", "--quiet", remote)
    except ConfigError:
        return None
    names = (line.partition("\trefs/heads/")[2] for line in listed.split("\n"))
    return frozenset(branch_slug(name) for name in names if name) or None


async def find_old(client: KFPClient, projects: Sequence[str], rule: Rule) -> list[Old]:
    """The old versions of the projects' pipelines. Raises RemoteError when what is in use cannot be told."""
    used = await _used(client)
    found: list[Old] = []
    for project in projects:
        pipeline = await client.get_pipeline_by_name(project)
        if pipeline is not None:
            versions = await client.list_versions(pipeline.pipeline_id)
            found += [Old(project, version) for version in old_versions(versions, used, rule)]
    return found


async def remove(client: KFPClient, old: Sequence[Old], parallel: int = 8) -> list[Old]:
    """Deletes them, but for those that came into use since they were found; those that failed say why."""
    used = await _used(client)
    gate = asyncio.Semaphore(parallel)

    async def one(each: Old) -> Old:
        if each.version.version_id in used:
            return Old(each.project, each.version, "it has come into use")
        async with gate:
            try:
                await client.delete_version(each.version.pipeline_id, each.version.version_id)
            except MlfleetError as error:
                return Old(each.project, each.version, str(error))
        return each

    return await together(one(each) for each in old)


async def _used(client: KFPClient) -> set[str]:
    """The ids of the versions in use."""
    runs = await client.unfinished_runs()
    recurring = await KFPCatalog(client.http, client.namespace).list_recurring_runs()
    named = [*(run.pipeline_version_id for run in runs), *(each.pipeline_version_id for each in recurring)]
    return {version_id for version_id in named if version_id}
