"""What CI does with all projects at once. Imports no Airflow."""
