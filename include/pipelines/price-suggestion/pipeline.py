"""KFP: trains the best trial's model, measures it on rows that tuning never saw, and packages it for serving.

The source of features.py travels in the compiled pipeline, so that a pod needs nothing of this repository.
"""

from pathlib import Path

from kfp import dsl
from kfp.dsl import Artifact, Input, Metrics, Model, Output

IMAGE = "registry.example.com/ml/training:py312"  # any image with Python and the serving packages; the sandbox needs none
FEATURES = Path(__file__).with_name("features.py").read_text()


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def train(
    data: str, segment: str, learning_rate: float, max_leaf_nodes: int, features_source: str, trained: Output[Model]
):
    """Fits the model on the train and validation splits with the parameters that tuning chose."""
    import types

    import joblib

    features = types.ModuleType("features")
    exec(features_source, features.__dict__)
    vectors, prices = features.load(data, segment, ("train", "validation"))
    print(f"training on {len(vectors)} diamonds: learning rate {learning_rate}, {max_leaf_nodes} leaves")
    joblib.dump(features.new_model(learning_rate, max_leaf_nodes).fit(vectors, prices), trained.path, compress=3)
    trained.metadata["rows"] = len(vectors)


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def evaluate(
    data: str,
    segment: str,
    features_source: str,
    trained: Input[Model],
    metrics: Output[Metrics],
    mlfleet_outputs: Output[Artifact],
):
    """Measures the mean absolute error in US dollars on the test split, beside the baseline's."""
    import json
    import types

    import joblib

    features = types.ModuleType("features")
    exec(features_source, features.__dict__)
    seen, prices = features.load(data, segment, ("train", "validation"))
    unseen, truth = features.load(data, segment, ("test",))
    error = features.mean_absolute_error(truth, joblib.load(trained.path).predict(unseen))
    naive = features.mean_absolute_error(truth, features.baseline(seen, prices, unseen))
    print(f"mean absolute error {error:.1f} US$ on {len(unseen)} held-out diamonds (baseline {naive:.1f})")
    measured = dict(mae=float(error), baseline_mae=float(naive), rows_train=len(seen), rows_test=len(unseen))
    for name, value in measured.items():
        metrics.log_metric(name, value)
    with open(mlfleet_outputs.path, "w") as file:
        json.dump(measured, file)


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def package(segment: str, trained: Input[Model], measured: Input[Artifact], model: Output[Model]):
    """Lays out what the server loads: model.joblib and model.json."""
    import json
    import pathlib
    import shutil

    folder = pathlib.Path(model.path)
    folder.mkdir(parents=True)
    shutil.copy(trained.path, folder / "model.joblib")
    description = dict(segment=segment, **json.loads(pathlib.Path(measured.path).read_text()))
    (folder / "model.json").write_text(json.dumps(description, sort_keys=True))
    model.metadata["segment"] = segment


@dsl.pipeline(name="price-suggestion", description="Train, evaluate on held-out diamonds, package.")
def evaluate_and_package(data: str, segment: str = "all", learning_rate: float = 0.1, max_leaf_nodes: int = 31):
    """Train with the best parameters, evaluate, package."""
    training = train(
        data=data, segment=segment, learning_rate=learning_rate, max_leaf_nodes=max_leaf_nodes,
        features_source=FEATURES,
    )
    evaluation = evaluate(data=data, segment=segment, features_source=FEATURES, trained=training.outputs["trained"])
    package(
        segment=segment, trained=training.outputs["trained"], measured=evaluation.outputs["mlfleet_outputs"]
    )
