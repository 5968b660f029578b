"""The base of all model images: made without root, the same bytes again, and blind to the host's Python."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.image_build import running_registry
from tests.support.processes import REPOSITORY, SERVICES_PYTHON, free_port

pytestmark = pytest.mark.skipif(not shutil.which("apt-get"), reason="made of Debian or Ubuntu packages only")


def rootfs(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SERVICES_PYTHON, "-m", "sandbox.rootfs", *arguments],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=600, check=False, env={**os.environ, **variables},
    )  # fmt: skip


@pytest.fixture(scope="module")
def base() -> Path:
    """The base that `make setup` made, or makes now (half a minute)."""
    ran = rootfs("make")
    assert ran.returncode == 0, ran.stderr
    return Path(ran.stdout.strip())


def in_base(base: Path, script: str) -> str:
    """Output of Python code run in the base, in a user namespace, with the host's environment as it is."""
    ran = subprocess.run(
        ["unshare", "--user", "--map-root-user", "chroot", base, "/usr/bin/python3", "-c", script],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_a_server_in_the_base_sees_nothing_of_the_hosts_python(base: Path) -> None:
    seen = json.loads(
        in_base(
            base,
            "import json, os, sys, joblib, numpy, scipy, sklearn.ensemble, http.server, ssl, sqlite3\n"
            "files = [m.__file__ for m in list(sys.modules.values()) if getattr(m, '__file__', None)]\n"
            "print(json.dumps(dict(prefix=sys.prefix, base=sys.base_prefix, exe=sys.executable, path=sys.path,"
            " files=files)))",
        )
    )
    assert (seen["prefix"], seen["base"], seen["exe"]) == ("/usr", "/usr", "/usr/bin/python3")
    assert all(path == "" or path.startswith(("/usr/lib/python3", "/usr/local/lib/python3")) for path in seen["path"])
    assert len(seen["files"]) > 300
    assert not [file for file in seen["files"] if not (base / file.lstrip("/")).exists()]


def test_the_hosts_files_are_not_there(base: Path) -> None:
    places = [sys.prefix, sys.base_prefix, str(REPOSITORY), os.path.expanduser("~/.cache"), "/etc/hostname"]
    seen = json.loads(in_base(base, f"import json, os; print(json.dumps([os.path.exists(p) for p in {places!r}]))"))
    assert not any(exists for place, exists in zip(places, seen, strict=True) if place != "/usr")


def test_no_file_names_the_hosts_interpreter_or_folders(base: Path) -> None:
    names = [name.encode() for name in (sys.executable, sys.base_prefix + "/", str(REPOSITORY)) if name != "/usr/"]
    named = [path for path in base.rglob("*") if path.is_file() and not path.is_symlink() and _holds(path, names)]
    assert not named


def _holds(path: Path, names: list[bytes]) -> bool:
    content = path.read_bytes()
    return any(name in content for name in names)


def test_what_a_server_does_not_read_is_left_out(base: Path) -> None:
    names = {path.name for path in base.rglob("*") if path.is_dir()}
    assert not names & {"tests", "pip", "ensurepip", "lib2to3"}
    assert not list((base / "usr/share/doc").glob("*"))


def test_bytecode_is_used_although_the_images_files_have_no_times(base: Path) -> None:
    told = in_base(base, "import sklearn.tree._classes as m, importlib.util as u; print(m.__cached__)").strip()
    header = (base / told.lstrip("/")).read_bytes()[4:8]
    # PEP 552: bit 0 hash-based, bit 1 (check the source) off.
    assert int.from_bytes(header, "little") == 1


def test_the_second_call_takes_what_is_there(base: Path, tmp_path: Path) -> None:
    """No apt, no network, no uv: all of them are out of reach here."""
    ran = rootfs("make", "--uv", tmp_path / "no-uv", PATH=str(tmp_path))
    assert (ran.returncode, ran.stdout.strip()) == (0, str(base))


def test_the_image_goes_to_the_registry_once(base: Path, tmp_path: Path) -> None:
    with running_registry(tmp_path / "registry") as registry:
        known = rootfs("reference", "--registry", registry.address).stdout.strip()
        first = rootfs("push", "--registry", registry.address)
        assert (first.returncode, first.stdout.strip()) == (0, known)
        repository, _, tag = known.removeprefix(f"{registry.address}/").partition(":")
        assert repository == "mlfleet/serving-base"
        assert tag == base.parent.name
        config = registry.ask(lambda client: client.image_config(repository, tag))
        assert config["config"]["Cmd"] == ["/usr/bin/python3"]  # type: ignore[index]
        stored = _files(registry.state)
        assert rootfs("push", "--registry", registry.address).stdout.strip() == known
        assert _files(registry.state) == stored


def _files(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_no_registry(base: Path) -> None:
    ran = rootfs("push", "--registry", f"127.0.0.1:{free_port()}")
    assert ran.returncode == 1
    assert "does not answer" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_without_package_lists_it_says_what_to_run(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "apt.conf").write_text(f'Dir::State::lists "{tmp_path}/lists";\nDir::Cache "{tmp_path}/cache";\n')
    ran = rootfs("make", "--cache", tmp_path / "rootfs", APT_CONFIG=str(tmp_path / "apt.conf"))
    assert ran.returncode == 1
    assert "run apt-get update" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_a_failure_leaves_nothing_half_made(base: Path, tmp_path: Path) -> None:
    """The wheels can't be had; the packages, already fetched for the real base, are not fetched again."""
    cache = tmp_path / "rootfs"
    shutil.copytree(base.parent.parent / "debs", cache / "debs")
    requirements = tmp_path / "serving.txt"
    requirements.write_text("no-such-package-of-mlfleet==1.0\n")
    ran = rootfs("make", "--cache", cache, "--requirements", requirements, UV_OFFLINE="1")
    assert ran.returncode == 1
    assert "serving packages could not be installed" in ran.stderr
    assert [path.name for path in cache.iterdir()] == ["debs"]
