"""The project manifest: models, loading with positions, diagnostics, references, environments. Knows no Airflow."""
