"""Timetables that Airflow does not have; the plugin registers them."""
