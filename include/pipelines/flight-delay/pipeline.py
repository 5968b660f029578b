"""KFP: trains on the interval's days, measures on its last day beside the baseline, and packages for serving.

features.py travels in the compiled pipeline, so that a pod needs nothing of this repository.
"""

from pathlib import Path

from kfp import dsl
from kfp.dsl import Artifact, Metrics, Model, Output

from include.pipelines._lib import HANDOVER, component

FEATURES = {"features": Path(__file__).with_name("features.py").read_text()}


@component(modules={**FEATURES, **HANDOVER})
def train_and_evaluate(
    data: str,
    data_end: str,
    history_days: int,
    max_leaf_nodes: int,
    model: Output[Model],
    metrics: Output[Metrics],
    mlfleet_outputs: Output[Artifact],
):
    """One component, because a day's flights are few: fit, measure the error in minutes, lay out for serving."""
    import features
    import handover

    first, _, held_out, end = features.window(data_end, history_days)
    # Not by date alone: 29 February replays the 28th, and the same flights must not be on both sides.
    vectors, carriers, delays = features.load(data, first, held_out, features.days(held_out, end))
    print(f"training on {len(vectors)} flights from {first} up to {held_out}")
    fitted = features.new_model(max_leaf_nodes).fit(vectors, delays)
    unseen, flown_by, truth = features.load(data, held_out, end)
    error = features.mean_absolute_error(truth, fitted.predict(unseen))
    naive = features.mean_absolute_error(truth, features.baseline(carriers, delays, flown_by))
    print(f"mean absolute error {error:.1f} minutes on {len(unseen)} flights of {held_out} (baseline {naive:.1f})")
    measured = dict(
        mae=float(error), baseline_mae=float(naive), rows_train=len(vectors), rows_test=len(unseen),
        data_start=first.isoformat(), data_end=end.isoformat(),
    )
    handover.metrics(measured, metrics, mlfleet_outputs)
    handover.model(model, measured, fitted=fitted)


@dsl.pipeline(name="flight-delay", description="Train on an interval's days, evaluate on its last day, package.")
def train(data: str, data_end: str, history_days: int = 28, max_leaf_nodes: int = 15):
    """One step."""
    train_and_evaluate(data=data, data_end=data_end, history_days=history_days, max_leaf_nodes=max_leaf_nodes)
