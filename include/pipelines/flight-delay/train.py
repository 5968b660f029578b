"""Trains on the days before the last week of the interval and reports its error on that week to Polyaxon.

The interval's very last day is not read here: it is for the evaluation, so that tuning can never fit it.
"""

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
    first, validation, held_out, _ = features.window(options.data_end, options.history_days)
    unseen_days = features.days(validation, held_out)
    vectors, carriers, delays = features.load(options.data, first, validation, unseen_days)
    print(f"training on {len(vectors)} flights from {first} up to {validation}", flush=True)
    model = features.new_model(options.max_leaf_nodes).fit(vectors, delays)
    unseen, flown_by, truth = features.load(options.data, validation, held_out)
    mae = features.mean_absolute_error(truth, model.predict(unseen))
    base = features.mean_absolute_error(truth, features.baseline(carriers, delays, flown_by))
    print(f"mean absolute error {mae:.1f} minutes on {len(unseen)} flights of the week before {held_out} (baseline {base:.1f})")
    tracking.log_outputs(mae=float(mae), baseline_mae=float(base), rows_train=len(vectors), rows_validation=len(unseen))


if __name__ == "__main__":
    main()
