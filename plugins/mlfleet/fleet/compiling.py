"""Compiles pipelines of the work tree, and does not again until something that one depends on changes.

Each is compiled twice, in processes that differ in what must not matter: the second one has another hash seed, other
random numbers, a later second and, by its time zone, another day. A pipeline that is not the same then is refused,
because every commit would upload it anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlfleet.errors import ConfigError, SpecError
from mlfleet.fleet.ir import content_hash, first_difference
from mlfleet.fleet.pipelines import Declared, State
from mlfleet.systems import kfp_compile, kfp_compile_many
from mlfleet.systems.kfp_batch import compile_many
from mlfleet.systems.kfp_package import PYTHON_VARIABLE, PipelinePackage, without_caching

_DISTRIBUTIONS = ("kfp", "kfp-kubernetes", "kfp-pipeline-spec")
_KEPT_SECONDS = 30 * 24 * 3600
# Between two compilations of one pipeline, so that a time of day in it shows.
_PAUSE = 1.0


@dataclass(frozen=True)
class Compiled:
    """A pipeline as it is uploaded; ``cached`` when it was not compiled now."""

    declared: Declared
    package: PipelinePackage
    cached: bool = False

    @property
    def hash(self) -> str:
        """Of its content, whichever SDK compiled it."""
        return content_hash(self.package)


@dataclass(frozen=True)
class Refused:
    """A pipeline that does not compile, and why, with file and line where they are known."""

    declared: Declared
    reason: str


@dataclass(frozen=True)
class Compiling:
    """How pipelines are compiled.

    ``cache``     folder that keeps what was compiled, by content; None for none
    ``parallel``  processes at a time
    ``timeout``   seconds that one pipeline may take
    ``verify``    compile twice
    """

    cache: Path | None
    parallel: int
    timeout: float = 120.0
    verify: bool = True

    def run(self, state: State, root: Path, pipelines: Sequence[Declared]) -> list[Compiled | Refused]:
        """Each of the pipelines of the work tree at `root`, in the order given. Raises ConfigError without an SDK."""
        toolchain = _toolchain()
        keys = [
            hashlib.sha256(f"{toolchain}\0{self.verify}\0{state.fingerprint(each)}".encode()).hexdigest()
            for each in pipelines
        ]
        known = [self._known(key) for key in keys]
        todo = [index for index, package in enumerate(known) if package is None]
        made = dict(zip(todo, self._compile(state, root, [pipelines[index] for index in todo]), strict=True))
        for index, outcome in made.items():
            if isinstance(outcome, PipelinePackage):
                self._keep(keys[index], outcome)
        return [
            _outcome(declared, package, True) if package else _outcome(declared, made[index], False)
            for index, (declared, package) in enumerate(zip(pipelines, known, strict=True))
        ]

    def _compile(self, state: State, root: Path, pipelines: Sequence[Declared]) -> list[PipelinePackage | str]:
        targets = [(root / "include/pipelines" / each.project / each.file, each.function) for each in pipelines]
        first = self._once(targets, {"PYTHONHASHSEED": "0", "TZ": "UTC"})
        good = [index for index, outcome in enumerate(first) if isinstance(outcome, PipelinePackage)]
        if not self.verify or not good:
            return first
        time.sleep(_PAUSE)
        second = self._once([targets[index] for index in good], {"PYTHONHASHSEED": "1", "TZ": _another_day()})
        for index, again in zip(good, second, strict=True):
            first[index] = _same(first[index], again)
        return first

    def _once(self, targets: Sequence[tuple[Path, str]], environment: Mapping[str, str]) -> list[PipelinePackage | str]:
        found = compile_many(targets, parallel=self.parallel, timeout=self.timeout, environment=environment)
        return [outcome.reason if isinstance(outcome, SpecError) else outcome for outcome in found]

    def _known(self, key: str) -> PipelinePackage | None:
        if self.cache is None:
            return None
        path = self.cache / f"{key}.json"
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            package = PipelinePackage(kept["ir"], kept["platform"])
            os.utime(path)
        except (OSError, ValueError, KeyError, TypeError):
            # Not there, or half written by somebody else: it is compiled again.
            return None
        return package

    def _keep(self, key: str, package: PipelinePackage) -> None:
        """Keeps it for the next time; a full or read-only disk costs only that."""
        if self.cache is None:
            return
        path = self.cache / f"{key}.json"
        temporary = path.with_name(f".{key}.{os.getpid()}.tmp")
        with contextlib.suppress(OSError):
            self.cache.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps({"ir": package.ir, "platform": package.platform}), encoding="utf-8")
            os.replace(temporary, path)
            for other in self.cache.glob("*.json"):
                if other.stat().st_mtime < time.time() - _KEPT_SECONDS:
                    other.unlink(missing_ok=True)


def _outcome(declared: Declared, outcome: PipelinePackage | str, cached: bool) -> Compiled | Refused:
    if isinstance(outcome, str):
        return Refused(declared, outcome)
    ir = outcome.ir if declared.caching else without_caching(outcome.ir)
    return Compiled(declared, PipelinePackage(ir, outcome.platform), cached)


def _same(first: PipelinePackage | str, again: PipelinePackage | str) -> PipelinePackage | str:
    """The package, or why it is not the same the second time."""
    assert isinstance(first, PipelinePackage)
    if isinstance(again, str):
        return f"it compiles the first time and not the second: {again}"
    found = first_difference(first, again)
    return f"it compiles differently each time (not deterministic), at {found}" if found else first


def _another_day() -> str:
    """A time zone in which it is not the day that it is in UTC."""
    return "LATER-14" if time.gmtime().tm_hour >= 10 else "EARLIER+12"


def _toolchain() -> str:
    """What compiles: versions of Python and of the SDK, and this code. Raises ConfigError without an SDK."""
    own = "".join(Path(module.__file__ or "").read_text() for module in (kfp_compile, kfp_compile_many))
    python = os.environ.get(PYTHON_VARIABLE)
    if not python or python == sys.executable:
        versions = [_version(name) for name in _DISTRIBUTIONS]
        return repr((sys.version, versions, own))
    code = (
        "import importlib.metadata as m, sys; found = {d.name.lower(): d.version for d in m.distributions()}; "
        f"print(sys.version, [found.get(name) for name in {_DISTRIBUTIONS!r}])"
    )
    try:
        ran = subprocess.run([python, "-Pc", code], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(f"{python} can't be run: {error}", PYTHON_VARIABLE, "Give the path of a Python") from error
    return ran.stdout + own


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
