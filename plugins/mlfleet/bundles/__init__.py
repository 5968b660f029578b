"""Manifests to what the DAG processor and the workers parse."""

from mlfleet.bundles.bundle import ManifestDagBundle

__all__ = ["ManifestDagBundle"]
