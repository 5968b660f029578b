"""The same fleet written for mlfleet, dag-factory and gusty: two experiments and the whole way, ten tasks a DAG."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mlfleet.bundles.definition import Definition
from mlfleet.bundles.layout import file_names, loader_text
from mlfleet.manifest.environments import select_environment
from mlfleet.manifest.loading import Repository, load_fleet

TASKS = 10
OURS = "mlfleet.operators"
OPERATOR = "airflow.providers.standard.operators.bash.BashOperator"
MANIFEST = """\
kind: Project
name: {name}
title: Price suggestion {number}
owners:
  - github: "@acme/pricing"
schedule: {{cron: "0 3 * * *", start_date: 2026-11-01, window: 1d}}
experiments:
  - name: Default
    params: {{segment: all}}
  - name: Premium
    params: {{segment: Premium}}
training:
  polyaxon:
    polyaxonfile: polyaxonfile.yaml
    files: [train.py]
    params: {{data: "${{env.data_root}}/prices.csv", segment: "${{experiment.params.segment}}", rounds: 5}}
    matrix:
      kind: grid
      concurrency: 2
      params: {{depth: {{kind: choice, value: [2, 4]}}}}
    best_by: {{metric: mae, direction: min}}
    timeout: 20m
  kfp:
    pipeline: pipeline.py:train
    params: {{depth: "${{polyaxon.best.inputs.depth}}", until: "${{data.end}}"}}
    timeout: 20m
evaluation: {{metric: mae, direction: min, max: 800}}
image:
  repository: ml/{name}
  args: {{BASE: "${{env.base_image}}"}}
deploy:
  spinnaker: {{application: {name}, pipeline: deploy-model}}
  timeout: 15m
steps:
  before_training:
    - {{name: check-rows, operator: {operator}, arguments: {{bash_command: "true"}}}}
"""
CODE = {
    "polyaxonfile.yaml": """\
kind: component
inputs:
  - {name: data, type: str}
  - {name: segment, type: str}
  - {name: rounds, type: int}
  - {name: depth, type: int, value: 3}
