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
    from airflow.dag_processing.dagbag import DagBag

    from mlfleet.bundles import ManifestDagBundle

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "repository")
        root.mkdir()
        os.environ["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH"] = f"{folder}/bundles"
        fleet(root)
        bundle = ManifestDagBundle(name="projects", path=str(root))
        baseline = cpu(plain_loop)
        laid_out = cpu(bundle.initialize)
        again = cpu(bundle.refresh)
        built = {}
        ours = cpu(lambda: built.update(DagBag(bundle.path, bundle_path=bundle.path).dags))
        assert len(built) == PROJECTS
        os.environ["_AIRFLOW_PARSING_CONTEXT_DAG_ID"] = "project-0042"
        one = cpu(lambda: as_worker(root))
    print(f"{PROJECTS} manifests with 11 tasks each: {ours:.2f} CPU s, {ours / PROJECTS * 1000:.1f} ms a DAG")
    print(f"plain Python loop, as many BashOperators: {baseline:.2f} CPU s; ratio {ours / baseline:.1f}")
    print(f"laid out from nothing: {laid_out:.2f} CPU s; when nothing has changed: {again * 1000:.1f} ms")
    print(f"one DAG alone, as a worker needs it: {one * 1000:.0f} ms")
    figures = {"projects": PROJECTS, "fleet_cpu_s": round(ours, 3), "plain_cpu_s": round(baseline, 3),
               "ratio": round(ours / baseline, 2), "lay_out_cpu_s": round(laid_out, 3),
               "one_dag_cpu_ms": round(one * 1000, 1)}  # fmt: skip
    print(json.dumps(figures))


def as_worker(root: Path) -> None:
    """What a task process of one DAG does before the task runs (task_runner.parse)."""
    from airflow.dag_processing.dagbag import DagBag

    from mlfleet.bundles import ManifestDagBundle

    bundle = ManifestDagBundle(name="projects", path=str(root))
    bundle.initialize()
    bag = DagBag(bundle.path / "project-0042.py", bundle_path=bundle.path, safe_mode=False)
    assert list(bag.dags) == ["project-0042"]


if __name__ == "__main__":
    main()
