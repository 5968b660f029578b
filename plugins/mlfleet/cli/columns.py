"""What a CSV file holds: which column is to be predicted, and which can tell it."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import click

from mlfleet.manifest.diagnostics import suggestion

ROWS = 5000
MOST_VALUES = 40  # of a column of texts; more is an id or free text
_MISSING = frozenset({"", "na", "nan", "null", "none"})


@dataclass(frozen=True)
class Columns:
    """The columns of a table that a model of numbers can use.

    ``target``      the column that is predicted, of numbers
    ``numbers``     columns of numbers
    ``categories``  columns of a few texts, with their texts, sorted
    ``left_out``    the others
    """

    file: str
    target: str
    numbers: tuple[str, ...]
    categories: tuple[tuple[str, tuple[str, ...]], ...] = ()
    left_out: tuple[str, ...] = ()


# The real data that the sandbox brings along (README, the demo).
DIAMONDS = Columns(
    "diamonds.csv", "price", ("carat", "depth", "table", "x", "y", "z"),
    (
        ("cut", ("Fair", "Good", "Very Good", "Premium", "Ideal")),
        ("color", ("J", "I", "H", "G", "F", "E", "D")),
        ("clarity", ("I1", "SI2", "SI1", "VS2", "VS1", "VVS2", "VVS1", "IF")),
    ),
)  # fmt: skip


def look_at(path: Path, target: str | None) -> Columns:
    """The columns of a CSV file with a header, judged by its first `ROWS` rows; the last one is the target by default.

    Raises click.UsageError when the file cannot be read, has no rows, or has no such target.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            names = list(reader.fieldnames or ())
            rows = list(islice(reader, ROWS))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise click.UsageError(f"{path} cannot be read as a CSV file: {error}") from None
    if not rows:
        raise click.UsageError(f"{path} has no rows; it needs a header and some data")
    if len(set(names)) != len(names):
        raise click.UsageError(f"{path} names a column twice: {', '.join(names)}")
    found = {name: _values(rows, name) for name in names}
    wanted = target or names[-1]
    if wanted not in found:
        raise click.UsageError(f"{path} has no column {wanted!r}; {suggestion(wanted, names)}")
    if not _numbers(found[wanted]):
        raise click.UsageError(f"column {wanted!r} of {path} is not all numbers; name another one with --target")
    return _sorted_out(path.name, wanted, found)


def _sorted_out(file: str, target: str, found: dict[str, list[str]]) -> Columns:
    numbers: list[str] = []
    categories: list[tuple[str, tuple[str, ...]]] = []
    left_out: list[str] = []
    for name, values in found.items():
        distinct = set(values)
        if name == target:
            continue
        # Polyaxon would take double braces in an init file for a template.
        if not values or any("{" in text or "}" in text for text in (name, *distinct)):
            left_out.append(name)
        elif _numbers(values):
            numbers.append(name)
        elif len(distinct) <= MOST_VALUES and len(distinct) < len(values):
            categories.append((name, tuple(sorted(distinct))))
        else:
            left_out.append(name)
    if not numbers and not categories:
        raise click.UsageError(f"{file} has no column that could tell {target!r}")
    return Columns(file, target, tuple(numbers), tuple(categories), tuple(left_out))


def _values(rows: list[dict[str, str]], name: str) -> list[str]:
    """What is there: a short row has None, and a gap is no value."""
    texts = (row.get(name) or "" for row in rows)
    return [text for text in texts if text.strip().lower() not in _MISSING]


def _numbers(values: list[str]) -> bool:
    try:
        return bool(values) and all(math.isfinite(float(value)) for value in values)
    except ValueError:
        return False
