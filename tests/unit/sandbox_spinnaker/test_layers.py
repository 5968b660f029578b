"""Layers are unpacked over hard links: whatever they hold, nothing outside and nothing below them may change."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from sandbox.spinnaker.layers import LayerError, unpack


def file(name: str, content: str = "", mode: int = 0o644) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(content), mode, 1_000_000
    return info, content.encode()


def folder(name: str, mode: int = 0o755) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, mode
    return info, b""


def link(name: str, target: str, hard: bool = False) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = tarfile.LNKTYPE if hard else tarfile.SYMTYPE, target, 0o777
    return info, b""


class Chain:
    """Layers of one image, one over the other."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.top = home / "empty"
        self.top.mkdir()
        self.count = 0

    def add(self, *members: tuple[tarfile.TarInfo, bytes], compressed: bool = True) -> Path:
        self.count += 1
        blob, target = self.home / f"{self.count}.tar", self.home / f"layer-{self.count}"
        with tarfile.open(blob, "w:gz" if compressed else "w") as archive:
            for info, content in members:
                archive.addfile(info, io.BytesIO(content))
        unpack(blob, self.top, target)
        self.top = target
        return target


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return Chain(tmp_path)


def tree(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_a_layer_brings_files_folders_and_links(chain: Chain) -> None:
    root = chain.add(
        folder("etc"), file("etc/a", "one", 0o4755), file("./new/deep/b", "two"), link("abs", "/etc/a"),
        link("hard", "etc/a", hard=True), link("dangling", "../../../nowhere"), compressed=False,
    )  # fmt: skip
    assert tree(root) == ["abs", "dangling", "etc", "etc/a", "hard", "new", "new/deep", "new/deep/b"]
    assert (root / "etc/a").read_text() == "one"
    # No rights of another user; the time, on which Python's bytecode depends, is kept.
    assert ((root / "etc/a").stat().st_mode & 0o7777, (root / "etc/a").stat().st_mtime) == (0o755, 1_000_000)
    assert (root / "hard").samefile(root / "etc/a")
    # Links mean the image's root and are kept as they are.
    assert (os.readlink(root / "abs"), os.readlink(root / "dangling")) == ("/etc/a", "../../../nowhere")


def test_a_file_that_is_replaced_stays_as_it_was_below(chain: Chain) -> None:
    below = chain.add(file("a", "old"), file("b", "same"), link("c", "b"), folder("d"), file("d/e", "x"))
    above = chain.add(file("a", "new", 0o600), file("c", "no link any more"), file("d", "a file now"))
    assert (below / "a").read_text() == "old"
    assert (below / "a").stat().st_mode & 0o777 == 0o644
    assert (above / "a").read_text() == "new"
    assert (above / "b").samefile(below / "b")
    assert (below / "b").read_text() == "same"
    assert (below / "c").is_symlink()
    assert (above / "c").read_text() == "no link any more"
    assert (above / "d").read_text() == "a file now"
    assert (below / "d/e").read_text() == "x"


def test_a_hard_link_does_not_change_its_target_below(chain: Chain) -> None:
    below = chain.add(file("a", "old", 0o644))
    above = chain.add(link("b", "/a", hard=True))
    assert (above / "b").read_text() == "old"
    assert (below / "a").stat().st_mode & 0o777 == 0o644
    assert not (below / "b").exists()


def test_white_outs_remove_what_lies_below_only_here(chain: Chain) -> None:
    below = chain.add(file("a/x"), file("a/y"), file("b/x"), folder("c/d"), file("c/d/e"), link("l", "/a"))
    above = chain.add(file("a/.wh.x"), file("c/.wh.d"), file(".wh.l"), file("b/.wh.no-such"))
    assert tree(above) == ["a", "a/y", "b", "b/x", "c"]
    assert tree(below) == ["a", "a/x", "a/y", "b", "b/x", "c", "c/d", "c/d/e", "l"]


def test_an_opaque_folder_keeps_what_the_layer_itself_brings(chain: Chain) -> None:
    chain.add(file("a/old"), file("a/sub/old"), file("a/gone/old"))
    above = chain.add(file("a/new"), file("a/sub/new"), file("a/.wh..wh..opq"), file("a/later"))
    assert tree(above) == ["a", "a/later", "a/new", "a/sub", "a/sub/new"]


@pytest.mark.parametrize(
    "member",
    [
        file("../escaped"), file("a/../../escaped"), file("/../escaped"), file("../.wh.victim"), folder(".."),
        link("x", "../victim", hard=True), link("../escaped", "a"),
    ],
    ids=lambda member: f"{member[0].name} {member[0].linkname}",
)  # fmt: skip
def test_a_member_that_climbs_is_refused(chain: Chain, member: tuple[tarfile.TarInfo, bytes]) -> None:
    (chain.home / "victim").write_text("mine")
    with pytest.raises(LayerError, match="out of the image"):
        chain.add(file("before"), member)
    assert (chain.home / "victim").read_text() == "mine"
    assert not (chain.home / "escaped").exists()
    assert not (chain.home / "layer-1").exists()
    assert not (chain.home / "layer-1.part").exists()


@pytest.mark.parametrize("target", ["/", "/../..", "../../../../../..", "{outside}"])
def test_links_are_followed_inside_the_image_only(chain: Chain, tmp_path: Path, target: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("mine")
    root = chain.add(link("way", target.format(outside=outside)), file(f"way{outside}/victim", "theirs"),
                     file("way/new", "x"), file("way/.wh.victim"))  # fmt: skip
    assert (outside / "victim").read_text() == "mine"
    assert os.listdir(outside) == ["victim"]
    assert os.readlink(root / "way") == target.format(outside=outside)


def test_the_way_through_a_link_is_the_images_own(chain: Chain) -> None:
    chain.add(folder("usr/lib"), link("lib", "/usr/lib"), link("usr/up", "../lib"))
    root = chain.add(file("lib/a", "1"), file("usr/up/b", "2"))
    assert (root / "usr/lib/a").read_text() == "1"
    assert (root / "usr/lib/b").read_text() == "2"
    assert (root / "lib").is_symlink()


def test_a_folder_replaces_a_link_and_a_locked_one_can_be_filled(chain: Chain) -> None:
    root = chain.add(link("a", "/b"), folder("b"), folder("a"), file("a/x"), folder("c", 0o555), file("c/y"))
    assert tree(root) == ["a", "a/x", "b", "c", "c/y"]


def test_links_in_a_circle_and_rubbish_are_refused(chain: Chain) -> None:
    with pytest.raises(LayerError, match="too many links"):
        chain.add(link("a", "b"), link("b", "a"), file("a/x"))
    rubbish = chain.home / "rubbish"
    rubbish.write_bytes(b"no tar")
    with pytest.raises(LayerError, match="rubbish can't be unpacked"):
        unpack(rubbish, chain.top, chain.home / "target")
    assert not (chain.home / "target").exists()


def test_device_nodes_are_left_out(chain: Chain) -> None:
    info = tarfile.TarInfo("dev/null")
    info.type = tarfile.CHRTYPE
    assert tree(chain.add((info, b""), file("a"))) == ["a"]
