"""Unpacking one layer of an image over a copy of the layers below it.

The copy is made of hard links, so that a base of thousands of files costs nothing; therefore nothing here ever writes
into a file or changes its mode: what a layer brings is always a new file. Links in an image mean the image's own root;
they are kept as they are and never followed out of the folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from pathlib import Path, PurePosixPath

MOST_LINKS = 40  # as in the kernel
_OPAQUE, _WHITE_OUT = ".wh..wh..opq", ".wh."


class LayerError(Exception):
    """The layer is no layer, or wants to leave its folder."""


def unpack(blob: Path, parent: Path, target: Path) -> None:
    """``target`` becomes ``parent`` with the layer ``blob`` (a tar, compressed or not) applied.

    It appears only when it is complete. Raises LayerError, and then there is no ``target``.
    """
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        subprocess.run(["cp", "-al", str(parent), str(part)], check=True, capture_output=True)
        with tarfile.open(blob, "r:*") as archive:
            made: set[Path] = set()
            for member in archive:
                _apply(archive, member, part, made)
        part.rename(target)
    except (tarfile.TarError, OSError, subprocess.CalledProcessError) as error:
        raise LayerError(f"layer {blob.name} can't be unpacked: {error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _apply(archive: tarfile.TarFile, member: tarfile.TarInfo, root: Path, made: set[Path]) -> None:
    """One member: a white-out removes what lies below, anything else replaces it and is noted in ``made``."""
    path = inside(root, member.name)
    if path == root:
        return
    if path.name == _OPAQUE:
        _remove_older(path.parent, made)
        return
    made.add(path)
    if path.name.startswith(_WHITE_OUT):
        _remove(path.with_name(path.name.removeprefix(_WHITE_OUT)))
    elif member.isdir():
        _folder(path, member)
    elif member.issym():
        _clear(path)
        path.symlink_to(member.linkname)
    elif member.islnk():
        source = inside(root, member.linkname)
        _clear(path)
        os.link(source, path, follow_symlinks=False)
    elif member.isfile():
        _file(archive, member, path)
    # Device nodes need root; a container gets those that it needs when it starts.


def inside(root: Path, name: str) -> Path:
    """Where a member belongs: links on the way are followed as the image would follow them, from its own root.

    The last part is not followed, for it is what the member replaces. Raises LayerError for a name that climbs.
    """
    parts = PurePosixPath(name.lstrip("/")).parts
    if ".." in parts:
        raise LayerError(f"{name!r} leads out of the image")
    todo, here, links = list(reversed(parts)), root, 0
    while todo:
        part = todo.pop()
        if part == "..":
            here = here if here == root else here.parent
            continue
        if part == "/":
            here = root
            continue
        path = here / part
        if todo and path.is_symlink():
            links += 1
            if links > MOST_LINKS:
                raise LayerError(f"{name!r} leads through too many links")
            todo += reversed(PurePosixPath(os.readlink(path)).parts)
            continue
        here = path
    return here


def _folder(path: Path, member: tarfile.TarInfo) -> None:
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        _remove(path)
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(member.mode & 0o777 | 0o700)  # later members and layers must be able to come in


def _file(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    _clear(path)
    content = archive.extractfile(member)
    if content is None:
        raise LayerError(f"{member.name!r} has no content")
    with content, path.open("xb") as file:
        shutil.copyfileobj(content, file, 1 << 20)
    path.chmod(member.mode & 0o777 | 0o400)
    # Python's bytecode is bound to the time of its source.
    os.utime(path, (member.mtime, member.mtime))


def _clear(path: Path) -> None:
    _remove(path)
    path.parent.mkdir(parents=True, exist_ok=True)


def _remove_older(folder: Path, made: set[Path]) -> None:
    """Empties a folder of what layers below brought; this layer's own members may have come before the white-out."""
    for entry in list(folder.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            _remove_older(entry, made)
            if entry not in made and not any(entry.iterdir()):
                entry.rmdir()
        elif entry not in made:
            entry.unlink()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
