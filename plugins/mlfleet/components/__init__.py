"""What the KFP components of include/components do when they run: base mlfleet, without Airflow and without an SDK."""
