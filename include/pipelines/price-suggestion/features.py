"""Features of a diamond: one definition for training, evaluation and serving.

Data: the 53,940 round cut diamonds of ggplot2 (price in US dollars). Two in five rows share weight, colour, clarity and
measures with another row: the same stone, offered more than once. So the split is drawn by stone, not by row; tuning,
final training and evaluation agree on it without passing data around, and no held-out stone is seen before the
evaluation. Shipped to Polyaxon as an init file, therefore without double curly braces.
"""

import csv
import math
import zlib

NUMBERS = ("carat", "depth", "table", "x", "y", "z")
GRADES = dict(
    cut=("Fair", "Good", "Very Good", "Premium", "Ideal"),
    color=("J", "I", "H", "G", "F", "E", "D"),
    clarity=("I1", "SI2", "SI1", "VS2", "VS1", "VVS2", "VVS1", "IF"),
)


def vector(item):
    """An item (dict of field to value) as a list of floats; ValueError names the field that is missing or wrong."""
    if not isinstance(item, dict):
        raise ValueError("a diamond must be an object")
    row = [number(item, name) for name in NUMBERS]
    for name, grades in GRADES.items():
        if item.get(name) not in grades:
            raise ValueError(f"{name} must be one of {', '.join(grades)}")
        row.append(float(grades.index(item[name])))
    return row


def number(item, name):
    """A finite number (or its text, as in a CSV file); ValueError otherwise."""
    value = item.get(name)
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise ValueError(f"{name} must be a number")
    return found


def stone(item_vector):
    """What stays the same when a stone is offered again: weight, colour, clarity and measures, turned or not."""
    carat, _depth, _table, x, y, z, _cut, color, clarity = item_vector
    return (carat, color, clarity, *sorted((x, y)), z)


def split_of(item_vector):
    """``train`` (70 %), ``validation`` (15 %, for tuning) or ``test`` (15 %, for the evaluation only)."""
    draw = zlib.crc32(repr(stone(item_vector)).encode()) % 100
    return "train" if draw < 70 else "validation" if draw < 85 else "test"


def load(path, segment, splits):
    """The rows of a segment (a cut, or ``all``) in these splits: vectors, prices in US dollars."""
    if segment not in ("all", *GRADES["cut"]):
        raise SystemExit(f"there is no segment {segment!r}; segments are all, {', '.join(GRADES['cut'])}")
    vectors, prices = [], []
    for line, row in rows(path):
        if segment not in ("all", row["cut"]):
            continue
        try:
            features, price = vector(row), number(row, "price")
        except ValueError as error:
            raise SystemExit(f"{path}:{line}: {error}") from None
        if split_of(features) in splits:
            vectors.append(features)
            prices.append(price)
    if not vectors:
        raise SystemExit(f"no diamonds of segment {segment!r} in {path}")
    return vectors, prices


def rows(path):
    """Line number and fields of every diamond; ends the program with one sentence when the file is not as expected."""
    try:
        with open(path, newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in (*NUMBERS, *GRADES, "price") if name not in (reader.fieldnames or ())]
            if missing:
                raise SystemExit(f"{path} has no column {', '.join(missing)}; is it the file of diamonds?")
            for row in reader:
                yield reader.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SystemExit(f"the diamonds cannot be read from {path}: {error}") from None


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
        learning_rate=learning_rate, max_leaf_nodes=max_leaf_nodes, max_iter=80, random_state=1,
        early_stopping=False,  # it would hold out rows of its own, and only for large segments
    )
    return TransformedTargetRegressor(trees, func=numpy.log1p, inverse_func=numpy.expm1)
