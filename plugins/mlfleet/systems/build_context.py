"""What goes into an image: the build context as a folder, and a hash that says whether two builds are the same."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from mlfleet.errors import ConfigError
from mlfleet.remote.job import digest

_CHUNK = 2**20
_IGNORED = shutil.ignore_patterns("__pycache__", "*.pyc", ".git", ".DS_Store", ".ipynb_checkpoints")


def assemble(source: Path, models: Mapping[str, str], target: Path, models_dest: str = "models") -> None:
    """Copies ``source`` and the models (slug: URI) to ``<target>/<models_dest>/<slug>/``, with modes 644 and 755.

    A URI is a file or a folder that fsspec can read; a folder's content is copied, not the folder.
    Raises ConfigError for what is not there, or would lie outside of ``target``.
    """
    if not source.is_dir():
        raise ConfigError(f"the build context {source} is not a folder", "image.context of the manifest")
    try:
        # Links are followed: projects share files that way, and buildah sees nothing outside of the context.
        shutil.copytree(source, target, ignore=_IGNORED, dirs_exist_ok=True)
    except shutil.Error as exc:
        first = exc.args[0][0]
        raise ConfigError(f"{first[0]} can't be copied into the build context: {first[2]}", str(source),
                          "Mend the file or the link") from exc  # fmt: skip
    base = (target / models_dest).resolve()
    if not base.is_relative_to(target.resolve()):
        raise ConfigError(f"image.models.dest {models_dest!r} leads out of the build context", "the manifest")
    for slug, uri in sorted(models.items()):
        _fetch(uri, base / slug, slug)
    for path in _tree(target):
        # git keeps only the executable bit, and a umask must not change an image's digest.
        path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)


def content_hash(context: Path, dockerfile: Path, build_args: Mapping[str, str], labels: Mapping[str, str]) -> str:
    """16 hex digits over everything that decides what an image will be; independent of times and places."""
    files = [[path.relative_to(context).as_posix(), *_described(path)] for path in _tree(context)]
    return digest([files, _of_file(dockerfile), dict(build_args), dict(labels)])[:16]


def _fetch(uri: str, target: Path, slug: str) -> None:
    import fsspec

    try:
        filesystem, path = fsspec.core.url_to_fs(uri)
        if not filesystem.exists(path):
            raise ConfigError(f"the model of experiment {slug} is not at {uri} any more", "the KFP run's artifacts",
                              "Clear the training task to make it again")  # fmt: skip
        target.mkdir(parents=True, exist_ok=True)
        if filesystem.isdir(path):
            filesystem.get(path.rstrip("/") + "/", f"{target}/", recursive=True)
        else:
            filesystem.get_file(path, str(target / path.rstrip("/").rpartition("/")[2]))
    except (ValueError, ImportError) as exc:
        raise ConfigError(f"the model of experiment {slug} at {uri} can't be read: {exc}", "",
                          "Install the fsspec package for this kind of address") from None  # fmt: skip


def _tree(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted([*folders, *files]):
            yield Path(folder) / name


def _described(path: Path) -> list[str]:
    if path.is_dir():
        return ["folder"]
    return ["program" if os.access(path, os.X_OK) else "file", _of_file(path)]


def _of_file(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
    return found.hexdigest()
