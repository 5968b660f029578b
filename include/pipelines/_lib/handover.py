"""What a component hands on. It travels with components and runs in their images: standard library and joblib only."""

import json
import pathlib
import shutil


def metrics(measured, shown, outputs):
    """Numbers and facts of a model.

    ``measured``  JSON-able values by name
    ``shown``     `Output[Metrics]`: gets the numbers, for the page of the run
    ``outputs``   `Output[Artifact]` called ``mlfleet_outputs``: gets everything, which is what Airflow reads
    """
    for name, value in measured.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            shown.log_metric(name, value)
    pathlib.Path(outputs.path).write_text(json.dumps(measured))


def model(artifact, description, *, fitted=None, file=None):
    """Lays out what model_server.py loads: model.joblib and model.json, which holds ``description``.

    ``artifact`` is the `Output[Model]` called ``model``; give the ``fitted`` estimator, or a ``file`` that joblib wrote.
    """
    if (fitted is None) == (file is None):
        raise TypeError("give either the fitted model or a file")
    folder = pathlib.Path(artifact.path)
    folder.mkdir(parents=True)
    if file is not None:
        shutil.copy(file, folder / "model.joblib")
    else:
        import joblib

        joblib.dump(fitted, folder / "model.joblib", compress=3)
    (folder / "model.json").write_text(json.dumps(description, sort_keys=True))
