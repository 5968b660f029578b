"""A `build_image` task, the people around it, buildah and a registry in memory: a history of actions, each checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mlfleet.clients.container_registry import ContainerRegistryClient
from mlfleet.clients.http import HttpClient
from mlfleet.errors import Conflict, MlfleetError
from mlfleet.remote import ordinal
from mlfleet.remote.job import JobKey, TaskIdentity
from mlfleet.systems.buildah import KEY_LABEL, BuildahBuilds, BuiltImage, ImageSpec, Registry
from tests.support.adversity import Clock, Fault, Kill, Records, Wire
from tests.support.build_model import BuildahModel, Disk, Image, RegistryModel, Trouble

TASK = TaskIdentity("test", "churn", "scheduled__2026-11-10", "build_image")
REPOSITORY = "ml/churn"


@dataclass(frozen=True)
class Build:
    """A worker runs the task, with bad luck at the registry, at buildah and at the record.

    ``dies_at_end``: after all is done, before the result is kept.
    """

    faults: tuple[Fault, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    kill_at_save: int | None = None
    before_save: bool = True
    dies_at_end: bool = False


@dataclass(frozen=True)
class Clear:
    """A person clears the task."""


@dataclass(frozen=True)
class Change:
    """What goes into the image changes, or changes back."""

    version: int


@dataclass(frozen=True)
class LoseRecord:
    """The state store is cleaned, or the DAG run is made anew."""


@dataclass(frozen=True)
class Intrude:
    """Somebody else pushes other content under the task's present tag."""


@dataclass(frozen=True)
class Stale:
    """What is put from now on is seen that many seconds later."""

    seconds: float


@dataclass(frozen=True)
class Restart:
    """The registry is away for some seconds."""

    seconds: float


@dataclass(frozen=True)
class Pass:
    """Time passes."""

    seconds: float


Action = object


