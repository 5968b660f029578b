"""Trains on the days before the held-out last day of the interval and reports its error on that day to Polyaxon."""

import argparse

import features
import tracking


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--data-end", required=True, help="end of the data interval, ISO")
    parser.add_argument("--history-days", type=int, default=28)
    parser.add_argument("--max-leaf-nodes", type=int, default=15)
    options = parser.parse_args()
    first, held_out, end = features.window(options.data_end, options.history_days)
    vectors, carriers, delays = features.load(options.data, first, held_out)
    print(f"training on {len(vectors)} flights from {first} up to {held_out}", flush=True)
    model = features.new_model(options.max_leaf_nodes).fit(vectors, delays)
    unseen, flown_by, truth = features.load(options.data, held_out, end)
    mae = features.mean_absolute_error(truth, model.predict(unseen))
    base = features.mean_absolute_error(truth, features.baseline(carriers, delays, flown_by))
    print(f"mean absolute error {mae:.1f} minutes on {len(unseen)} flights of {held_out} (baseline {base:.1f})")
    tracking.log_outputs(mae=float(mae), baseline_mae=float(base), rows_train=len(vectors))


if __name__ == "__main__":
    main()
