"""What CI does with all projects: plan and apply, owners, pipelines that are compiled and uploaded. No Airflow."""