@dataclass
class BuildWorld:
    """The state of all. ``folder`` has one build context for each version; `seen` counts what happened.

    ``kept`` is (incarnation of the record, clears, version) of the last try that got a number, with its tag.
    """

    folder: Path
    clears: int = 0
    version: int = 1
    records: Records = field(default_factory=Records)
    kept: tuple[tuple[int, int, int], str] | None = None
    incarnation: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    story: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = Clock()
        self.registry = RegistryModel(self.clock)
        self.wire = Wire(self.registry, self.clock)
        self.disk = Disk()
        self.contents: dict[str, str] = {}
        self.intruded: set[str] = set()

    def do(self, action: Action) -> None:
        """One action, and the check after it."""
        self.story.append(f"{self.clock.now - 1.8e9:9.1f}  -- {action}")
        doing: Callable[..., None] = getattr(self, f"_{type(action).__name__.lower()}")
        doing(action)
        self.check()

    def note(self, what: str, more: str = "") -> None:
        self.seen[what] += 1
        self.story.append(f"{self.clock.now - 1.8e9:9.1f}     {what} {more}".rstrip())

    # The task

    def _build(self, action: Build) -> None:
        self.wire.begin(action.faults)
        self.records.begin(action.kill_at_save, action.before_save)
        try:
            image = self.try_once(action.troubles)
        except Kill:
            self.note("killed")
        except MlfleetError as exc:
            self.note(f"raised {type(exc).__name__}", str(exc))
            self._failed(exc)
        else:
            if action.dies_at_end:
                self.note("killed at the end")
            else:
                self.note("handed on", image.tag)
        finally:
            self.wire.begin()
            self.records.begin()

    def _failed(self, error: MlfleetError) -> None:
        """Only what an intruder did is beyond a retry."""
        assert error.retryable or isinstance(error, Conflict), f"bad luck that no retry mends: {error!r}"
        assert error.retryable or self._tag() in self.intruded, f"a conflict with ourselves: {error!r}"

    def try_once(self, troubles: tuple[Trouble, ...] = ()) -> BuiltImage:
        """What operators.image does, checked; raises Kill and errors of mlfleet."""
        spec = ImageSpec(REPOSITORY, self.folder / str(self.version), self.folder / "Dockerfile", {"BASE": "b:1"}, {})
        builds = BuildahBuilds(
            Registry("http://registry.test"), self._client, root=self.folder / "store", tell=self.story.append
        )
        builds._buildah = BuildahModel(
            self.folder / "store", self.story.append, self.disk, self.registry, troubles
        )  # fmt: skip
        before = self.records.record
        try:
            record = ordinal.enter(self.records, self.clears, spec.hash, tell=lambda each: self.note(each.kind.value))
        finally:
            if self.records.record is not before:
                self._numbered()
        key = JobKey(TASK, record.incarnation, record.n).value
        tag, built = f"build-{key}", self.disk.built
        assert self._tag() == tag
        there = self.registry.shown(tag)
        image = builds.build(spec, key, spec.hash)
        self.seen["rebuilt"] += image.built and len(self.registry.puts[tag]) > 1
        self._handed_on(image, tag, there, self.disk.built - built)
        return image

    def _tag(self) -> str:
        record = self.records.record
        return f"build-{JobKey(TASK, record.incarnation, record.n).value}" if record else ""

    def _numbered(self) -> None:
        """A try got a number: the one before for the same work, else one that was never used."""
        work, tag = (self.incarnation, self.clears, self.version), self._tag()
        if self.kept is not None and self.kept[0] == work:
            assert self.kept[1] == tag, "the same work under another tag"
        else:
            assert tag not in self.contents, f"{tag} is used again for other work"
        self.kept = (work, tag)
        self.contents[tag] = str(self.version)

    def _handed_on(self, image: BuiltImage, tag: str, there: str | None, builds: int) -> None:
        assert self.kept == ((self.incarnation, self.clears, self.version), tag)
        really = self.registry.images[image.digest]
        assert image.tag == tag
        # An intruder that no read shows yet is verify_image's to find.
        assert tag in self.intruded or self.registry.tags[tag] is really, f"{image} is not what is there"
        assert dict(really.labels)[KEY_LABEL] == tag.removeprefix("build-")
        assert dict(image.labels).items() <= dict(really.labels).items()
        assert really.content == self._content(), f"{image} has another content than that of today"
        assert image.built == bool(builds)
        if there is not None:
            assert not builds, "built although the tag was there"
            self.seen["found in the registry"] += 1

    def _content(self) -> str:
        """The content of an image of today, made by a buildah of our own."""
        arguments = ["build", "--file", str(self.folder / "Dockerfile"), "--build-arg", "BASE=b:1", "--tag", "x"]
        disk = Disk()
        mine = BuildahModel(self.folder / "store", self.story.append, disk, RegistryModel(Clock()))
        mine.try_run([*arguments, str(self.folder / str(self.version))])
        return disk.images["x"].content

    def _client(self) -> ContainerRegistryClient:
        http = HttpClient(
            "http://registry.test", system="container_registry", transport=self.wire, sleep=self.clock.sleep,
            clock=self.clock, now=self.clock, draw=lambda: 0.5,
        )  # fmt: skip
        return ContainerRegistryClient(http)

    # Everybody else

    def _clear(self, action: Clear) -> None:
        self.clears += 1

    def _change(self, action: Change) -> None:
        self.version = action.version

    def _loserecord(self, action: LoseRecord) -> None:
        self.records.record = None
        self.incarnation += 1

    def _intrude(self, action: Intrude) -> None:
        tag = self._tag()
        if tag:
            self.intruded.add(tag)
            self.registry.put(tag, Image("e" * 64, (("who", "somebody"),)))

    def _stale(self, action: Stale) -> None:
        self.registry.stale = action.seconds

    def _restart(self, action: Restart) -> None:
        self.wire.down_until = self.clock.now + action.seconds

    def _pass(self, action: Pass) -> None:
        self.clock.advance(action.seconds)

    # What must be true

    def check(self) -> None:
        """After every action: no tag that nobody else touched ever had two contents."""
        for tag, digests in self.registry.puts.items():
            if tag not in self.intruded:
                assert len(set(digests)) == 1, f"{tag} was overwritten: {digests}"
            self.seen["pushed again, the same"] += len(digests) > 1

    def settle(self) -> None:
        """In good weather one try, and after a conflict one more after a clear, has its image and leaves no rubbish."""
        self.wire.quiet()
        self.registry.stale = 0.0
        self.clock.advance(1000.0)
        try:
            first = self.try_once()
        except Conflict:
            assert self._tag() in self.intruded
            self.note("in good weather a conflict")
            self._clear(Clear())
            first = self.try_once()
        again = self.try_once()
        assert (again.digest, again.built) == (first.digest, False)
        self._clear(Clear())
        assert self.try_once().built
        self.check()
        assert self.disk.containers == 0, "containers of killed builds are left"
        assert not self.disk.images, f"images of killed builds are left: {self.disk.images}"
