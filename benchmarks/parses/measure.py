"""One style in a cold process: ``measure.py STYLE FOLDER SIZE`` prints what it cost, as JSON.

``build_cpu_s`` is what comes after the imports, which are told apart.
"""

from __future__ import annotations

import itertools
import json
import logging
import resource
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any


def ours(folder: Path, size: int) -> dict[str, Any]:
    """Runs every file that the bundle has laid out."""
    found: dict[str, Any] = {}
    for file in sorted(folder.glob("*.py")):
        names: dict[str, Any] = {}
        exec(compile(file.read_text(), str(file), "exec"), names)
        found.update({dag.dag_id: dag for name, dag in names.items() if name.startswith("dag_")})
    return found


def plain(folder: Path, size: int) -> dict[str, Any]:
    """The loop that somebody writes who needs no manifests: the same operators with the same arguments."""
    return {f"project-{number:04d}": _plain_dag(f"project-{number:04d}") for number in range(size)}


def dag_factory(folder: Path, size: int) -> dict[str, Any]:
    from dagfactory import load_yaml_dags

    names: dict[str, Any] = {}
    load_yaml_dags(globals_dict=names, dags_folder=str(folder), defaults_config_path=str(folder))
    return {name: dag for name, dag in names.items() if hasattr(dag, "tasks")}


def gusty(folder: Path, size: int) -> dict[str, Any]:
    from gusty import create_dag

    return {home.name: create_dag(str(home), latest_only=False) for home in sorted(folder.iterdir())}


