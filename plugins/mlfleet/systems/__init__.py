"""Each outside system as a remote job; no Airflow."""
