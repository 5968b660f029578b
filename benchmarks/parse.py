"""DAG parsing: a fleet of manifests through the factory, beside the plainest possible loop that makes as many tasks.

Run with `make bench`. CPU seconds, because the machines are shared; the ratio is what counts.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="mlfleet-bench-"))
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
PROJECTS = int(sys.argv[1]) if len(sys.argv) > 1 else 175


def fleet(root: Path) -> None:
    """A repository with so many copies of the example project."""
    manifest = (REPOSITORY / "include/projects/price-suggestion.yaml").read_text()
    shutil.copytree(REPOSITORY / "include/environments", root / "include/environments")
    shutil.copytree(REPOSITORY / "include/components", root / "include/components")
    (root / "include/projects").mkdir()
    for number in range(PROJECTS):
        name = f"project-{number:04d}"
        shutil.copytree(
            REPOSITORY / "include/pipelines/price-suggestion", root / "include/pipelines" / name, symlinks=True
        )
        text = manifest.replace("name: price-suggestion", f"name: {name}")
        (root / "include/projects" / f"{name}.yaml").write_text(text)


def cpu(work: object) -> float:
    began = time.process_time()
    work()  # type: ignore[operator]
    return time.process_time() - began


def plain_loop() -> None:
    from airflow.providers.standard.operators.bash import BashOperator
    from airflow.sdk import DAG

    for number in range(PROJECTS):
        with DAG(f"plain-{number}", auto_register=False):
            for task in range(11):
                BashOperator(task_id=f"task-{task}", bash_command="true")


def main() -> None:
    from mlfleet.factory.dags import assemble, assemble_one

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        fleet(root)
        baseline = cpu(plain_loop)
        built = {}
        ours = cpu(lambda: built.update(assemble(root).dags))
        assert len(built) == PROJECTS
        one = cpu(lambda: assemble_one(root, "project-0042"))
    print(f"{PROJECTS} manifests with 11 tasks each: {ours:.2f} CPU s, {ours / PROJECTS * 1000:.1f} ms a DAG")
    print(f"plain Python loop, as many BashOperators: {baseline:.2f} CPU s; ratio {ours / baseline:.1f}")
    print(f"one DAG alone, as a worker needs it: {one * 1000:.0f} ms")
    figures = {"projects": PROJECTS, "fleet_cpu_s": round(ours, 3), "plain_cpu_s": round(baseline, 3),
               "ratio": round(ours / baseline, 2), "one_dag_cpu_ms": round(one * 1000, 1)}  # fmt: skip
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
