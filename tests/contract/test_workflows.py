"""The workflows in .github: what they may do, and each of their steps run in a clone, against the sandbox's servers."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.kfp import KFPSandbox
from tests.support.polyaxon import PolyaxonSandbox
from tests.support.pools import airflow_with_pools
from tests.support.processes import REPOSITORY
from tests.support.spinnaker import Spinnaker, start_registry
from tests.unit.fleet.conftest import SETTINGS

WORKFLOWS = sorted((REPOSITORY / ".github/workflows").glob("*.yml"))
ACTIONS = sorted((REPOSITORY / ".github/actions").glob("*/action.yml"))
COMMANDS = {
    "validate", "codeowners", "plan", "apply", "pipelines changed", "pipelines compile", "pipelines upload",
    "pipelines prune",
}  # fmt: skip
_EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")


def read(path: Path) -> dict[str, Any]:
    # `on` is a boolean of YAML 1.1.
    return dict(yaml.safe_load(path.read_text().replace("\non:", "\n'on':")))


def steps(workflow: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Each job and step of a workflow, in order."""
    return [(job, step) for job in workflow["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", [*WORKFLOWS, *ACTIONS], ids=lambda path: f"{path.parent.name}/{path.name}")
def test_actions_are_pinned_by_commit_and_say_which_version_that_is(path: Path) -> None:
    used = re.findall(r"uses:\s*(.*)", path.read_text())
    assert used
    for one in used:
        assert one == "./.github/actions/mlfleet" or re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_have_few_rights(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert "pull_request_target" not in workflow["on"]
    for name, job in workflow["jobs"].items():
        writes = {right for right, how in job.get("permissions", {}).items() if how != "read"}
        assert writes <= ({"pull-requests"} if name == "plan" else set())
        assert job["timeout-minutes"] <= 60
        told = json.dumps(job)
        # A fork's code never runs beside a secret.
        if "secrets." in told and "pull_request" in workflow["on"]:
            assert job["if"] == "github.event.pull_request.head.repo.full_name == github.repository"
        assert ("secrets." in told) == ("environment" in job)
        if workflow["on"] != {"push": {"branches": ["main"]}} and name != "plan":
            assert "PROD" not in told
    for _, step in steps(workflow):
        # What somebody else can name (a branch, a title) reaches a shell as a variable, never as its text.
        assert "${{" not in step.get("run", "")
        if str(step.get("uses", "")).startswith("actions/checkout") and path.name != "prune.yml":
            assert step["with"]["persist-credentials"] is False


def test_every_command_of_ci_is_there() -> None:
    runs = "\n".join(step.get("run", "") for path in WORKFLOWS for _, step in steps(read(path)))
    found = set(re.findall(r"mlfleet (pipelines \w+|\w+)", runs))
    assert found == COMMANDS


@pytest.fixture(scope="module")
def kfp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, KFPSandbox]]:
    found = {name: KFPSandbox(tmp_path_factory.mktemp(name)) for name in ("dev", "prod")}
    for server in found.values():
        server.start()
    yield found
    for server in found.values():
        server.stop()


