"""buildah for real, against a real registry: what is built, what a repetition does, what goes wrong and how it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mlfleet.errors import (
    AuthError,
    ConfigError,
    Conflict,
    JobFailed,
    JobStopped,
    MlfleetError,
    SpecError,
    TransientError,
)
from mlfleet.systems.buildah import BuildahBuilds, ImageSpec, Registry
from tests.support.image_build import (
    Builder,
    RegistryUnderTest,
    client_of,
    push_base,
    registry_with_a_password,
    registry_with_a_small_disk,
    running_registry,
)
from tests.support.processes import REPOSITORY, alive, descendants, free_port, wait_for

pytestmark = pytest.mark.skipif(
    not (shutil.which("buildah") and shutil.which("docker-registry")), reason="make setup installs these"
)
REPO = "ml/churn"
_NOBODY = 65534
_AS_NOBODY = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryUnderTest]:
    with running_registry(tmp_path_factory.mktemp("registry") / "state") as running:
        yield running


@pytest.fixture
def builder(registry: RegistryUnderTest, tmp_path: Path) -> Builder:
    return Builder(registry, tmp_path / "store")


def spec(folder: Path, dockerfile: str, **changes: object) -> ImageSpec:
    context = folder / "context"
    context.mkdir(parents=True, exist_ok=True)
    (context / "serve.py").write_text("print('serving')\n")
    file = context / "Dockerfile"
    file.write_text(dockerfile)
    given: dict[str, object] = {"repository": REPO, "context": context, "dockerfile": file, **changes}
    return ImageSpec(**given)  # type: ignore[arg-type]


FROM_BASE = 'ARG BASE\nFROM ${BASE}\nCOPY serve.py /app/serve.py\nCMD ["/app/serve.py"]\n'


def on_base(folder: Path, registry: RegistryUnderTest, **changes: object) -> ImageSpec:
    return spec(folder, FROM_BASE, build_args={"BASE": push_base(registry)}, **changes)


def test_the_image_is_in_the_registry_with_its_labels(
    builder: Builder, registry: RegistryUnderTest, tmp_path: Path
) -> None:
    labels = {"mlfleet.project": "churn", "mlfleet.metric.default.mae": "0.25", "note": 'a "quoted" word, and more'}
    image = builder.builds.build(on_base(tmp_path, registry, labels=labels), "k1")
    assert image.built
    assert image.tag == "build-k1"
    assert image.reference == f"{registry.address}/{REPO}@{image.digest}"
    config = registry.ask(lambda client: client.image_config(REPO, image.digest))["config"]  # type: ignore[index]
    assert {**labels, "mlfleet.key": "k1", "base": "yes"}.items() <= config["Labels"].items()
    assert config["Cmd"] == ["/app/serve.py"]
    body, info = registry.ask(lambda client: client.get_manifest(REPO, "build-k1"))  # type: ignore[misc]
    # The one kind of manifest whose digest igor reads right (spinnaker.md 3.5).
    assert info.media_type == "application/vnd.docker.distribution.manifest.v2+json"
    assert b"rootfs.diff.tar.gzip" in body


@pytest.mark.parametrize(("platform", "architecture"), [("linux/arm64", "arm64"), ("linux/amd64", "amd64")])
def test_an_image_is_for_the_platform_that_was_asked_for(
    builder: Builder, registry: RegistryUnderTest, tmp_path: Path, platform: str, architecture: str
) -> None:
    wanted = spec(tmp_path, "FROM scratch\nCOPY serve.py /serve.py\n", platform=platform)
    assert wanted.hash != spec(tmp_path, "FROM scratch\nCOPY serve.py /serve.py\n").hash
    image = builder.builds.build(wanted, f"platform-{architecture}")
    config = registry.ask(lambda client: client.image_config(REPO, image.digest))
    assert (config["os"], config["architecture"]) == ("linux", architecture)  # type: ignore[index]


def test_a_second_build_finds_the_tag_and_builds_nothing(registry: RegistryUnderTest, tmp_path: Path) -> None:
    wanted = on_base(tmp_path, registry)
    first = Builder(registry, tmp_path / "store").builds.build(wanted, "k2")
    again = Builder(registry, tmp_path / "store")
    image = again.builds.build(wanted, "k2")
    assert not again.did_build
    assert (image.built, image.digest) == (False, first.digest)


def test_the_digest_depends_on_the_content_alone(registry: RegistryUnderTest, tmp_path: Path) -> None:
    digests = []
    for number in (1, 2):
        # Another folder, another store, other times of files: as on another worker a day later.
        folder = tmp_path / str(number)
        wanted = on_base(folder, registry, repository=f"ml/same{number}")
        os.utime(wanted.context / "serve.py", (number * 10**8, number * 10**8))
        builder = Builder(registry, folder / "store")
        digests.append(builder.builds.build(wanted, "k").digest)
        assert builder.did_build
    assert digests[0] == digests[1]


def test_a_tag_with_another_content_is_never_overwritten(registry: RegistryUnderTest, tmp_path: Path) -> None:
    wanted = on_base(tmp_path, registry)
    built = Builder(registry, tmp_path / "store").builds.build(wanted, "k3")
    (wanted.context / "serve.py").write_text("print('something else')\n")
    again = Builder(registry, tmp_path / "store")
    with pytest.raises(Conflict, match=r"build-k3 is in the registry with another content .*clear the build task"):
        again.builds.build(wanted, "k3")
    assert not again.did_build
    head = registry.ask(lambda client: client.head_manifest(REPO, "build-k3"))
    assert head.digest == built.digest  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("dockerfile", "error", "sentence"),
    [
        ("FROM scratch\nCOPI a b\n", SpecError, "the Dockerfile is wrong.*Unknown instruction"),
        ("FROM scratch\nCOPY nothing-here /b\n", SpecError, "the Dockerfile is wrong.*nothing-here"),
        ("", SpecError, "the Dockerfile is wrong"),
        ("FROM {registry}/no/such:base\n", SpecError, "the base image of the Dockerfile does not exist"),
        ("FROM 127.0.0.1:{closed}/no/such:base\n", TransientError, "the registry does not answer"),
        ("FROM {registry}/test/base:1\nRUN connection refused\n", JobFailed, 'STEP "RUN connection refused"'),
    ],
)
def test_one_clear_error(
    dockerfile: str,
    error: type[MlfleetError],
    sentence: str,
    builder: Builder,
    registry: RegistryUnderTest,
    tmp_path: Path,
) -> None:
    push_base(registry)
    text = dockerfile.format(registry=registry.address, closed=free_port())
    with pytest.raises(error, match=sentence) as caught:
        builder.builds.build(spec(tmp_path, text), "bad")
    assert caught.type is error
    assert registry.ask(lambda client: client.head_manifest(REPO, "build-bad")) is None


def test_after_the_cause_is_gone_the_same_build_succeeds(
    builder: Builder, registry: RegistryUnderTest, tmp_path: Path
) -> None:
    wanted = on_base(tmp_path, registry)
    text = wanted.dockerfile.read_text()
    wanted.dockerfile.write_text("FROM scratch\nWRONG\n")
    with pytest.raises(SpecError):
        builder.builds.build(wanted, "k4")
    wanted.dockerfile.write_text(text)
    assert builder.builds.build(wanted, "k4").built


def test_without_buildah(builder: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"buildah is not installed.*apt-get install buildah"):
        builder.builds.build(spec(tmp_path, "FROM scratch\nCOPY serve.py /\n"), "k5")


def test_a_registry_that_is_down(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    builds = BuildahBuilds(Registry(url), lambda: client_of(url), root=tmp_path / "store")
    with pytest.raises(TransientError) as caught:
        builds.build(spec(tmp_path, "FROM scratch\nCOPY serve.py /\n"), "k6")
    assert url.removeprefix("http://") in str(caught.value)


def test_a_registry_with_a_password(tmp_path: Path) -> None:
    with registry_with_a_password(tmp_path / "locked") as locked:
        wanted = on_base(tmp_path, locked)
        wrong = Builder(locked, tmp_path / "store", password="not the password")
        with pytest.raises(AuthError, match="correct the connection's login") as caught:
            wrong.builds.build(wanted, "k11")
        assert "not the password" not in str(caught.value)
        right = Builder(locked, tmp_path / "store")
        assert right.builds.build(wanted, "k11").built
        assert not [line for line in right.lines if locked.password in line.split()]


def test_a_registry_whose_disk_is_full(tmp_path: Path) -> None:
    wanted = spec(tmp_path, "FROM scratch\nCOPY big /\n")
    (wanted.context / "big").write_bytes(os.urandom(6 * 2**20))
    with registry_with_a_small_disk(tmp_path / "small", mebibytes=3) as small:
        with pytest.raises(TransientError, match=r"the registry failed: .*look at its disk") as caught:
            Builder(small, tmp_path / "store").builds.build(wanted, "k7")
        assert caught.value.retryable
        assert small.ask(lambda client: client.head_manifest(REPO, "build-k7")) is None


def test_a_full_disk_below_the_store(registry: RegistryUnderTest, tmp_path: Path) -> None:
    """In a mount namespace of its own, where the store lies on a memory disk that is too small for the build."""
    wanted = spec(tmp_path, "FROM scratch\nCOPY big /\n")
    (wanted.context / "big").write_bytes(os.urandom(6 * 2**20))
    (tmp_path / "store").mkdir()
    script = f'mount -t tmpfs -o size=4m tmpfs "{tmp_path}/store" && exec "$@"'
    ran = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "--user", "sh", "-c", script, "sh", sys.executable, "-c", _BUILD,
         registry.url, str(wanted.context), str(tmp_path / "store"), "k8"],
        capture_output=True, text=True, cwd=REPOSITORY, env=_environment(), timeout=120, check=False,
    )  # fmt: skip
    assert "TransientError: buildah: buildah's disk (MLFLEET_BUILDAH_ROOT) is full" in ran.stdout, (
        ran.stdout + ran.stderr
    )


_BUILD = """
import sys
from pathlib import Path
from mlfleet.systems.buildah import BuildahBuilds, ImageSpec, Registry
from tests.support.image_build import client_of
url, context, store, key = sys.argv[1:5]
tell = lambda line: print(line, flush=True)
builds = BuildahBuilds(Registry(url), lambda: client_of(url), root=Path(store), tell=tell)
try:
    print(builds.build(ImageSpec("ml/child", Path(context), Path(context, "Dockerfile")), key).digest)
