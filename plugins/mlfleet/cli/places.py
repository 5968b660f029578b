"""From what somebody typed to a repository and its manifests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from mlfleet.manifest.diagnostics import nearest
from mlfleet.manifest.environments import SUFFIXES
from mlfleet.manifest.loading import Fleet, Loaded, Repository, check_against_rest, find_manifest, load_fleet


def repository_of(root: Path | None, paths: Sequence[Path]) -> Repository:
    """The repository at `root`, else the one around the first path, else the one around this folder.

    Raises click.UsageError when `root` is no folder.
    """
    if root is not None:
        if not root.is_dir():
            raise click.UsageError(f"there is no folder {root}")
        return Repository(root.resolve())
    around = (Repository.around(start) for start in (*paths[:1], Path.cwd()))
    return next((found for found in around if found), Repository(Path.cwd()))


def manifests_of(repository: Repository, paths: Sequence[Path]) -> list[Path]:
    """The manifests to look at for `paths`, each once, in the order given; all of the repository for none.

    A file of a project's code stands for the manifest of that project, and one of an environment for all manifests:
    a change of these can break them. Raises click.UsageError for a path that does not exist.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        if not path.exists():
            raise click.UsageError(f"there is no file or folder {path}")
        for manifest in _of_one(repository, path):
            found.setdefault(manifest.resolve(), manifest)
    return list(found.values()) if paths else repository.manifests()


def _of_one(repository: Repository, path: Path) -> Iterator[Path]:
    full = path.resolve()
    code = repository.folder_of("x").parent.resolve()
    if full == code or full.is_relative_to(repository.environments.resolve()):
        yield from repository.manifests()
    elif full.is_relative_to(code):
        manifest = find_manifest(repository, full.relative_to(code).parts[0])
        if manifest:
            yield manifest
    elif path.is_dir():
        yield from sorted(inner for inner in path.glob("*") if inner.suffix in SUFFIXES and inner.is_file())
    else:
        yield path


def load_one(root: Path | None, project: str) -> tuple[Fleet, Loaded, Repository]:
    """The manifest of a project by its name or by its path; raises click.UsageError when there is none."""
    path = Path(project)
    named_by_path = path.suffix in SUFFIXES and path.is_file()
    repository = repository_of(root, [path] if named_by_path else ())
    found = path if named_by_path else find_manifest(repository, project)
    if found is None:
        raise click.UsageError(_unknown(repository, project))
    fleet = load_fleet(repository, [found])
    check_against_rest(fleet, repository)
    return fleet, fleet.manifests[0], repository


def _unknown(repository: Repository, project: str) -> str:
    names = [path.stem for path in repository.manifests()]
    near = nearest(project, names)
    shown = names if len(names) <= 10 else [*names[:10], f"and {len(names) - 10} more (`mlfleet list`)"]
    hint = f"did you mean {near}?" if near else f"known: {', '.join(shown) or 'none'}"
    return f"there is no project {project!r} in {repository.shown(repository.projects)}; {hint}"
