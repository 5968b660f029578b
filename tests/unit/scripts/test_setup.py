"""``make setup`` on machines that lack something: one sentence with the next step, and a rerun that goes on.

The real script runs in a copy of the repository whose environments are almost empty, with a PATH of our own.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from sandbox.settings import REPOSITORY

PROGRAMS = ("docker-registry", "buildah", "skopeo", "newuidmap", "unshare", "git")
TOOLS = ("bash", "cat", "cut", "dirname", "env", "flock", "id", "mkdir", "rm", "sed", "sh", "sha256sum", "tail", "true")
NO_NETWORK = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0", "PIP_NO_CACHE_DIR": "1"}
MANIFEST = """
[project]
name = "small"
version = "1"
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[tool.hatch.build.targets.wheel]
packages = ["scripts"]
"""


def program(folder: Path, name: str, text: str = "exit 0") -> None:
    """A shell script of that name."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of what setup reads, with requirements that are quick to install and data that is there already."""
    clone = tmp_path / "clone"
    shutil.copytree(REPOSITORY / "scripts", clone / "scripts")
    shutil.copytree(REPOSITORY / "sandbox" / "rootfs", clone / "sandbox" / "rootfs")
    (clone / "sandbox" / "requirements").mkdir()
    for name in ("services", "polyaxon", "serving"):
        (clone / "sandbox/requirements" / f"{name}.txt").write_text("")
    for name in ("requirements.txt", "requirements-override.txt"):
        (clone / name).write_text("")
    (clone / "requirements-dev.txt").write_text("hatchling\neditables\n")
    (clone / "pyproject.toml").write_text(MANIFEST)
    (clone / "scripts" / "fetch-data").write_text(_makes(".sandbox/cache/data/flights.csv"))
    (clone / "sandbox/rootfs/__main__.py").write_text(_makes(".sandbox/cache/rootfs/made"))
    return clone


def _makes(path: str) -> str:
    return f"import pathlib\np = pathlib.Path({path!r})\np.parent.mkdir(parents=True)\np.touch()\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A folder for PATH with python3, the shell's tools and all programs that setup looks for."""
    folder = tmp_path / "bin"
    folder.mkdir()
    python = Path(sys.base_prefix) / "bin" / "python3"
    (folder / "python3").symlink_to(python)
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found
        (folder / tool).symlink_to(found)
    for name in PROGRAMS:
        program(folder, name)
    return folder


def setup(
    clone: Path, path: Path, extra: Mapping[str, str] | None = None, seconds: float = 300
) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VIRTUAL_ENV", "PYTHON"))}
    return subprocess.run(
        [str(path / "bash"), "scripts/setup"], cwd=clone, env={**kept, "PATH": str(path), **(extra or {})},
        capture_output=True, text=True, timeout=seconds, check=False,
    )  # fmt: skip


def without(path: Path, name: str, root: bool = False) -> None:
    """Takes a program away, and with it the rights of root."""
    (path / name).unlink()
    (path / "id").unlink()
    program(path, "id", f"echo {0 if root else 1000}")


def test_a_python_that_is_too_old(clone: Path, path: Path) -> None:
    (path / "python3").unlink()
    program(path, "python3", '[ "$1" = -V ] && echo "Python 3.9.2" && exit 0\nexit 1')
    ran = setup(clone, path)
    assert ran.returncode == 1
    assert ran.stderr.startswith("setup: python3 is 3.9.2; mlfleet is pinned for Python 3.11, 3.12 and 3.13")
    assert ran.stderr.count("\n") == 1


def test_a_second_one_waits_for_the_first(clone: Path, path: Path) -> None:
    """Both would make and remove the same folders."""
    without(path, "python3")
    (clone / ".sandbox").mkdir(exist_ok=True)
    with (clone / ".sandbox/setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(subprocess.TimeoutExpired):
            setup(clone, path, seconds=3)
    assert "setup: " in setup(clone, path).stderr


def test_no_python(clone: Path, path: Path) -> None:
    (path / "python3").unlink()
    assert setup(clone, path).stderr == "setup: there is no python3 on PATH; install Python 3.11 or newer\n"


def test_a_missing_package_without_the_right_to_install_it(clone: Path, path: Path) -> None:
    without(path, "buildah")
    program(path, "apt-get")
    ran = setup(clone, path)
    assert ran.returncode == 1
    (sentence,) = ran.stderr.splitlines()
    assert "neither root nor password-less sudo is at hand" in sentence
    assert sentence.endswith("ask for: apt-get install buildah")


def test_a_missing_package_where_there_is_no_apt(clone: Path, path: Path) -> None:
    without(path, "skopeo", root=True)
    ran = setup(clone, path)
    assert (ran.returncode, ran.stderr.count("\n")) == (1, 1)
    assert ran.stderr.rstrip().endswith("no apt-get to install them: skopeo")


def test_a_package_that_apt_cannot_fetch(clone: Path, path: Path) -> None:
    without(path, "skopeo", root=True)
    program(path, "apt-get", "echo E: Could not connect to deb.debian.org; exit 100")
    ran = setup(clone, path)
    assert ran.returncode == 1
    assert "    | E: Could not connect to deb.debian.org" in ran.stderr
    assert "installing Debian packages: skopeo failed; check that this machine reaches" in ran.stderr


def test_sudo_installs_then_no_network_then_all_is_made_once(clone: Path, path: Path, tmp_path: Path) -> None:
    without(path, "buildah")
    program(path, "apt-get", f'[ "$1" = update ] || (echo "#!/bin/sh" > {path}/buildah; /bin/chmod +x {path}/buildah)')
    program(path, "sudo", f'echo "sudo $@" >> {tmp_path}/sudo.log; shift; exec "$@"')

    offline = setup(clone, path, NO_NETWORK)
    assert offline.returncode == 1
    assert (
        "DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends buildah"
        in (tmp_path / "sudo.log").read_text()
    )
    assert "bootstrapping uv failed; check that this machine reaches the package registries" in offline.stderr
    assert "Traceback" not in offline.stderr
    assert not list((clone / ".sandbox/stamps").iterdir())

    online = setup(clone, path)
    assert online.returncode == 0, online.stdout + online.stderr
    assert (clone / ".venv/bin/python").exists()

    nothing_to_do = setup(clone, path, NO_NETWORK)
    assert (nothing_to_do.returncode, nothing_to_do.stdout) == (0, "  set up: .venv, .sandbox\n")


def test_an_environment_that_was_interrupted_is_made_again(clone: Path, path: Path) -> None:
    assert setup(clone, path).returncode == 0
    (clone / ".sandbox/stamps/services").unlink()
    (clone / ".sandbox/services/left-half-done").touch()
    again = setup(clone, path)
    assert again.returncode == 0, again.stderr
    assert "making .sandbox/services" in again.stdout
    assert "making .venv" not in again.stdout
    assert not (clone / ".sandbox/services/left-half-done").exists()
