from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.polyaxon.agent.content import Container, InitFile, UnsupportedContent, expand, read_content
from sandbox.polyaxon.agent.journal import Run, RunFolder
from sandbox.polyaxon.agent.workspace import Workspace, localise

RUN = Run("default", "lab", "a" * 32, "name", "job", "{}")


def compiled(container: dict[str, Any] | None = None, run: dict[str, Any] | None = None, **more: Any) -> str:
    section = {"kind": "job", "container": {"command": ["true"], **(container or {})}, **(run or {})}
    return json.dumps({"kind": "compiled_operation", "run": section, **more})


def container(**fields: Any) -> Container:
    defaults: dict[str, Any] = {
        "name": "main", "command": ["true"], "args": [], "env": {}, "working_dir": None, "files": [],
        "max_retries": 0, "timeout": 0.0,
    }  # fmt: skip
    return Container(**defaults | fields)


def prepare(tmp_path: Path, spec: Container, base: dict[str, str] | None = None) -> Any:
    workspace = Workspace("http://127.0.0.1:1", tmp_path / "data", tmp_path / "bin", grace=1)
    return workspace.prepare(RunFolder(tmp_path / "runs" / RUN.uuid), RUN, spec, base or {})


def test_the_whole_of_a_container_is_read() -> None:
    content = compiled(
        {"name": "train", "command": ["python"], "args": ["t.py", "--n", 3], "env": [{"name": "A", "value": True}],
         "workingDir": "/plx-context/artifacts/x", "image": "python:3.11", "resources": {"limits": {"cpu": 4}}},
        {"init": [{"file": {"filename": "t.py", "content": "x", "chmod": "0755"}}], "environment": {"labels": {}}},
        termination={"maxRetries": 2, "timeout": 60, "ttl": 5},
    )  # fmt: skip
    found = read_content(content)
    assert (found.name, found.command, found.args) == ("train", ["python"], ["t.py", "--n", "3"])
    assert found.env == {"A": "true"}
    assert found.files == [InitFile("/plx-context/artifacts/t.py", "x", "0755")]
    assert (found.max_retries, found.timeout) == (2, 60.0)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("nonsense", "no compiled operation"),
        ("[]", "no compiled operation"),
        (compiled(run={"kind": "tfjob"}), "`tfjob`"),
        (compiled(run={"connections": ["s3"]}), "`connections`"),
        (compiled({"volumeMounts": [{"name": "x"}]}), "volumeMounts"),
        (compiled({"envFrom": [{"secretRef": {"name": "x"}}]}), "envFrom"),
        (compiled({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {}}}]}), "valueFrom"),
        (compiled(run={"init": [{"connection": "repo"}]}), "`connection`"),
        (compiled(run={"init": [{"file": {"content": "x", "chmod": "rm -rf"}}]}), "chmod"),
    ],
)
def test_what_cannot_run_here_is_named_in_a_sentence(content: str, words: str) -> None:
    with pytest.raises(UnsupportedContent) as caught:
        read_content(content)
    assert words in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("$(A)-$(B)", "1-$(B)"), ("$$(A)", "$(A)"), ("$A $(", "$A $("), ("$(A)$(A)", "11")],
)
def test_references_are_expanded_as_kubernetes_does(text: str, expected: str) -> None:
    assert expand(text, {"A": "1"}) == expected


@given(st.text())
def test_text_without_references_stays_as_it_is(text: str) -> None:
    assert expand(text.replace("$", ""), {"A": "1"}) == text.replace("$", "")


def test_only_the_context_itself_is_localised() -> None:
    text = "/plx-context/artifacts:/plx-context /plx-context-2 /plx-contexts"
    assert localise(text, Path("/c")) == "/c/artifacts:/c /plx-context-2 /plx-contexts"


def test_the_context_shares_only_the_runs_own_artifacts(tmp_path: Path) -> None:
    file = InitFile("/plx-context/artifacts/code/t.py", "print('/plx-context/artifacts')", "700")
    args = [f"/plx-context/artifacts/{RUN.uuid}/outputs", "$(WHERE)"]
    process = prepare(tmp_path, container(files=[file], args=args, env={"WHERE": "/plx-context/artifacts"}))
    context = tmp_path / "runs" / RUN.uuid / "context"
    written = context / "artifacts" / "code" / "t.py"
    assert written.read_text() == f"print('{context}/artifacts')"
    assert written.stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "data" / RUN.uuid / "outputs" / "t.py").exists()
    assert process.argv == ["true", f"{context}/artifacts/{RUN.uuid}/outputs", f"{context}/artifacts"]
    assert Path(process.argv[1]).resolve() == tmp_path / "data" / RUN.uuid / "outputs"
    assert process.directory == str(context / "artifacts")


def test_the_environment_is_the_agents_without_what_would_mislead(tmp_path: Path) -> None:
    base = {"PATH": "/usr/bin", "POLYAXON_HOST": "elsewhere", "PYTHONPATH": "/x", "LANG": "C.UTF-8"}
    own = {"POLYAXON_RUN_INSTANCE": "forged", "LANG": "de_DE.UTF-8"}
    environment = prepare(tmp_path, container(env=own), base).environment
    assert environment["PATH"] == f"{tmp_path}/bin:/usr/bin"
    assert environment["POLYAXON_HOST"] == "http://127.0.0.1:1"
    assert environment["POLYAXON_RUN_INSTANCE"] == RUN.instance
    assert environment["LANG"] == "de_DE.UTF-8"
    assert "PYTHONPATH" not in environment


@pytest.mark.parametrize("path", ["/etc/motd", "/plx-context/../escape", "relative/t.py"])
def test_init_files_stay_below_the_context(tmp_path: Path, path: str) -> None:
    with pytest.raises(UnsupportedContent):
        prepare(tmp_path, container(files=[InitFile(path, "x", None)]))


def test_a_working_directory_is_made_below_the_context_and_must_exist_elsewhere(tmp_path: Path) -> None:
    made = prepare(tmp_path, container(working_dir="/plx-context/artifacts/deep/er")).directory
    assert Path(made).is_dir()
    assert prepare(tmp_path, container(working_dir=str(tmp_path))).directory == str(tmp_path)
    with pytest.raises(UnsupportedContent, match="/no/such"):
        prepare(tmp_path, container(working_dir="/no/such"))
