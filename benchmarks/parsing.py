"""What the DAGs of a fleet cost to build, beside a plain Python loop, dag-factory and gusty.

Run with `make bench ARGS=parsing`; `python benchmarks/parsing.py --sizes 50 100 200 --no-peers` is the small one. Each
style runs in a cold process of its own, and all make the same operators with the same arguments. CPU seconds after the
imports, because the machines are shared; the median counts, and the second size is what is compared. dag-factory and
gusty are installed into a temporary environment above this one, where pip can get them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

from parses import make

BENCHMARKS = Path(__file__).resolve().parent
PEERS = ("dag-factory==1.1.0", "gusty==0.23.1")
VALIDATED = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs=3, default=(175, 1000, 5000))
    parser.add_argument("--repeat", type=int, default=3, help="cold processes per style and size; the median counts")
    parser.add_argument("--no-peers", action="store_true", help="without dag-factory and gusty")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mlfleet-parsing-") as home:
        peers = None if options.no_peers else peer_python(Path(home))
        runs = {size: measure(Path(home), size, peers, options.repeat) for size in options.sizes}
        validate = validate_cpu(Path(home) / str(options.sizes[1]) / "repository")
    report(runs, validate, options.sizes[1])
    print(json.dumps(figures(runs, validate, options.sizes)))


def measure(home: Path, size: int, peers: Path | None, repeat: int) -> dict[str, dict[str, float]]:
    """The cost of each style at one size."""
    folder = home / str(size)
    make.manifests(folder / "repository", size)
    make.loaders(folder / "repository", {folder / "ours": 1, folder / "grouped": 8})
    (folder / "plain").mkdir()
    styles = [("ours", "ours", sys.executable), ("ours", "grouped", sys.executable), ("plain", "plain", sys.executable)]
    # The slow ones show at a thousand what they cost; at five thousand they would take minutes.
    if peers and size <= VALIDATED:
        make.dag_factory(folder / "dag_factory", size)
        make.gusty(folder / "gusty", size)
        styles += [(name, name, str(peers)) for name in ("dag_factory", "gusty")]
    found = {}
    for style, layout, python in styles:
        # Two of the slow ones are enough to see that they agree.
        times = repeat if python == sys.executable else min(repeat, 2)
        answers = [cold(python, style, folder / layout, size) for _ in range(times)]
        found[layout] = {key: statistics.median(answer[key] for answer in answers) for key in answers[0]}
    return found


def cold(python: str, style: str, folder: Path, size: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="mlfleet-airflow-") as airflow:
        command = [python, "-W", "ignore", str(BENCHMARKS / "parses" / "measure.py"), style, str(folder), str(size)]
        ran = subprocess.run(command, env=environment(airflow), capture_output=True, text=True, check=False)
        if ran.returncode:
            raise SystemExit(f"{style} of {size} failed:\n{ran.stderr[-2000:]}")
        answer: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
        return answer


def environment(airflow: str) -> dict[str, str]:
    return {**os.environ, "AIRFLOW_HOME": airflow, "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR", "PYTHONDONTWRITEBYTECODE": ""}  # fmt: skip


def peer_python(home: Path) -> Path | None:
    """A Python that has the peers beside everything of this one; None when pip cannot install them."""
    folder = home / "peers"
    venv.create(folder, with_pip=False)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "lib" / version / "site-packages"
    # addsitedir also follows the links of editable installs, which a plain path would not.
    (packages / "above.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    python = folder / "bin" / "python"
    ran = subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--disable-pip-version-check",
         *PEERS], capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    if ran.returncode:
        print(f"without dag-factory and gusty, which pip could not install: {ran.stderr.strip().splitlines()[-1]}")
        return None
    return python


def validate_cpu(root: Path) -> float:
    """CPU seconds of `mlfleet validate`, from the start of the process to its end."""
    before = _children()
    program = Path(sysconfig.get_path("scripts")) / "mlfleet"
    subprocess.run([program, "--root", root, "validate"], check=True, stdout=subprocess.DEVNULL)
    return _children() - before


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def report(runs: dict[int, dict[str, dict[str, float]]], validate: float, validated: int) -> None:
    print(f"{make.TASKS} tasks a DAG; CPU of imports apart")
    print(f"{'DAGs':>5}  {'style':18} {'import':>8} {'build':>8} {'a DAG':>9} {'a task':>9} {'memory':>8}")
    names = {"ours": "mlfleet, one each", "grouped": "mlfleet, eight", "plain": "plain loop"}
    for size, styles in runs.items():
        for style, cost in styles.items():
            build = cost["build_cpu_s"]
            print(f"{size:5}  {names.get(style, style):18} {cost['import_cpu_s']:6.1f} s {build:6.2f} s "
                  f"{1000 * build / size:6.2f} ms {1e6 * build / cost['tasks']:6.0f} us {cost['memory_mb']:5.0f} MB")  # fmt: skip
    print(f"mlfleet validate of {validated} manifests: {validate:.1f} CPU s")


def figures(
    runs: dict[int, dict[str, dict[str, float]]], validate: float, sizes: tuple[int, int, int]
) -> dict[str, object]:
    """Each ratio is ours over theirs, at the middle size."""
    middle, large = runs[sizes[1]], runs[sizes[2]]

    def per_task(styles: dict[str, dict[str, float]], style: str) -> float:
        return styles[style]["build_cpu_s"] / styles[style]["tasks"]

    def ratio(style: str) -> float | None:
        return round(per_task(middle, "ours") / per_task(middle, style), 3) if style in middle else None

    return {
        "per_task_vs_plain_loop": ratio("plain"), "per_task_vs_dag_factory": ratio("dag_factory"),
        "per_task_vs_gusty": ratio("gusty"),
        "memory_vs_plain_loop": round(middle["ours"]["memory_mb"] / middle["plain"]["memory_mb"], 3),
        "growth_1000_to_5000": round(per_task(large, "ours") / per_task(middle, "ours"), 3),
        "validate_cpu_s": round(validate, 2),
    }  # fmt: skip


if __name__ == "__main__":
    main()