run: {kind: job, container: {image: python}}
""",
    "pipeline.py": 'from kfp import dsl\n\n\n@dsl.pipeline(name="p")\ndef train(depth: int, until: str): ...\n',
    "train.py": "print(1)\n",
    "Dockerfile": "FROM scratch\n",
}


def name_of(number: int) -> str:
    return f"project-{number:04d}"


def manifests(root: Path, size: int) -> None:
    """A deployment repository; all projects share one folder of code."""
    for folder in ("projects", "pipelines", "environments"):
        (root / "include" / folder).mkdir(parents=True)
    (root / "include/environments/dev.yaml").write_text(
        'name: dev\nvalues: {data_root: "${process.DATA}", base_image: python}\n'
    )
    shared = root / "include/pipelines/shared"
    shared.mkdir()
    for file, text in CODE.items():
        (shared / file).write_text(text)
    for number in range(size):
        name = name_of(number)
        (root / "include/pipelines" / name).symlink_to("shared")
        (root / f"include/projects/{name}.yaml").write_text(
            MANIFEST.format(name=name, number=number, operator=OPERATOR)
        )


def loaders(root: Path, layouts: Mapping[Path, int]) -> None:
    """The files that the bundle gives the DAG processor, by folder and projects per file."""
    fleet = load_fleet(Repository(root))
    assert not fleet.all_diagnostics(), fleet.all_diagnostics()[0]
    environment = select_environment(root / "include/environments")
    made = [Definition.of(item.require(), environment, item.document.file) for item in fleet.manifests]
    by_name = {definition.name: definition for definition in made}
    for folder, per_file in layouts.items():
        folder.mkdir()
        for file, names in file_names(by_name, per_file).items():
            (folder / file).write_text(loader_text([by_name[name] for name in names], root, "c0ffee"))


def dag_factory(folder: Path, size: int) -> None:
    """One YAML file a DAG, without groups."""
    folder.mkdir()
    for number in range(size):
        name = name_of(number)
        dag = {
            "default_args": {"owner": "pricing", "retries": 1, "start_date": "2026-11-01"},
            "schedule": "0 3 * * *", "catchup": False, "tasks": tasks(name),
        }  # fmt: skip
        (folder / f"{name}.yaml").write_text(yaml.dump({name: dag}, Dumper=yaml.CSafeDumper, sort_keys=False))


def gusty(folder: Path, size: int) -> None:
    """One folder a DAG and one YAML file a task, as gusty has it."""
    for number in range(size):
        home = folder / name_of(number)
        home.mkdir(parents=True)
        (home / "METADATA.yml").write_text(
            "default_args: {owner: pricing, retries: 1, start_date: !days_ago 1}\nschedule: '0 3 * * *'\n"
        )
        for task in tasks(name_of(number)):
            text = yaml.dump(
                {key: value for key, value in task.items() if key != "task_id"},
                Dumper=yaml.CSafeDumper,
                sort_keys=False,
            )
            (home / f"{task['task_id']}.yml").write_text(text)


def tasks(name: str) -> list[dict[str, Any]]:
    """The same tasks as of the manifest, as both of them write tasks: plain data, names and what each waits for."""
    code = f"include/pipelines/{name}"
    static = {"env.base_image": "python", "env.data_root": "${process.DATA}", "project.name": name}
    run = {"static": static, "tasks": {}, "window_seconds": 86400}
    made: list[dict[str, Any]] = [{"task_id": "check_rows", "operator": OPERATOR, "bash_command": "true"}]
    for slug in ("default", "premium"):
        made += [
            {"task_id": f"{slug}_polyaxon", "operator": f"{OURS}.polyaxon.PolyaxonRunOperator", "project": name,
             "polyaxonfile": f"{code}/polyaxonfile.yaml", "files": {"train.py": f"{code}/train.py"},
             "params": {"data": "${env.data_root}/prices.csv", "rounds": 5, "segment": slug},
             "matrix": {"kind": "grid", "concurrency": 2, "params": {"depth": {"kind": "choice", "value": [2, 4]}}},
             "best_by": {"metric": "mae", "direction": "min"}, "references": run, "dependencies": ["check_rows"]},
            {"task_id": f"{slug}_kfp", "operator": f"{OURS}.kfp.KFPRunOperator", "pipeline": f"{code}/pipeline.py:train",
             "experiment": name, "params": {"depth": "${polyaxon.best.inputs.depth}", "until": "${data.end}"},
             "references": run, "dependencies": [f"{slug}_polyaxon"]},
        ]  # fmt: skip
    ends = ["default_kfp", "premium_kfp"]
    bound = {"metric": "mae", "direction": "min", "max": 800.0}
    made += [
        {"task_id": "evaluate", "operator": f"{OURS}.evaluate.EvaluateOperator", "references": run,
         "evaluations": [{"experiment": end, "task_id": end, **bound} for end in ends], "dependencies": ends},
        {"task_id": "build_image", "operator": f"{OURS}.image.BuildImageOperator", "repository": f"ml/{name}",
         "dockerfile": f"{code}/Dockerfile", "context": f"{code}/.", "build_args": {"BASE": "${env.base_image}"}, "references": run,
         "models": {end: end for end in ends}, "dependencies": ["evaluate"]},
        {"task_id": "verify_image", "operator": "mlfleet.sensors.container_registry.ImageSensor",
         "repository": f"ml/{name}", "tag": "latest", "dependencies": ["build_image"]},
        {"task_id": "release", "operator": f"{OURS}.release.ReleaseOperator", "build_task_id": "build_image",
         "evaluate_task_id": "evaluate", "application": name, "pipeline": "deploy-model", "references": run,
         "spinnaker_conn_id": "spinnaker_default", "dependencies": ["verify_image"]},
        {"task_id": "deploy", "operator": f"{OURS}.spinnaker.SpinnakerDeployOperator", "application": name,
         "pipeline": "deploy-model", "release_task_id": "release", "references": run, "dependencies": ["release"]},
    ]  # fmt: skip
    return made
