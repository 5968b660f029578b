"""Manifests that several test modules use."""

from __future__ import annotations

from mlfleet.manifest.environments import Environment, load_environment
from mlfleet.manifest.loading import Repository

MINIMAL = """\
kind: Project
name: prices
owners:
  - github: "@acme/pricing"
experiments:
  - name: Default
"""

FULL = """\
apiVersion: mlfleet/v1
kind: Project
name: prices
title: Price suggestion
owners:
  - github: "@acme/pricing"
    email: pricing@example.com
links:
  - {title: Runbook, url: "https://example.com/runbook"}
tags: [regression]
annotations: {anything: [goes, {here: "{{ even this }}"}]}
x-shared: &shared {learning_rate: 1e-3}
schedule: {cron: "0 3 * * *", start_date: 2026-11-01, timezone: Europe/Berlin, catchup: false, window: 7d}
experiments:
  - name: Default
    params: {segment: all}
  - name: Trading Cards
    params: {segment: cards}
training:
  polyaxon:
    polyaxonfile: polyaxonfile.yaml
    files: [train.py, features.py]
    params: {data: "${env.data_root}/data.csv", segment: "${experiment.params.segment}"}
    matrix: {kind: grid, concurrency: 2, params: {depth: {kind: choice, value: [2, 4]}}}
    best_by: {metric: mae, direction: min}
    timeout: PT20M
  kfp:
    pipeline: pipeline.py:package
    params: {depth: "${polyaxon.best.inputs.depth}", until: "${data.end}"}
    timeout: 90m
evaluation: {metric: mae, direction: min, max: 800}
image:
  repository: ml/prices
  args: {BASE: "${env.base_image}"}
deploy:
  spinnaker: {application: prices, pipeline: deploy-model}
  timeout: PT15M
"""


def environment_of(repository: Repository) -> Environment:
    environment, diagnostics = load_environment(repository.environments / "dev.yaml")
    assert environment is not None, diagnostics
    return environment
