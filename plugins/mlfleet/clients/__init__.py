"""One async REST client per outside system, on one HTTP core; none knows Airflow or another client."""
