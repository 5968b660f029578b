"""The wheel as others install it: beside plain Airflow with a current Kubernetes provider, and without Airflow."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
UV = REPOSITORY / ".sandbox" / "uv" / "bin" / "uv"
BASE_ROOMS = ("errors", "manifest", "clients", "remote", "systems", "components", "cli")


def run(*command: object, cwd: Path = REPOSITORY, **environment: str) -> str:
    cleared = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "AIRFLOW"))}
    ran = subprocess.run(
        [str(word) for word in command], cwd=cwd, capture_output=True, text=True, timeout=600,
        env={**cleared, **environment}, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, f"{command}\n{ran.stdout[-4000:]}\n{ran.stderr[-4000:]}"
    return ran.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder)
    (built,) = folder.glob("*.whl")
    return built


def environment_with(folder: Path, *requirements: object) -> Path:
    run(UV, "venv", "-q", folder, "--python", sys.executable)
    run(UV, "pip", "install", "-q", "--python", folder / "bin" / "python", "--compile-bytecode", *requirements)
    return folder / "bin"


def test_the_base_imports_without_airflow(wheel: Path, tmp_path: Path) -> None:
    binaries = environment_with(tmp_path / "venv", wheel)
    script = (
        "import importlib, importlib.util, pkgutil, mlfleet\n"
        "assert importlib.util.find_spec('airflow') is None\n"
        f"for room in {BASE_ROOMS!r}:\n"
        "    module = importlib.import_module(f'mlfleet.{room}')\n"
        "    for found in pkgutil.walk_packages(getattr(module, '__path__', []), f'mlfleet.{room}.'):\n"
        "        importlib.import_module(found.name)\n"
        "        print(found.name)\n"
    )
    imported = run(binaries / "python", "-c", script)
    assert "mlfleet.clients.http" in imported
    assert "mlfleet" in run(binaries / "mlfleet", "--help")
    root = tmp_path / "repository"
    (root / "include" / "projects").mkdir(parents=True)
    (root / "include" / "environments").mkdir()
    shutil.copy(REPOSITORY / "include" / "environments" / "dev.yaml", root / "include" / "environments")
    run(binaries / "mlfleet", "--root", root, "new", "prices", "--owner", "@acme/pricing")
    run(binaries / "mlfleet", "--root", root, "validate", "--strict")


def test_the_provider_beside_a_current_kubernetes_provider(wheel: Path, tmp_path: Path) -> None:
    """Without kfp and polyaxon, whose pins hold the Kubernetes client back (reference kfp.md, section 1)."""
    binaries = environment_with(
        tmp_path / "venv", f"mlfleet[airflow] @ file://{wheel}", "apache-airflow-providers-cncf-kubernetes>=10.20",
        "pytest", "hypothesis", "respx",
    )  # fmt: skip
    home = {"AIRFLOW_HOME": str(tmp_path / "home"), "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(tmp_path / "none")}  # fmt: skip
    listed = run(binaries / "airflow", "providers", "list", "--output", "plain", **home)
    assert "mlfleet" in listed
    assert "apache-airflow-providers-cncf-kubernetes" in listed
    assert "mlfleet" in run(binaries / "airflow", "plugins", "--output", "plain", **home)
    installed = run(UV, "pip", "freeze", "--python", binaries / "python")
    assert not {"kfp", "polyaxon"} & {line.split("==")[0] for line in installed.splitlines()}
    # Away from this clone, whose plugins folder would be found first: the wheel is what is tested.
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(REPOSITORY / "tests", elsewhere / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(REPOSITORY / "sandbox", elsewhere / "sandbox", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(REPOSITORY / "include", elsewhere / "include", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "pyproject.toml", elsewhere)
    tests = [f"tests/unit/{room}" for room in ("operators", "triggers", "sensors", "hooks")]
    told = run(binaries / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, cwd=elsewhere)
    assert " passed" in told
    where = run(binaries / "python", "-c", "import mlfleet; print(mlfleet.__file__)", cwd=elsewhere)
    assert "site-packages" in where


def test_requirements_resolve_for_every_python() -> None:
    for version in ("3.11", "3.12", "3.13"):
        run(
            UV, "pip", "install", "--dry-run", "--python-version", version, "--python-platform", "linux",
            "--target", REPOSITORY / ".sandbox" / "no-such-target", "--override", "requirements-override.txt",
            "-r", "requirements.txt",
        )  # fmt: skip


def test_requirements_hold_every_pin_that_the_installed_set_needs() -> None:
    """`pip install --no-deps` gets no help from a resolver: nothing may be missing but what the override says."""
    complaints = subprocess.run(
        [UV, "pip", "check", "--python", sys.executable], capture_output=True, text=True, timeout=120, check=False
    ).stderr
    about = [line for line in complaints.splitlines() if " requires " in line]
    assert all("polyaxon" in line and "jinja2" in line for line in about), complaints
    assert len(about) == 1, complaints


def test_requirements_are_pinned_and_name_no_address() -> None:
    for file in ("requirements.txt", "requirements-dev.txt", *(REPOSITORY / "sandbox" / "requirements").glob("*.txt")):
        text = (REPOSITORY / file).read_text()
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        assert "://" not in text
        if "override" not in str(file):
            assert all("==" in line for line in lines), file