except Exception as error:
    print(f"{type(error).__name__}: {error}")
"""


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{REPOSITORY / 'plugins'}:{REPOSITORY}"}


def _endless(tmp_path: Path) -> ImageSpec:
    """A build whose step never ends; the context brings a shell."""
    wanted = spec(tmp_path, "FROM scratch\nCOPY rootfs /\nRUN while true; do :; done\n")
    root = wanted.context / "rootfs"
    for source, target in [("/bin/dash", "bin/sh"), *((file, file.lstrip("/")) for file in _libraries("/bin/dash"))]:
        (root / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, root / target)
    return wanted


def _libraries(program: str) -> list[str]:
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return [word for word in listed.split() if word.startswith("/")]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_build_dies_with_the_task(how: signal.Signals, registry: RegistryUnderTest, tmp_path: Path) -> None:
    wanted = _endless(tmp_path)
    log = tmp_path / "log"
    with log.open("wb") as out:
        task = subprocess.Popen(
            [sys.executable, "-c", _BUILD, registry.url, str(wanted.context), str(tmp_path / "store"), "k9"],
            stdout=out, stderr=out, cwd=REPOSITORY, env=_environment(),
        )  # fmt: skip
    try:
        wait_for(lambda: "RUN while true" in log.read_text(), "the endless step")
        family = wait_for(lambda: _with_the_step(task.pid), "the step's process")
    finally:
        task.send_signal(how)
        task.wait()
    wait_for(lambda: not [process for process in family if alive(process)], "the end of the build's processes")
    # What it left in the store goes with the next build.
    builder = Builder(registry, tmp_path / "store")
    assert builder.builds.build(on_base(tmp_path / "next", registry), f"after-{how.name}").built
    assert not _containers(tmp_path / "store")


def _with_the_step(pid: int) -> set | None:  # type: ignore[type-arg]
    family = descendants(pid)
    return family if len(family) > 4 else None


def _containers(store: Path) -> list[str]:
    return _listed(store, "containers", "--quiet")


def _listed(store: Path, *what: str) -> list[str]:
    listed = subprocess.run(
        ["buildah", "--storage-driver", "vfs", "--root", str(store / "storage"), "--runroot", str(store / "run"),
         *what],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return listed.stdout.split()


_DIES_AT_PUSH = """
import os, sys
from pathlib import Path
from mlfleet.systems.buildah import BuildahBuilds, ImageSpec, Registry
from tests.support.image_build import client_of

