# Sourced by every script: the settings that hold for all of them.
# Byte code is worth 3 to 4 seconds at each start of Airflow (shells of CI often switch it off).
unset PYTHONDONTWRITEBYTECODE
export PYTHONUNBUFFERED=1
UV=.sandbox/uv/bin/uv
PY=.venv/bin/python
