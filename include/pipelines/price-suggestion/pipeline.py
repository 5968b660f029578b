"""KFP: trains the best trial's model, measures it on rows that tuning never saw, and packages it for serving.

features.py travels in the compiled pipeline, so that a pod needs nothing of this repository.
"""

from pathlib import Path

from kfp import dsl
from kfp.dsl import Artifact, Input, Metrics, Model, Output

from include.pipelines._lib import HANDOVER, component

FEATURES = {"features": Path(__file__).with_name("features.py").read_text()}


@component(modules=FEATURES)
def train(data: str, segment: str, learning_rate: float, max_leaf_nodes: int, trained: Output[Model]):
    """Fits the model on the train and validation splits with the parameters that tuning chose."""
    import features
    import joblib

    vectors, prices = features.load(data, segment, ("train", "validation"))
    print(f"training on {len(vectors)} diamonds: learning rate {learning_rate}, {max_leaf_nodes} leaves")
    joblib.dump(features.new_model(learning_rate, max_leaf_nodes).fit(vectors, prices), trained.path, compress=3)
    trained.metadata["rows"] = len(vectors)


@component(modules={**FEATURES, **HANDOVER})
def evaluate(
    data: str,
    segment: str,
    trained: Input[Model],
    metrics: Output[Metrics],
    mlfleet_outputs: Output[Artifact],
):
    """Measures the mean absolute error in US dollars on the test split, beside the baseline's."""
    import features
    import handover
    import joblib

    seen, prices = features.load(data, segment, ("train", "validation"))
    unseen, truth = features.load(data, segment, ("test",))
    error = features.mean_absolute_error(truth, joblib.load(trained.path).predict(unseen))
    naive = features.mean_absolute_error(truth, features.baseline(seen, prices, unseen))
    print(f"mean absolute error {error:.1f} US$ on {len(unseen)} held-out diamonds (baseline {naive:.1f})")
    measured = dict(mae=float(error), baseline_mae=float(naive), rows_train=len(seen), rows_test=len(unseen))
    handover.metrics(measured, metrics, mlfleet_outputs)


@component(modules=HANDOVER)
def package(segment: str, trained: Input[Model], measured: Input[Artifact], model: Output[Model]):
    """Lays out what the server loads: model.joblib and model.json."""
    import json
    import pathlib

    import handover

    numbers = json.loads(pathlib.Path(measured.path).read_text())
    handover.model(model, dict(segment=segment, **numbers), file=trained.path)
    model.metadata["segment"] = segment


@dsl.pipeline(name="price-suggestion", description="Train, evaluate on held-out diamonds, package.")
def evaluate_and_package(data: str, segment: str = "all", learning_rate: float = 0.1, max_leaf_nodes: int = 31):
    """Train with the best parameters, evaluate, package."""
    training = train(data=data, segment=segment, learning_rate=learning_rate, max_leaf_nodes=max_leaf_nodes)
    evaluation = evaluate(data=data, segment=segment, trained=training.outputs["trained"])
    package(
        segment=segment, trained=training.outputs["trained"], measured=evaluation.outputs["mlfleet_outputs"]
    )