url, context, store, base = sys.argv[1:5]
builds = BuildahBuilds(Registry(url), lambda: client_of(url), root=Path(store), tell=print)
run = builds._buildah.run
builds._buildah.run = lambda arguments: os.kill(os.getpid(), 9) if arguments[0] == "push" else run(arguments)
builds.build(ImageSpec("ml/churn", Path(context), Path(context, "Dockerfile"), {"BASE": base}), "died")
"""


def test_the_image_of_a_killed_build_goes_with_the_next(registry: RegistryUnderTest, tmp_path: Path) -> None:
    store, wanted = tmp_path / "store", on_base(tmp_path, registry)
    script = [sys.executable, "-c", _DIES_AT_PUSH, registry.url, str(wanted.context), str(store)]
    died = subprocess.run(
        [*script, wanted.build_args["BASE"]], capture_output=True, text=True, cwd=REPOSITORY, env=_environment(),
        timeout=60, check=False,
    )  # fmt: skip
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert any("build-died" in name for name in _listed(store, "images", "--format", "{{.Name}}:{{.Tag}}"))
    builder = Builder(registry, store)
    assert builder.builds.build(on_base(tmp_path / "next", registry), "after-died").built
    # The base alone stays.
    assert _listed(store, "images", "--format", "{{.Name}}:{{.Tag}}") == [wanted.build_args["BASE"]]


def test_stop_ends_the_build(registry: RegistryUnderTest, tmp_path: Path) -> None:
    builder = Builder(registry, tmp_path / "store")
    before = descendants(os.getpid())

    def stop_at_the_step() -> None:
        wait_for(lambda: any("RUN while" in line for line in builder.lines), "the endless step")
        time.sleep(0.5)
        builder.builds.stop()

    stopper = threading.Thread(target=stop_at_the_step)
    stopper.start()
    with pytest.raises(JobStopped, match="the task was stopped"):
        builder.builds.build(_endless(tmp_path), "k10")
    stopper.join()
    assert descendants(os.getpid()) <= before


def test_two_builds_share_a_store(registry: RegistryUnderTest, tmp_path: Path) -> None:
    def build(number: int) -> str:
        wanted = on_base(tmp_path / str(number), registry, labels={"number": str(number)})
        return Builder(registry, tmp_path / "store").builds.build(wanted, f"pair-{number}").digest

    with ThreadPoolExecutor(2) as pool:
        digests = list(pool.map(build, (1, 2)))
    assert len(set(digests)) == 2
    assert not _containers(tmp_path / "store")


def test_a_plain_user_builds_the_same_image(
    registry: RegistryUnderTest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """An Airflow worker is no root: the same build as nobody gives the same digest."""
    python = _python_of_nobody()
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        home.chmod(0o755)
        wanted = spec(home, f"FROM {push_base(registry)}\nCOPY serve.py /app/\n", repository="ml/child")
        as_root = Builder(registry, tmp_path_factory.mktemp("store") / "store").builds.build(wanted, "by-root")
        (home / "store").mkdir()
        os.chown(home / "store", _NOBODY, _NOBODY)
        packages = next(path for path in sys.path if path.endswith("site-packages"))
        ran = subprocess.run(
            [*_AS_NOBODY, *python, "-c", _BUILD, registry.url, str(wanted.context), str(home / "store"), "by-nobody"],
            capture_output=True, text=True, cwd=REPOSITORY, timeout=120, check=False,
            env={"PATH": os.defpath, "HOME": str(home / "store"),
                 "PYTHONPATH": f"{REPOSITORY / 'plugins'}:{REPOSITORY}:{packages}"},
        )  # fmt: skip
        assert "STEP" in ran.stdout, ran.stdout + ran.stderr
        layers = [_layers(registry, tag) for tag in ("build-by-root", "build-by-nobody")]
    assert as_root.digest
    assert layers[0] == layers[1]


def _layers(registry: RegistryUnderTest, tag: str) -> list[str]:
    body, _ = registry.ask(lambda client: client.get_manifest("ml/child", tag))  # type: ignore[misc]
    return [layer["digest"] for layer in json.loads(body)["layers"]]


def _python_of_nobody() -> list[str]:
    """An interpreter that a plain user may run and that can load this one's packages."""
    if os.geteuid() != 0:
        pytest.skip("needs to become somebody else")
    # Asked for access too: setpriv itself can start what the user can't.
    wanted = (
        f"import os, sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]} or not os.access(sys.executable, 1))"
    )
    for program in (sys.executable, "/usr/bin/python3"):
        if subprocess.run([*_AS_NOBODY, program, "-c", wanted], capture_output=True, check=False).returncode == 0:
            return [program]
    pytest.skip("no interpreter of this version that a plain user may run")
