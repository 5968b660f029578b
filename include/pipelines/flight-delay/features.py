"""Features of a flight that its schedule tells, known before it departs: one definition for training and serving.

Data: the 336,776 departures from New York's airports in 2013. The year is replayed: a day of any year stands for the
same month and day of 2013 (29 February for the 28th), so that every data interval has data. The day of the week is no
feature on purpose: a few weeks hold four Mondays, and a model that may look at it learns those four days by heart
(measured: worse than the baseline). Shipped to Polyaxon as an init file, therefore without double curly braces.
"""

import datetime
import math

CARRIERS = ("9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL", "HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV")
ORIGINS = ("EWR", "JFK", "LGA")
DESTINATIONS = tuple(
    (
        "ABQ ACK ALB ANC ATL AUS AVL BDL BGR BHM BNA BOS BQN BTV BUF BUR BWI BZN CAE CAK CHO CHS CLE CLT CMH CRW CVG "
        "DAY DCA DEN DFW DSM DTW EGE EYW FLL GRR GSO GSP HDN HNL HOU IAD IAH ILM IND JAC JAX LAS LAX LEX LGA LGB MCI "
        "MCO MDW MEM MHT MIA MKE MSN MSP MSY MTJ MVY MYR OAK OKC OMA ORD ORF PBI PDX PHL PHX PIT PSE PSP PVD PWM RDU "
        "RIC ROC RSW SAN SAT SAV SBN SDF SEA SFO SJC SJU SLC SMF SNA SRQ STL STT SYR TPA TUL TVC TYS XNA"
    ).split()
)
CATEGORIES = dict(carrier=CARRIERS, origin=ORIGINS, dest=DESTINATIONS)
COLUMNS = ("year", "month", "day", "sched_dep_time", "arr_delay", "carrier", "origin", "dest", "distance")
YEAR = 2013
VALIDATION_DAYS = 7
SHORTEST, LONGEST = 2 * VALIDATION_DAYS, 365


def replayed(day):
    """The day of 2013 that a day of any year stands for."""
    last = 28 if day.month == 2 else day.day
    return day.replace(year=YEAR, day=min(day.day, last))


def days(first, after):
    """The days of 2013 that the days from ``first`` up to, but without, ``after`` stand for."""
    count = (after - first).days
    return {replayed(first + datetime.timedelta(days=number)) for number in range(count)}


def vector(item):
    """An item as a list of floats; ValueError names the field that is missing or wrong.

    ``scheduled_departure`` local time as hhmm, ``distance`` in miles, ``carrier``, ``origin``, ``dest`` as codes.
    """
    if not isinstance(item, dict):
        raise ValueError("a flight must be an object")
    departure, distance = number(item, "scheduled_departure"), number(item, "distance")
    hours, minutes = divmod(departure, 100)
    if not (0 <= hours < 24 and 0 <= minutes < 60):
        raise ValueError("scheduled_departure must be a time of day as hhmm, like 1730")
    row = [hours * 60 + minutes, distance]
    for name, known in CATEGORIES.items():
        if item.get(name) not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}")
        row.append(float(known.index(item[name])))
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


def load(path, first, after, held_out=()):
    """Flights of the replayed days: vectors, carriers, arrival delays in minutes; those that never arrived are out.

    ``held_out`` are days of 2013 (see ``days``) that must not be among them: two days may replay the same one.
    """
    wanted = {(str(day.month), str(day.day)) for day in days(first, after) - set(held_out)}
    vectors, carriers, delays = [], [], []
    for line, row in rows(path):
        if (row["month"], row["day"]) not in wanted or row["arr_delay"] in ("", "NA"):
            continue
        try:
            vectors.append(vector(dict(row, scheduled_departure=row["sched_dep_time"])))
            delays.append(float(row["arr_delay"]))
        except ValueError as error:
            raise SystemExit(f"{path}:{line}: {error}") from None
        carriers.append(row["carrier"])
    if not vectors:
        raise SystemExit(f"no flights from {first} up to {after} in {path}")
    return vectors, carriers, delays


def rows(path):
    """Line number and fields of every flight; ends the program with one sentence when the file is not as expected."""
    try:
        with open(path) as file:
            names = file.readline().strip().split(",")
            missing = [name for name in COLUMNS if name not in names]
            if missing:
                raise SystemExit(f"{path} has no column {', '.join(missing)}; is it the file of flights?")
            for line, text in enumerate(file, 2):
                values = text.rstrip("\n").split(",")
                if len(values) != len(names):
                    raise SystemExit(f"{path}:{line}: {len(values)} fields where {len(names)} are expected")
                yield line, dict(zip(names, values))
    except (OSError, UnicodeDecodeError) as error:
        raise SystemExit(f"the flights cannot be read from {path}: {error}") from None


def baseline(train_carriers, train_delays, carriers):
    """The median delay of the carrier, or of all flights for a carrier that was not seen."""
    def median(values):
        return sorted(values)[len(values) // 2]

    by_carrier = dict()
    for carrier, delay in zip(train_carriers, train_delays):
        by_carrier.setdefault(carrier, []).append(delay)
    medians = dict((carrier, median(values)) for carrier, values in by_carrier.items())
    overall = median(train_delays)
    return [medians.get(carrier, overall) for carrier in carriers]


def mean_absolute_error(truth, guesses):
    """In minutes."""
    return sum(abs(a - b) for a, b in zip(truth, guesses)) / len(truth)


def new_model(max_leaf_nodes):
    """Gradient boosted trees on the absolute error: delays have a long tail that squares would chase."""
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    trees = HistGradientBoostingRegressor(
        loss="absolute_error", learning_rate=0.1, max_leaf_nodes=max_leaf_nodes, max_iter=60, min_samples_leaf=200,
        # Codes have no order. No early stopping: it would hold out rows of its own, and only for large inputs.
        categorical_features=[2, 3, 4], early_stopping=False, random_state=1,
    )
    # The trees take categories from arrays only; this makes one of lists, here and when serving.
    return make_pipeline(FunctionTransformer(validate=True), trees)


def window(data_end, history_days):
    """First day of training, of validation (a week, for tuning), of evaluation (the last day before the end); the end.

    A model is only ever measured on days after those that it was fitted to. The day of ``data_end`` is not used.
    """
    if not SHORTEST <= history_days <= LONGEST:
        raise SystemExit(f"history days must be from {SHORTEST} to {LONGEST}, not {history_days}")
    try:
        end = datetime.datetime.fromisoformat(data_end).date()
    except ValueError:
        raise SystemExit(f"the end of the data interval must be an ISO date, not {data_end!r}") from None
    held_out = end - datetime.timedelta(days=1)
    return end - datetime.timedelta(days=history_days), held_out - datetime.timedelta(days=VALIDATION_DAYS), held_out, end
