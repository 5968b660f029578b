"""One trial of the tuning: trains on the train split and reports its error on the validation split to Polyaxon."""

import argparse

import features
import tracking


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--segment", required=True)
    parser.add_argument("--learning-rate", type=float, required=True)
    parser.add_argument("--max-leaf-nodes", type=int, required=True)
    options = parser.parse_args()
    vectors, prices = features.load(options.data, options.segment, ("train",))
    print(f"training on {len(vectors)} diamonds of segment {options.segment}", flush=True)
    model = features.new_model(options.learning_rate, options.max_leaf_nodes).fit(vectors, prices)
    unseen, truth = features.load(options.data, options.segment, ("validation",))
    mae = features.mean_absolute_error(truth, model.predict(unseen))
    base = features.mean_absolute_error(truth, features.baseline(vectors, prices, unseen))
    print(f"mean absolute error {mae:.1f} US$ on {len(unseen)} validation diamonds (baseline {base:.1f})", flush=True)
    tracking.log_outputs(mae=float(mae), baseline_mae=float(base), rows_train=len(vectors), rows_validation=len(unseen))


if __name__ == "__main__":
    main()
