"""What benchmarks/waiting.py is made of: a remote server, an Airflow of its own, and figures about processes."""
