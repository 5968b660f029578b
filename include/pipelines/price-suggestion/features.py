"""Features of a diamond: one definition for training, evaluation and serving.

Data: the 53,940 round cut diamonds of ggplot2 (price in US dollars). A row's split is drawn from its row number, so
that tuning, final training and evaluation agree on it without passing data around, and the held-out rows are never seen
before the evaluation. Shipped to Polyaxon as an init file, therefore without double curly braces.
"""

import csv
import zlib

NUMBERS = ("carat", "depth", "table", "x", "y", "z")
GRADES = dict(
    cut=("Fair", "Good", "Very Good", "Premium", "Ideal"),
    color=("J", "I", "H", "G", "F", "E", "D"),
    clarity=("I1", "SI2", "SI1", "VS2", "VS1", "VVS2", "VVS1", "IF"),
)


def vector(item):
    """An item (dict of field to value) as a list of floats; ValueError names the field that is missing or wrong."""
    row = []
    for name in NUMBERS:
        try:
            row.append(float(item[name]))
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"{name} must be a number") from None
    for name, grades in GRADES.items():
        if item.get(name) not in grades:
            raise ValueError(f"{name} must be one of {', '.join(grades)}")
        row.append(float(grades.index(item[name])))
    return row


def split_of(row_id):
    """``train`` (70 %), ``validation`` (15 %, for tuning) or ``test`` (15 %, for the evaluation only)."""
    draw = zlib.crc32(str(row_id).encode()) % 100
    return "train" if draw < 70 else "validation" if draw < 85 else "test"


def load(path, segment, splits):
    """The rows of a segment (a cut, or ``all``) in these splits: vectors, prices in US dollars."""
    vectors, prices = [], []
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            if segment in ("all", row["cut"]) and split_of(row[""]) in splits:
                vectors.append(vector(row))
                prices.append(float(row["price"]))
    if not vectors:
        raise SystemExit(f"no diamonds of segment {segment!r} in {path}; segments are all, {', '.join(GRADES['cut'])}")
    return vectors, prices


def baseline(train_vectors, train_prices, vectors):
    """What a person would guess: the median price per carat of the segment, times the carats."""
    per_carat = sorted(price / row[0] for row, price in zip(train_vectors, train_prices))
    middle = per_carat[len(per_carat) // 2]
    return [middle * row[0] for row in vectors]


def mean_absolute_error(truth, guesses):
    """In US dollars."""
    return sum(abs(a - b) for a, b in zip(truth, guesses)) / len(truth)


def new_model(learning_rate, max_leaf_nodes):
    """Gradient boosted trees on the logarithm of the price, because errors grow with it."""
    import numpy
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.ensemble import HistGradientBoostingRegressor

    trees = HistGradientBoostingRegressor(
        learning_rate=learning_rate, max_leaf_nodes=max_leaf_nodes, max_iter=80, random_state=1
    )
    return TransformedTargetRegressor(trees, func=numpy.log1p, inverse_func=numpy.expm1)
