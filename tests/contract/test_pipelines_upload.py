"""Uploading and pruning against two KFP servers, dev and prod; faults are made on the wire between."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from mlfleet.cli import main
from mlfleet.fleet.compiling import Compiled
from mlfleet.fleet.connecting import connect_kfp
from mlfleet.fleet.ir import content_hash, stored
from mlfleet.fleet.pipelines import Declared
from mlfleet.fleet.pruning import Rule, find_old, remove
from mlfleet.fleet.uploading import Action, Source, Uploaded, upload_all
from mlfleet.manifest.environments import Environment
from mlfleet.manifest.pipeline_versions import version_name
from mlfleet.systems.kfp_batch import compile_many
from mlfleet.systems.kfp_package import PipelinePackage
from tests.support.chaos.interposer import Act, Interposer
from tests.support.fleet import Between, wire_to
from tests.support.kfp import CLIENT_WARNING, KFPSandbox
from tests.support.polyaxon import PolyaxonSandbox
from tests.unit.fleet.conftest import SETTINGS

PIPELINE = """\
from kfp import dsl

@dsl.component(base_image="python:3.11")
def step(text: str) -> str:
    return text

@dsl.pipeline(name="{name}")
def train(text: str = "{value}"):
    step(text=text)
"""
MANIFEST = """\
kind: Project
name: {name}
owners: [{{github: "@a/b"}}]
experiments: [{{name: D}}]
training: {{kfp: {{pipeline: pipeline.py:train}}}}
"""
Say = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, KFPSandbox]]:
    found = {name: KFPSandbox(tmp_path_factory.mktemp(name)) for name in ("dev", "prod")}
    for server in found.values():
        server.start()
    yield found
    for server in found.values():
        server.stop()


@pytest.fixture(scope="module")
def proxies(servers: dict[str, KFPSandbox]) -> Iterator[dict[str, Interposer]]:
    found = {name: Interposer(server.port) for name, server in servers.items()}
    yield found
    for proxy in found.values():
        proxy.close()


class Clone:
    """A deployment repository of a test's own projects, its lane to both servers, and the command."""

    def __init__(self, root: Path, proxies: dict[str, Interposer], capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.lane, self._proxies, self._capsys = root, uuid.uuid4().hex[:8], proxies, capsys
        self.names = [f"{name}-{self.lane}" for name in ("cards", "prices", "toys")]
        self.git("init", "--quiet", "--initial-branch=main")
        for name in ("dev", "prod"):
            self.put(f"include/environments/{name}.yaml", f"name: {name}\nconnections: {{kfp: kfp_{name}}}\n")
        for name in self.names:
            self.put(f"include/projects/{name}.yaml", MANIFEST.format(name=name))
            self.write(name, "1")
        self.commit()

    def put(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def write(self, name: str, value: str) -> None:
        self.put(f"include/pipelines/{name}/pipeline.py", PIPELINE.format(name=name, value=value))

    def git(self, *words: str) -> str:
        ran = subprocess.run(["git", *words], cwd=self.root, capture_output=True, text=True, timeout=60, check=False)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.strip()

    def commit(self) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", "more")
        return self.git("rev-parse", "HEAD")

    def version(self, branch: str) -> str:
        return version_name(branch, self.git("rev-parse", "HEAD"))

    def pipelines(self, *words: str) -> tuple[int, str]:
        """The exit code and what was said; nothing is verified twice, which other tests do."""
        more = ("--no-verify", "--cache-dir", str(self.root.parent / "cache")) if words[0] == "upload" else ()
        code = main(["--root", str(self.root), "pipelines", *words, *more])
        said = self._capsys.readouterr()
        return code, said.out + said.err

    def requests(self, server: str) -> list[str]:
        return [f"{seen.method} {seen.path.partition('?')[0]}" for seen in self._proxies[server].requests(self.lane)]


@pytest.fixture
def clone(
    tmp_path: Path, proxies: dict[str, Interposer], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Clone:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    for name in ("GITHUB_ACTIONS", "GITHUB_REF_NAME", "GITHUB_REF_TYPE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "clone").mkdir()
    found = Clone(tmp_path / "clone", proxies, capsys)
    for name, proxy in proxies.items():
        connection = {"conn_type": "kfp", "host": f"http://127.0.0.1:{proxy.port}/{found.lane}"}
        monkeypatch.setenv(f"AIRFLOW_CONN_KFP_{name.upper()}", json.dumps(connection))
    return found


def versions(server: KFPSandbox, name: str) -> list[dict[str, Any]]:
    """Of a pipeline, newest first; [] without one."""
    answer = server.http("GET", f"/apis/v2beta1/pipelines/names/{name}")
    if answer.status_code == 404:
        return []
    listed = server.get(f"pipelines/{answer.json()['pipeline_id']}/versions", sort_by="created_at desc", page_size=200)
    return list(listed.get("pipeline_versions", []))


def upload_by_hand(server: KFPSandbox, pipeline_id: str, name: str, spec: dict[str, Any]) -> None:
    params = {"name": name, "pipelineid": pipeline_id}
    files = {"uploadfile": ("pipeline.yaml", json.dumps(spec).encode())}
    server.http("POST", "/apis/v2beta1/pipelines/upload_version", params=params, files=files).raise_for_status()


def names_of(server: KFPSandbox, name: str) -> list[str]:
    return [version["name"] for version in versions(server, name)]


@pytest.fixture
def polyaxon_of_production(
    clone: Clone, polyaxon_sandbox: PolyaxonSandbox, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Interposer]:
    """The way to production's Polyaxon, with its connection at hand."""
    proxy = Interposer(urlsplit(polyaxon_sandbox.url).port or 0)
    address = {"conn_type": "polyaxon", "host": f"http://127.0.0.1:{proxy.port}/{clone.lane}"}
    monkeypatch.setenv("AIRFLOW_CONN_POLYAXON_DEFAULT", json.dumps(address))
    yield proxy
    proxy.close()


def test_a_branch_goes_to_dev_and_production_is_not_asked(
    clone: Clone, servers: dict[str, KFPSandbox], polyaxon_of_production: Interposer
) -> None:
    clone.git("checkout", "--quiet", "-b", "feature/Änderung")
    expected = clone.version("feature/Änderung")
    code, said = clone.pipelines("upload")
    assert code == 0, said
    assert said.splitlines()[-1] == "3 pipelines for dev: 3 uploaded"
    for name in clone.names:
        # The first upload too: no version is called like the pipeline.
        assert names_of(servers["dev"], name) == [expected]
        assert versions(servers["dev"], name)[0]["display_name"] == expected
    # The same commit again: compared, not refused, and nothing is written.
    before = len(clone.requests("dev"))
    code, said = clone.pipelines("upload")
    assert (code, said.splitlines()[-1]) == (0, "3 pipelines for dev: 3 verified")
    assert all(request.startswith("GET") for request in clone.requests("dev")[before:])
    # Another commit, in which one has changed.
    clone.write(clone.names[0], "2")
    clone.commit()
    code, said = clone.pipelines("upload", "--base", "main")
    assert (code, said.splitlines()[-1]) == (0, "1 pipeline for dev: 1 uploaded")
    code, said = clone.pipelines("upload")
    assert (code, said.splitlines()[-1]) == (0, "3 pipelines for dev: 1 verified, 2 unchanged")
    assert names_of(servers["dev"], clone.names[0]) == [clone.version("feature/Änderung"), expected]
    assert names_of(servers["dev"], clone.names[1]) == [expected]
    assert clone.requests("prod") == []
    assert polyaxon_of_production.requests(clone.lane) == []


def test_main_goes_to_production_and_nowhere_else(clone: Clone, servers: dict[str, KFPSandbox]) -> None:
    code, said = clone.pipelines("upload", "--env", "dev")
    assert (code, "goes to prod, not to dev" in said) == (1, True)
    code, said = clone.pipelines("upload", "--env", "prod", clone.names[0])
    assert (code, said.splitlines()[-1]) == (0, "1 pipeline for prod: 1 uploaded")
    assert names_of(servers["prod"], clone.names[0]) == [clone.version("main")]
    assert clone.requests("dev") == []
    # Back to what it was: the branch's newest has other content, so it is a version again.
    for value in ("2", "1"):
        clone.write(clone.names[0], value)
        clone.commit()
        assert clone.pipelines("upload", clone.names[0])[0] == 0
    assert len(names_of(servers["prod"], clone.names[0])) == 3


def test_versions_of_one_second_have_no_order(clone: Clone, servers: dict[str, KFPSandbox]) -> None:
    """KFP counts in seconds: whether the branch's newest version has this content cannot be told, so it is uploaded."""
    name = clone.names[0]
    clone.git("checkout", "--quiet", "-b", "tied")
    assert clone.pipelines("upload", name)[0] == 0
    spec = versions(servers["dev"], name)[0]["pipeline_spec"]
    pipeline = servers["dev"].get(f"pipelines/names/{name}")["pipeline_id"]
    other = json.loads(json.dumps(spec))
    other["root"]["inputDefinitions"]["parameters"]["text"]["defaultValue"] = "other"
    time.sleep(1.05 - time.time() % 1)
    for number in range(6):
        upload_by_hand(servers["dev"], pipeline, f"tied_{number:012d}", spec if number else other)
    assert len({version["created_at"] for version in versions(servers["dev"], name)[:6]}) == 1
    clone.put("README.md", "another commit\n")
    clone.commit()
    code, said = clone.pipelines("upload", name)
    assert (code, said.splitlines()[-1]) == (0, "1 pipeline for dev: 1 uploaded")


def test_another_sdk_alone_uploads_nothing(
    clone: Clone, servers: dict[str, KFPSandbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert clone.pipelines("upload")[0] == 0
    clone.put("requirements.txt", "kfp==9.9.9\n")
    clone.commit()
    # What the newer SDK would write into everything that it compiles.
    newer = ("kfp-2.16.1", "kfp-9.9.9"), ("kfp==2.16.1", "kfp==9.9.9")

    def compiled(*args: Any, **how: Any) -> list[Any]:
        found = []
        for package in compile_many(*args, **how):
            assert isinstance(package, PipelinePackage)
            text = json.dumps(package.ir)
            for old, new in newer:
                assert old in text
                text = text.replace(old, new)
            found.append(PipelinePackage(json.loads(text), package.platform))
        return found

    monkeypatch.setattr("mlfleet.fleet.compiling.compile_many", compiled)
    code, said = clone.pipelines("upload", "--base", "HEAD~1")
    assert (code, said.splitlines()[-1]) == (0, "3 pipelines for prod: 3 unchanged")
    clone.git("checkout", "--quiet", "-b", "upgrade")
    monkeypatch.setenv("AIRFLOW_CONN_KFP_DEV", json.dumps({"conn_type": "kfp", "host": servers["prod"].url}))
    # A new branch, on a server that has the same content from another one.
    code, said = clone.pipelines("upload", "--base", "HEAD~1")
    assert (code, said.splitlines()[-1]) == (0, "3 pipelines for dev: 3 unchanged")


@pytest.mark.filterwarnings(CLIENT_WARNING)
def test_the_official_client_reads_and_runs_what_was_uploaded(clone: Clone, servers: dict[str, KFPSandbox]) -> None:
    clone.git("checkout", "--quiet", "-b", "topic")
    assert clone.pipelines("upload", clone.names[0])[0] == 0
    client = servers["dev"].client()
    pipeline_id = client.get_pipeline_id(clone.names[0])
    (version,) = client.list_pipeline_versions(pipeline_id).pipeline_versions
    assert version.display_name == clone.version("topic")
    assert version.pipeline_spec["pipelineInfo"]["name"] == clone.names[0]
    commit = clone.git("rev-parse", "HEAD")
    digest = content_hash(stored(version.pipeline_spec))
    assert version.description == f"mlfleet: branch topic, commit {commit}, content {digest}"
    run = client.run_pipeline(
        client.create_experiment(clone.names[0]).experiment_id, "by hand", pipeline_id=pipeline_id,
        version_id=version.pipeline_version_id,
    )  # fmt: skip
    assert servers["dev"].get(f"runs/{run.run_id}")["pipeline_version_reference"]["pipeline_id"] == pipeline_id
    servers["dev"].http("POST", f"/apis/v2beta1/runs/{run.run_id}:terminate")


def test_uncommitted_changes_are_refused_before_anything(clone: Clone) -> None:
    clone.put("notes.txt", "not part of any pipeline")
    clone.git("checkout", "--quiet", "-b", "topic")
    clone.write(clone.names[0], "2")
    code, said = clone.pipelines("upload")
    assert code == 1
    assert f"there are uncommitted changes: include/pipelines/{clone.names[0]}/pipeline.py" in said
    clone.git("checkout", "--quiet", "--", "include")
    assert clone.pipelines("upload", "--dry-run")[1].splitlines()[-1] == "3 pipelines for dev: 3 planned"
    assert clone.requests("dev") + clone.requests("prod") == []


def test_a_detached_head(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    clone.git("checkout", "--quiet", "--detach")
    code, said = clone.pipelines("upload", "--dry-run")
    assert (code, "Name it with --branch" in said) == (1, True)
    assert clone.pipelines("upload", "--dry-run", "--branch", "topic")[0] == 0
    assert clone.pipelines("upload", "--dry-run", "--branch", "to pic")[0] == 1
    # As in a workflow for the pull request of a fork's main.
    for name, value in (("ACTIONS", "true"), ("REF_TYPE", "branch"), ("REF_NAME", "12/merge"), ("HEAD_REF", "main")):
        monkeypatch.setenv(f"GITHUB_{name}", value)
    code, said = clone.pipelines("upload", "--dry-run")
    assert (code, said.splitlines()[-1]) == (0, "3 pipelines for dev: 3 planned")


def test_what_is_not_pushed_does_not_reach_production(clone: Clone, tmp_path: Path) -> None:
    subprocess.run(["git", "clone", "--quiet", "--bare", str(clone.root), str(tmp_path / "bare")], check=True)
    clone.git("remote", "add", "origin", str(tmp_path / "bare"))
    clone.git("fetch", "--quiet", "origin")
    assert clone.pipelines("upload", "--dry-run")[0] == 0
    clone.commit()
    code, said = clone.pipelines("upload")
    assert (code, "is not in refs/remotes/origin/main" in said) == (1, True)
    assert clone.requests("prod") == []
    clone.git("push", "--quiet", "origin", "main")
    assert clone.pipelines("upload", "--dry-run")[0] == 0


def test_one_that_does_not_compile_and_one_that_is_refused_take_no_other_with_them(
    clone: Clone, servers: dict[str, KFPSandbox], proxies: dict[str, Interposer]
) -> None:
    clone.git("checkout", "--quiet", "-b", "topic")
    clone.put(f"include/pipelines/{clone.names[0]}/pipeline.py", "1 / 0\n")
    clone.commit()
    proxies["dev"].rule(clone.lane, Act.ANSWER_500, "GET", f"names/{clone.names[1]}", count=None)
    code, said = clone.pipelines("upload", "-o", "json")
    assert code == 1
    told = {row["project"]: row for row in json.loads(said)["pipelines"]}
    assert {name: row["action"] for name, row in told.items()} == dict(
        zip(clone.names, ("refused", "failed", "uploaded"), strict=True)
    )
    assert told[clone.names[0]]["why"] == "pipeline.py:1: ZeroDivisionError: division by zero"
    assert "500" in told[clone.names[1]]["why"]
    assert names_of(servers["dev"], clone.names[2]) == [clone.version("topic")]


def test_no_server_and_no_connection(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    clone.git("checkout", "--quiet", "-b", "topic")
    monkeypatch.delenv("AIRFLOW_CONN_KFP_DEV")
    code, said = clone.pipelines("upload")
    assert (code, "AIRFLOW_CONN_KFP_DEV" in said) == (1, True)


def test_a_version_with_that_name_and_other_content_is_said(clone: Clone, servers: dict[str, KFPSandbox]) -> None:
    clone.git("checkout", "--quiet", "-b", "topic")
    name, version = clone.names[0], clone.version("topic")
    assert clone.pipelines("upload", name)[0] == 0
    clone.write(name, "2")
    clone.git("commit", "--quiet", "--all", "--amend", "--no-edit")
    # Somebody else's upload under the name that this commit will have.
    spec = versions(servers["dev"], name)[0]["pipeline_spec"]
    pipeline = servers["dev"].get(f"pipelines/names/{name}")["pipeline_id"]
    upload_by_hand(servers["dev"], pipeline, clone.version("topic"), spec)
    code, said = clone.pipelines("upload", name)
    assert code == 1
    assert "with other content: root.inputDefinitions.parameters.text.defaultValue: '2' and '1'" in said
    assert version in names_of(servers["dev"], name)


# Faults on the wire

DEV = Environment(name="dev")
SOURCE = Source("topic", "0123456789abcdef0123456789abcdef01234567")
LOOKS_AND_WRITES = 6  # of one new pipeline: two writes, and a look before, between and after them


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> PipelinePackage:
    file = tmp_path_factory.mktemp("pipelines") / "pipeline.py"
    file.write_text(PIPELINE.format(name="p", value="1"))
    (found,) = compile_many([(file, "train")], parallel=1, timeout=60, environment={})
    assert isinstance(found, PipelinePackage)
    return found


async def no_wait(seconds: float) -> None:
    return None


def upload(server: KFPSandbox, names: list[str], package: PipelinePackage, between: Between) -> list[Uploaded]:
    async def run() -> list[Uploaded]:
        async with connect_kfp(DEV, wire_to({"kfp": server.url}, between)) as client:
            compiled = [Compiled(Declared(name, "pipeline.py", "train"), package) for name in names]
            return await upload_all(client, compiled, SOURCE, sleep=no_wait)

    return asyncio.run(run())


Fault = Callable[[httpx.Request, Callable[[], Awaitable[httpx.Response]]], Awaitable[httpx.Response]]


async def answer_lost(request: httpx.Request, send: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
    await send()
    raise httpx.ReadError("the answer was lost", request=request)


async def not_sent(request: httpx.Request, send: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
    raise httpx.ReadError("it never arrived", request=request)


async def done_and_500(request: httpx.Request, send: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
    await send()
    return httpx.Response(500, json={"message": "oops"}, request=request)


@pytest.mark.parametrize("fault", [answer_lost, not_sent, done_and_500])
@pytest.mark.parametrize("at", range(LOOKS_AND_WRITES))
def test_whatever_answer_is_lost_there_is_one_version_in_the_end(
    servers: dict[str, KFPSandbox], package: PipelinePackage, fault: Fault, at: int
) -> None:
    name = f"lost-{uuid.uuid4().hex[:12]}"

    async def hook(
        number: int, request: httpx.Request, send: Callable[[], Awaitable[httpx.Response]]
    ) -> httpx.Response:
        return await (fault(request, send) if number == at else send())

    between = Between(hook)
    (first,) = upload(servers["dev"], [name], package, between)
    assert len(between.requests) > at
    (again,) = upload(servers["dev"], [name], package, Between())
    assert again.action in (Action.UPLOADED, Action.VERIFIED), again
    assert first.action in (Action.UPLOADED, Action.FAILED)
    if first.action is Action.UPLOADED:
        assert again.action is Action.VERIFIED
    assert names_of(servers["dev"], name) == [SOURCE.version]


def test_two_at_once_make_one_version(servers: dict[str, KFPSandbox], package: PipelinePackage) -> None:
    name = f"twice-{uuid.uuid4().hex[:12]}"
    found = upload(servers["dev"], [name] * 4, package, Between())
    assert {each.action for each in found} <= {Action.UPLOADED, Action.VERIFIED}
    assert names_of(servers["dev"], name) == [SOURCE.version]


def test_many_cost_few_requests_each(servers: dict[str, KFPSandbox], package: PipelinePackage) -> None:
    names = [f"many-{number}-{uuid.uuid4().hex[:8]}" for number in range(10)]
    between = Between()
    assert {each.action for each in upload(servers["dev"], names, package, between)} == {Action.UPLOADED}
    assert len(between.requests) == 10 * (LOOKS_AND_WRITES + 1)
    between = Between()
    assert {each.action for each in upload(servers["dev"], names, package, between)} == {Action.VERIFIED}
    assert len(between.requests) == 10 * 2


# Pruning


def test_prune_leaves_what_is_in_use_and_what_is_new(
    clone: Clone, servers: dict[str, KFPSandbox], tmp_path: Path
) -> None:
    name, server = clone.names[0], servers["dev"]
    made = []
    for branch in ("gone", "kept"):
        clone.git("checkout", "--quiet", "-b", branch, "main")
        for value in range(4):
            clone.write(name, f"{branch} {value}")
            clone.commit()
            made.append(clone.version(branch))
            assert clone.pipelines("upload", name)[0] == 0
    pipeline = server.get(f"pipelines/names/{name}")["pipeline_id"]
    by_name = {version["name"]: version["pipeline_version_id"] for version in versions(server, name)}
    spec = versions(server, name)[0]["pipeline_spec"]
    upload_by_hand(server, pipeline, "by-hand_0123456789ab", spec)
    reference = {"pipeline_id": pipeline, "pipeline_version_id": by_name[made[1]]}
    recurring = {
        "display_name": name, "pipeline_version_reference": reference, "mode": "DISABLE", "max_concurrency": "1",
        "trigger": {"cron_schedule": {"cron": "0 0 0 1 1 *"}}, "runtime_config": {},
    }  # fmt: skip
    server.http("POST", "/apis/v2beta1/recurringruns", json=recurring).raise_for_status()

    subprocess.run(["git", "init", "--quiet", "--bare", str(tmp_path / "bare")], check=True)
    clone.git("remote", "add", "origin", str(tmp_path / "bare"))
    clone.git("push", "--quiet", "origin", "main", "kept")
    code, said = clone.pipelines("prune", "--env", "dev")
    assert (code, said) == (0, "nothing old in dev\n")
    code, said = clone.pipelines("prune", "--env", "dev", "--days", "0", "--keep", "1")
    assert (code, "add --yes" in said) == (64, True)
    assert len(versions(server, name)) == 9
    code, said = clone.pipelines("prune", "--env", "dev", "--days", "0", "--keep", "1", "--yes")
    assert (code, said.splitlines()[-1]) == (0, "6 versions removed from dev, 0 left"), said
    # Of the branch that is gone only what the recurring run names; of the other its newest; and what is not ours.
    assert sorted(names_of(server, name)) == sorted(["by-hand_0123456789ab", made[1], made[-1]])
    assert clone.requests("prod") == []


def test_prune_looks_again_before_it_removes(servers: dict[str, KFPSandbox], package: PipelinePackage) -> None:
    server, name = servers["dev"], f"prune-{uuid.uuid4().hex[:12]}"
    for number in range(3):
        compiled = [Compiled(Declared(name, "pipeline.py", "train"),
                             PipelinePackage({**package.ir, "number": number}))]  # fmt: skip

        async def run(compiled: list[Compiled] = compiled, commit: str = f"{number:040x}"[::-1]) -> None:
            async with connect_kfp(DEV, wire_to({"kfp": server.url})) as client:
                await upload_all(client, compiled, Source("topic", commit))

        asyncio.run(run())

    async def prune() -> tuple[list[str], list[str]]:
        async with connect_kfp(DEV, wire_to({"kfp": server.url})) as client:
            rule = Rule(timedelta(0), 0, datetime.now(UTC) + timedelta(minutes=1), alive=frozenset())
            old = await find_old(client, [name, "nobody"], rule)
            run = server.http(
                "POST", "/apis/v2beta1/runs", json={
                    "display_name": name, "runtime_config": {"parameters": {"text": "x"}},
                    "pipeline_version_reference": {"pipeline_id": old[0].version.pipeline_id,
                                                   "pipeline_version_id": old[0].version.version_id},
                },
            ).raise_for_status().json()  # fmt: skip
            outcomes = await remove(client, old)
            server.http("POST", f"/apis/v2beta1/runs/{run['run_id']}:terminate")
            return [each.version.name for each in old], [each.failed for each in outcomes]

    old, failed = asyncio.run(prune())
    assert len(old) == 2
    assert failed == ["it has come into use", ""]
    assert len(names_of(server, name)) == 2


def test_prune_removes_nothing_when_use_cannot_be_told(clone: Clone, proxies: dict[str, Interposer]) -> None:
    proxies["dev"].rule(clone.lane, Act.REFUSE, "GET", "recurringruns", count=None)
    code, said = clone.pipelines("prune", "--env", "dev", "--days", "0", "--keep", "0", "--yes")
    assert code == 1
    assert "recurringruns" in said
    assert not [request for request in clone.requests("dev") if request.startswith("DELETE")]
