"""The ``mlfleet`` command: what people and CI do with manifests. Imports no Airflow; `main` says more."""

from mlfleet.cli.main import main

__all__ = ["main"]