class Runner:
    """GitHub's part: a clone, variables and secrets, and a shell for each step."""

    def __init__(self, folder: Path, secrets: dict[str, str]) -> None:
        self.folder, self.clone, self.secrets = folder, folder / "clone", secrets
        self.origin = folder / "origin"
        shutil.copytree(REPOSITORY / "include", self.origin / "include", symlinks=True,
                        ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
        shutil.copytree(REPOSITORY / ".github", self.origin / ".github")
        shutil.copy(REPOSITORY / "requirements.txt", self.origin)
        self.git("init", "--quiet", "--initial-branch=main", cwd=self.origin)
        self.git("add", "--all", cwd=self.origin)
        self.git("commit", "--quiet", "-m", "start", cwd=self.origin)
        self.git("checkout", "--quiet", "-b", "feature/one", cwd=self.origin)
        code = self.origin / "include/pipelines/flight-delay/pipeline.py"
        code.write_text(code.read_text().replace("history_days: int = 28", "history_days: int = 27"))
        self.git("commit", "--quiet", "--all", "-m", "one", cwd=self.origin)
        bin = folder / "bin"
        bin.mkdir()
        # The one command that is not ours: it would write to GitHub.
        (bin / "gh").write_text('#!/bin/sh\nprintf "%s\\n" "$@" > "$RUNNER_TEMP/gh"\n')
        (bin / "gh").chmod(0o755)
        (folder / "temp").mkdir()
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_CONN", "MLFLEET"))},
            **SETTINGS,
            "PATH": f"{bin}{os.pathsep}{REPOSITORY / '.venv/bin'}{os.pathsep}{os.environ['PATH']}",
            "RUNNER_TEMP": str(folder / "temp"), "MLFLEET_PIPELINE_CACHE": str(folder / "cache"),
            "GITHUB_ACTIONS": "true", "GITHUB_REF_TYPE": "branch",
        }  # fmt: skip

    def git(self, *words: str, cwd: Path) -> None:
        subprocess.run(["git", *words], cwd=cwd, env={**os.environ, **SETTINGS}, check=True, capture_output=True)

    def check_out(self, branch: str) -> None:
        """As actions/checkout does with the whole history."""
        shutil.rmtree(self.clone, ignore_errors=True)
        self.git("clone", "--quiet", "--branch", branch, str(self.origin), str(self.clone), cwd=self.folder)

    def value(self, text: str) -> str:
        known = {
            "github.base_ref": "main", "github.token": "token", "github.event.pull_request.number": "12",
            **{f"secrets.{name}": value for name, value in self.secrets.items()},
        }  # fmt: skip
        return _EXPRESSION.sub(lambda found: known[found[1]], text)

    def run(self, name: str) -> str:
        """All steps with a script of one workflow; what they printed."""
        said = ""
        for job, step in steps(read(REPOSITORY / ".github/workflows" / name)):
            if "run" not in step:
                continue
            own = {key: self.value(str(value)) for key, value in {**job.get("env", {}), **step.get("env", {})}.items()}
            ran = subprocess.run(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]], cwd=self.clone,
                env={**self.env, **own}, capture_output=True, text=True, timeout=300, check=False,
            )  # fmt: skip
            assert ran.returncode == 0, f"{name}: {step['name']}\n{ran.stdout}\n{ran.stderr}"
            said += ran.stdout
        return said


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Production's Gate and Airflow."""
    folder, pools = tmp_path_factory.mktemp("spinnaker"), dict[str, dict[str, Any]]()
    with start_registry(folder) as registry, airflow_with_pools(pools) as airflow:
        spinnaker = Spinnaker(folder, registry)
        spinnaker.start()
        yield {"spinnaker": str(spinnaker.http.base_url), "airflow": airflow}
        spinnaker.close()
    assert list(pools) == ["training"]


def test_every_step_runs(
    tmp_path: Path, kfp: dict[str, KFPSandbox], polyaxon_sandbox: PolyaxonSandbox, others: dict[str, str]
) -> None:
    prod = {"polyaxon": polyaxon_sandbox.url, "kfp": kfp["prod"].url, **others}
    secrets = {
        f"AIRFLOW_CONN_{system.upper()}_PROD": json.dumps({"conn_type": system, "host": url})
        for system, url in prod.items()
    }
    secrets["AIRFLOW_CONN_KFP_DEFAULT"] = json.dumps({"conn_type": "kfp", "host": kfp["dev"].url})
    runner = Runner(tmp_path, secrets)

    runner.check_out("feature/one")
    said = runner.run("pull-request.yml")
    assert "1 of 2 pipelines may compile to something else" in said
    assert "1 pipeline compiled, 0 refused" in said
    comment = (tmp_path / "temp/comment.md").read_text()
    assert "flight-delay" in comment
    assert "to create" in comment
    assert (tmp_path / "temp/gh").read_text().split()[:3] == ["pr", "comment", "12"]

    assert "1 pipeline for dev: 1 uploaded" in runner.run("branch.yml")
    assert kfp["dev"].get("pipelines/names/flight-delay")["name"] == "flight-delay"
    assert kfp["prod"].get("pipelines") == {}

    runner.check_out("main")
    assert "2 pipelines for prod: 2 uploaded" in runner.run("deploy.yml")
    # A push that is run again has nothing to do.
    assert "2 pipelines for prod: 2 verified" in runner.run("deploy.yml")
    assert "nothing old in dev" in runner.run("prune.yml")