def _plain_dag(name: str) -> Any:
    from airflow.providers.standard.operators.bash import BashOperator
    from airflow.sdk import DAG, Asset, CronDataIntervalTimetable, Label, Param, TaskGroup
    from airflow.sdk.definitions.param import ParamsDict
    from pendulum import datetime
    from pendulum.tz.timezone import Timezone

    from mlfleet.factory.retries import FleetRetryPolicy
    from mlfleet.operators.evaluate import EvaluateOperator
    from mlfleet.operators.image import BuildImageOperator
    from mlfleet.operators.kfp import KFPRunOperator
    from mlfleet.operators.polyaxon import PolyaxonRunOperator
    from mlfleet.operators.release import ReleaseOperator
    from mlfleet.operators.spinnaker import SpinnakerDeployOperator
    from mlfleet.sensors.container_registry import ImageSensor

    policy, code = FleetRetryPolicy(), f"include/pipelines/{name}"
    static = {"env.base_image": "python", "env.data_root": "${process.DATA}", "git.commit": "c0ffee",
              "project.name": name}  # fmt: skip
    run = {"static": static, "tasks": {}, "window_seconds": 86400}
    dag = DAG(
        name, schedule=CronDataIntervalTimetable("0 3 * * *", timezone=Timezone("UTC")),
        start_date=datetime(2026, 11, 1), catchup=False, max_active_runs=1, dag_display_name=name, doc_md=name,
        default_args={"owner": "@acme/pricing", "retries": 1, "retry_delay": timedelta(minutes=1)},
        tags=["mlfleet", "@acme/pricing"], auto_register=False,
    )  # fmt: skip
    with dag:
        first = BashOperator(task_id="check-rows", bash_command="true", retry_policy=policy)
        ends = []
        for slug, segment in (("default", "all"), ("premium", "Premium")):
            own = {**static, "experiment.name": slug, "experiment.slug": slug, "experiment.params.segment": segment}
            with TaskGroup(slug, tooltip=f"Experiment {slug}"):
                tuned = PolyaxonRunOperator(
                    task_id="polyaxon", project=name, name=f"{name}-{slug}", polyaxonfile=f"{code}/polyaxonfile.yaml",
                    files={"train.py": f"{code}/train.py"}, best_by={"metric": "mae", "direction": "min"},
                    params={"data": "${env.data_root}/prices.csv", "rounds": 5, "segment": "${experiment.params.segment}"},
                    matrix={"kind": "grid", "concurrency": 2, "params": {"depth": {"kind": "choice", "value": [2, 4]}}},
                    references={"static": own, "tasks": {}, "window_seconds": 86400}, retry_policy=policy,
                    polyaxon_conn_id="polyaxon_default", timeout=timedelta(minutes=20), on_failed="resubmit",
                )  # fmt: skip
                packed = KFPRunOperator(
                    task_id="kfp", pipeline=f"{code}/pipeline.py:train", experiment=name, enable_caching=False,
                    params={"depth": "${polyaxon.best.inputs.depth}", "until": "${data.end}"},
                    references={"static": own, "tasks": {"polyaxon": tuned.task_id}, "window_seconds": 86400},
                    kfp_conn_id="kfp_default", timeout=timedelta(minutes=20), on_failed="resubmit", retry_policy=policy,
                )  # fmt: skip
            first >> tuned >> packed
            ends.append(packed)
        evaluate = EvaluateOperator(
            task_id="evaluate", references=run, retry_policy=policy,
            evaluations=[{"experiment": slug, "task_id": end.task_id, "metric": "mae", "direction": "min", "min": None,
                          "max": 800.0} for slug, end in zip(("default", "premium"), ends, strict=True)],
        )  # fmt: skip
        build = BuildImageOperator(
            task_id="build_image", repository=f"ml/{name}", dockerfile=f"{code}/Dockerfile", context=f"{code}/.",
            build_args={"BASE": "${env.base_image}"}, models={"default": "default.kfp", "premium": "premium.kfp"},
            models_dest="models", references=run, labels={"mlfleet.data.start": "${data.start}"}, retry_policy=policy,
            container_registry_conn_id="container_registry_default",
        )  # fmt: skip
        verify = ImageSensor(
            task_id="verify_image", repository=f"ml/{name}", retry_policy=policy,
            tag="{{ ti.xcom_pull(task_ids='build_image')['tag'] }}",
            digest="{{ ti.xcom_pull(task_ids='build_image')['digest'] }}",
        )  # fmt: skip
        release = ReleaseOperator(
            task_id="release", build_task_id="build_image", evaluate_task_id="evaluate", application=name,
            pipeline="deploy-model", spinnaker_conn_id="spinnaker_default", references=run, retry_policy=policy,
        )  # fmt: skip
        deploy = SpinnakerDeployOperator(
            task_id="deploy", application=name, pipeline="deploy-model", release_task_id="release", retry_policy=policy,
            timeout=timedelta(minutes=15), on_kill_policy="leave", references=run,
            outlets=[Asset(f"x-mlfleet://{name}/released")],
        )  # fmt: skip
        ends >> evaluate
        for earlier, later in itertools.pairwise((evaluate, build, verify, release)):
            earlier >> later
        release >> Label("mae at most 800, no backfill") >> deploy
    # As the factory does: given to the DAG at once, they would make this loop slower.
    dag.params = ParamsDict({
        "release": Param("auto", title="Release", enum=["auto", "never"], type="string"),
        "window": Param(None, title="Window of data", type=["null", "string"]),
        "polyaxon.rounds": Param(5, title="rounds", type="integer", section="Polyaxon"),
    })  # fmt: skip
    dag.validate()
    return dag


STYLES: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    "ours": ours, "plain": plain, "dag_factory": dag_factory, "gusty": gusty,
}  # fmt: skip


def main() -> None:
    style, folder, size = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    from airflow.providers.standard.operators.bash import BashOperator  # noqa: F401

    if style in ("ours", "plain"):
        import mlfleet.bundles.loader
    else:
        __import__("dagfactory" if style == "dag_factory" else "gusty")
    # All styles make the same operators.
    import mlfleet.factory.dags  # noqa: F401

    logging.disable(logging.WARNING)
    imported = time.process_time()
    dags = STYLES[style](folder, size)
    built = time.process_time()
    assert len(dags) == size, (len(dags), size)
    tasks = sum(len(dag.tasks) for dag in dags.values())
    print(json.dumps({"import_cpu_s": imported, "build_cpu_s": built - imported, "tasks": tasks,
                      "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))  # fmt: skip


if __name__ == "__main__":
    main()
