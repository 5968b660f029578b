"""Features of a flight that are known before it departs: one definition for training, evaluation and serving.

Data: the 336,776 departures from New York's airports in 2013. The year is replayed: a day of any year stands for the
same month and day of 2013 (29 February for the 28th), so that every data interval has data. Shipped to Polyaxon as an
init file, therefore without double curly braces.
"""

import datetime
import zlib

CARRIERS = ("9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL", "HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV")
ORIGINS = ("EWR", "JFK", "LGA")
YEAR = 2013


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

    ``date`` ISO, ``scheduled_departure`` as hhmm, ``carrier``, ``origin``, ``dest``, ``distance`` in miles.
    """
    try:
        day = datetime.date.fromisoformat(str(item["date"]))
    except (KeyError, ValueError):
        raise ValueError("date must be a day like 2026-11-24") from None
    numbers = []
    for name in ("scheduled_departure", "distance"):
        try:
            numbers.append(float(item[name]))
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"{name} must be a number") from None
    for name, known in (("carrier", CARRIERS), ("origin", ORIGINS)):
        if item.get(name) not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}")
    minutes = numbers[0] // 100 * 60 + numbers[0] % 100
    destination = zlib.crc32(str(item.get("dest", "")).encode()) % 251
    return [
        float(day.weekday()), minutes, numbers[1], float(CARRIERS.index(item["carrier"])),
        float(ORIGINS.index(item["origin"])), float(destination),
    ]


def load(path, first, after):
    """Flights of the replayed days: vectors, carriers and arrival delays in minutes; those that never arrived are out."""
    wanted = {f"{day.year},{day.month},{day.day}" for day in days(first, after)}
    vectors, carriers, delays = [], [], []
    with open(path) as file:
        names = file.readline().strip().split(",")
        for line in file:
            if line[: line.index(",", line.index(",", 5) + 1)] not in wanted:
                continue
            row = dict(zip(names, line.rstrip().split(",")))
            if row["arr_delay"] in ("", "NA"):
                continue
            day = f"{int(row['year']):04}-{int(row['month']):02}-{int(row['day']):02}"
            vectors.append(vector(dict(row, date=day, scheduled_departure=row["sched_dep_time"])))
            carriers.append(row["carrier"])
            delays.append(float(row["arr_delay"]))
    if not vectors:
        raise SystemExit(f"no flights from {first} up to {after} in {path}")
    return vectors, carriers, delays


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

    return HistGradientBoostingRegressor(
        loss="absolute_error", learning_rate=0.1, max_leaf_nodes=max_leaf_nodes, max_iter=60, random_state=1
    )


def window(data_end, history_days):
    """First day of training, first day of evaluation, end: the last day before ``data_end`` is held out."""
    end = datetime.datetime.fromisoformat(data_end).date()
    return end - datetime.timedelta(days=history_days), end - datetime.timedelta(days=1), end
