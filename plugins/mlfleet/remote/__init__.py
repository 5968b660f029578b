"""The remote job: submitted once, found again, watched, stopped, tailed; knows no system and no Airflow."""
