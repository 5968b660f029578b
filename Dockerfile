# The deployment image: the official Airflow image plus exactly what requirements.txt pins.
# polyaxon 2.18 asks for jinja2<3.1.5 and Airflow for jinja2>=3.1.5, which pip can't reconcile (it has no override);
# the file is complete and pinned, so pip only has to install it, not to resolve it.
ARG AIRFLOW_IMAGE=apache/airflow:3.3.2-python3.12
FROM ${AIRFLOW_IMAGE}

COPY requirements.txt /tmp/mlfleet/requirements.txt
RUN python -m pip install --no-cache-dir --no-deps -r /tmp/mlfleet/requirements.txt

# Installed rather than left in the plugins folder: found by its entry points, imported once, under one name.
COPY pyproject.toml README.md /tmp/mlfleet/
COPY plugins /tmp/mlfleet/plugins
RUN python -m pip install --no-cache-dir --no-deps /tmp/mlfleet && python -m compileall -q "$(python -c 'import mlfleet, os; print(os.path.dirname(mlfleet.__file__))')"

# Hand-written DAGs, and one DAG for each manifest in include/projects. With `source` instead of `path` the manifests
# come from git without a new image, and a run keeps the commit that it started with.
ENV AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST='[{"name": "dags-folder", "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle", "kwargs": {}}, {"name": "projects", "classpath": "mlfleet.bundles.ManifestDagBundle", "kwargs": {}}]'
COPY --chown=airflow:0 dags ${AIRFLOW_HOME}/dags
COPY --chown=airflow:0 include ${AIRFLOW_HOME}/include
