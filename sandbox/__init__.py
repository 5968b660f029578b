"""The outside world on one machine: Polyaxon, Kubeflow Pipelines, a registry and Spinnaker, all on loopback.

Nothing here imports mlfleet or Airflow: the sandbox stands where the real systems stand in production.
"""
