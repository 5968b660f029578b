"""From manifests to DAGs; nothing else in the house makes a DAG."""
