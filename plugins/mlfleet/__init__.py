"""One manifest per ML project, one Airflow DAG per manifest: training, image, release and deployment as remote jobs."""

__version__ = "0.1.0"
