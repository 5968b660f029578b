"""What a pull request costs in CI: 100 pipelines of which 3 have changed, and a fleet that is planned and applied.

Run with `make bench ARGS=ci`; `python benchmarks/ci.py --pipelines 20 --no-fleet` is the small one. Each command is a
cold process with an empty cache, as CI starts it. Beside them stands what CI does without them: `kfp dsl compile`, once
for each of the 100. Which pipelines really differ is told by compiling all of them at both commits. The figures of plan
and apply are those of `benchmarks/plan.py`, run as a part of this.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

from pipelines import world

from mlfleet.fleet.ir import content_hash
from mlfleet.systems.kfp_batch import compile_many
from mlfleet.systems.kfp_package import PipelinePackage

BENCHMARKS = Path(__file__).resolve().parent
REPEAT = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pipelines", type=int, default=100)
    parser.add_argument("--projects", type=int, default=175, help="of the fleet that is planned and applied")
    parser.add_argument("--no-fleet", action="store_true", help="without plan and apply")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mlfleet-ci-") as name:
        figures = pipelines(Path(name), options.pipelines)
    if not options.no_fleet:
        figures |= plan_and_apply(options.projects)
    print(json.dumps(figures))


def pipelines(home: Path, count: int) -> dict[str, float]:
    root = home / "repository"
    base = world.write_repository(root, count)
    before = hashes(root, count)
    world.change_three(root)
    now = hashes(root, count)
    differ = {name for name, digest in now.items() if before[name] != digest}

    times = [mlfleet(root, "changed", "--base", base, "--output", "names") for _ in range(REPEAT)]
    changed_s, told = statistics.median(seconds for seconds, _ in times), set(times[0][1].split())
    compile_changed_s, said = mlfleet(root, "compile", "--base", base, "--out", str(home / "out"),
                                      "--cache-dir", str(home / "cache"))  # fmt: skip
    assert f"{len(told)} pipelines compiled, 0 refused" in said, said
    again_s, _ = mlfleet(root, "compile", "--base", base, "--cache-dir", str(home / "cache"))
    all_s, _ = mlfleet(root, "compile", "--no-cache")
    compile_all_s = kfp_for_all(root, count, home / "kfp")

    print(f"{count} pipelines, {len(differ)} differ; changed told {len(told)} in {changed_s:.2f} s")
    print(f"compile of these, each twice: {compile_changed_s:.1f} s; again, from the cache: {again_s:.1f} s")
    print(
        f"all {count}: compile, each twice, {all_s:.1f} s; kfp dsl compile, one after the other, {compile_all_s:.1f} s"
    )
    return {
        "missed": len(differ - told), "over_reported": len(told - differ), "changed_s": round(changed_s, 2),
        "compile_changed_s": round(compile_changed_s, 2), "compile_all_s": round(compile_all_s, 2),
    }  # fmt: skip


def hashes(root: Path, count: int) -> dict[str, str]:
    """What each pipeline compiles to now."""
    names = [world.name_of(number) for number in range(count)]
    targets = [(root / "include/pipelines" / name / "pipeline.py", "train") for name in names]
    found = {}
    packages = compile_many(targets, parallel=os.cpu_count() or 1, timeout=120, environment={})
    for name, package in zip(names, packages, strict=True):
        if not isinstance(package, PipelinePackage):
            raise SystemExit(f"{name}: {package.reason}")
        found[name] = content_hash(package)
    return found


def mlfleet(root: Path, *words: str) -> tuple[float, str]:
    """Seconds of one cold call, and what it printed."""
    return timed([sys.executable, "-m", "mlfleet.cli", "--root", str(root), "pipelines", *words])


def kfp_for_all(root: Path, count: int, out: Path) -> float:
    """Seconds of the SDK's own command, which is started for each pipeline."""
    out.mkdir()
    # It knows no places but the file's own folder.
    search = os.pathsep.join(str(root / place) for place in ("include/pipelines", "include"))
    total = 0.0
    for number in range(count):
        name = world.name_of(number)
        source = root / "include/pipelines" / name / "pipeline.py"
        command = [Path(sysconfig.get_path("scripts")) / "kfp", "dsl", "compile", "--py", source,
                   "--output", out / f"{name}.yaml"]  # fmt: skip
        total += timed([str(word) for word in command], PYTHONPATH=search)[0]
    return total


def timed(command: list[str], **environment: str) -> tuple[float, str]:
    began = time.monotonic()
    ran = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=1200,
                         check=False)  # fmt: skip
    seconds = time.monotonic() - began
    if ran.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {ran.returncode}:\n{ran.stdout}{ran.stderr[-2000:]}")
    return seconds, ran.stdout


def plan_and_apply(projects: int) -> dict[str, float]:
    """The last line of the benchmark that measures them."""
    command = [sys.executable, str(BENCHMARKS / "plan.py"), "--projects", str(projects)]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=3600, check=True)
    *lines, last = ran.stdout.splitlines()
    print("\n".join(lines))
    found: dict[str, float] = json.loads(last)
    return found


if __name__ == "__main__":
    main()
