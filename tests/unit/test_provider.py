"""What Airflow is told about us: valid by Airflow's own schema, and true."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import airflow
import jsonschema
import pytest
from airflow.sdk.module_loading import import_string

from mlfleet.get_provider_info import get_provider_info
from mlfleet.hooks.base import SystemHook
from mlfleet.plugin import MLFleetPlugin

INFO = get_provider_info()


def test_it_fits_the_schema_of_airflow() -> None:
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(INFO, schema)


@pytest.mark.parametrize("entry", INFO["connection-types"], ids=lambda entry: entry["connection-type"])
def test_each_connection_type_has_its_hook(entry: dict[str, object]) -> None:
    hook = import_string(str(entry["hook-class-name"]))
    assert issubclass(hook, SystemHook)
    assert (hook.conn_type, hook.hook_name) == (entry["connection-type"], entry["hook-name"])
    assert hook.default_conn_name == f"{entry['connection-type']}_default"


@pytest.mark.parametrize("kind", ["hooks", "operators", "sensors", "triggers"])
def test_modules_exist(kind: str) -> None:
    folder = Path(importlib.import_module(f"mlfleet.{kind}").__path__[0])
    named = {module for entry in INFO[kind] for module in entry["python-modules"]}
    for module in named:
        importlib.import_module(module)
    helpers = {
        "base",
        "__init__",
        "events",
        "registry_access",
        "run_values",
        "commits",
        "image_labels",
        "release_policy",
        "released_data",
        "releasing",
        "waiting",
        "remote_job",
        "records",
        "sharing",
        "task_state",
    }
    there = {f"mlfleet.{kind}.{path.stem}" for path in folder.glob("*.py") if path.stem not in helpers}
    assert named == there


def test_extra_links_exist_and_the_plugin_brings_them() -> None:
    links = [import_string(path)() for path in INFO["extra-links"]]
    assert {type(link) for link in links} == {type(link) for link in MLFleetPlugin.operator_extra_links}
    assert all(link.name and link.xcom_key for link in links)
