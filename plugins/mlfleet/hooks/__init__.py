"""From an Airflow connection to a client, one module per system."""
