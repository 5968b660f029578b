"""Is a model good enough? Compares metrics with bounds, by the same rule as the evaluate task of a DAG.

    verdict = evaluate(bounds={"mae": {"max": 800}}, measured=evaluation.outputs["metrics"])
    with dsl.If(verdict.outputs["passed"] == True):
        ...

A lightweight component; its image needs Python, kfp and mlfleet (the Dockerfile of `polyaxon_job` makes one).
"""

from kfp import dsl
from kfp.dsl import Artifact, Input, Metrics, Output, OutputPath

__all__ = ["evaluate"]

IMAGE = "registry.example.com/ml/mlfleet-components:py312"


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def evaluate(
    bounds: dict,
    passed: OutputPath(bool),  # type: ignore[valid-type]
    results: OutputPath(dict),  # type: ignore[valid-type]
    checked: Output[Metrics],
    metrics: dict = {},  # noqa: B006
    measured: Input[Artifact] = None,
    fail: bool = False,
):
    """Compares metrics with bounds; a metric that is missing or no finite number has not passed.

    Args:
        bounds: Metric to its inclusive bounds, min, max or both.
        passed: Whether all metrics are within their bounds.
        results: Metric to value, bound, passed and reason.
        checked: The numbers that were compared, for the page of the run.
        metrics: Numbers by name, for instance the outputs of a Polyaxon job.
        measured: An artifact with numbers in its metadata (Metrics) or in its file (a JSON object).
        fail: Fail the step when something has not passed, instead of only telling.
    """
    import json
    import pathlib

    from mlfleet.components import evaluation

    numbers = dict(metrics)
    if measured is not None:
        numbers.update(evaluation.numbers_of(measured.path, measured.metadata))
    found = evaluation.run(numbers, bounds, fail=fail)
    for metric, result in found.results.items():
        if result["value"] is not None:
            checked.log_metric(metric, result["value"])
    pathlib.Path(passed).write_text(json.dumps(found.passed))
    pathlib.Path(results).write_text(json.dumps(found.results))
