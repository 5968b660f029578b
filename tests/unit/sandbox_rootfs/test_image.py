from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from pathlib import Path

from sandbox.rootfs.build import RootFS
from sandbox.rootfs.image import BaseImage, digest, pack


def tree(root: Path, when: int, mask: int) -> Path:
    """The same content every time; `when` and `mask` are what must not matter."""
    before = os.umask(mask)
    try:
        for name, text in [("usr/bin/run", "#!/bin/sh\n"), ("usr/lib/b.py", "b = 1\n"), ("usr/lib/a.py", "a = 1\n")]:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        (root / "usr/bin/run").chmod(0o755 & ~mask | 0o100)
        (root / "tmp").mkdir()
        (root / "tmp").chmod(0o1777)
        (root / "lib").symlink_to("usr/lib")
    finally:
        os.umask(before)
    for path in root.rglob("*"):
        os.utime(path, (when, when), follow_symlinks=False)
    return root


def test_a_layer_depends_on_the_content_alone(tmp_path: Path) -> None:
    first = pack(tree(tmp_path / "1", 10**9, 0o022), tmp_path / "1.tar.gz")
    second = pack(tree(tmp_path / "2", 10**9 + 5, 0o077), tmp_path / "2.tar.gz")
    assert (first.digest, first.diff_id, first.size) == (second.digest, second.diff_id, second.size)
    content = first.file.read_bytes()
    assert digest(content) == first.digest
    assert digest(gzip.decompress(content)) == first.diff_id


def test_a_layer_holds_links_modes_and_no_owner(tmp_path: Path) -> None:
    layer = pack(tree(tmp_path / "1", 10**9, 0o077), tmp_path / "1.tar.gz")
    with tarfile.open(layer.file) as tar:
        members = {member.name: member for member in tar}
    assert list(members) == ["lib", "tmp", "usr", "usr/bin", "usr/bin/run", "usr/lib", "usr/lib/a.py", "usr/lib/b.py"]
    assert members["lib"].issym()
    assert members["lib"].linkname == "usr/lib"
    modes = {name: oct(member.mode) for name, member in members.items() if name != "lib"}
    assert modes["tmp"] == "0o1777"
    assert modes["usr"] == modes["usr/bin/run"] == "0o755"
    assert modes["usr/lib/a.py"] == "0o644"
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members.values()} == {(0, 0, 0, "", "")}


def test_the_layer_is_packed_once_and_the_manifest_points_to_it(tmp_path: Path) -> None:
    tree(tmp_path / "root", 10**9, 0o022)
    image = BaseImage(RootFS(tmp_path, "0123456789abcdef", "3.11"))
    layer = image.layer()
    layer.file.write_bytes(b"not read again")
    assert image.layer() == layer
    manifest, config = json.loads(image.manifest(layer)), image.config(layer)
    assert manifest["config"] == {**manifest["config"], "digest": digest(config), "size": len(config)}
    assert manifest["layers"][0]["digest"] == layer.digest
    assert json.loads(config)["rootfs"]["diff_ids"] == [layer.diff_id]
    assert image.tag == "0123456789abcdef"


def test_an_interrupted_packing_is_done_again(tmp_path: Path) -> None:
    tree(tmp_path / "root", 10**9, 0o022)
    image = BaseImage(RootFS(tmp_path, "0123456789abcdef", "3.11"))
    (tmp_path / "layer.tar.gz").write_bytes(b"half a layer")
    layer = image.layer()
    with tarfile.open(fileobj=io.BytesIO(layer.file.read_bytes())) as tar:
        assert "usr/lib/a.py" in tar.getnames()
