"""Field types of the manifest: durations, cron expressions, time zones, names. Each says what it accepts."""

from __future__ import annotations

import datetime
import functools
import re
import zoneinfo
from typing import Annotated, Any

from croniter import CroniterError, croniter
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    PlainSerializer,
    StringConstraints,
    Tag,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from mlfleet.manifest.diagnostics import nearest
from mlfleet.manifest.naming import format_duration, slug_of

_ISO_DURATION = re.compile(
    r"P(?=.)(?:(?P<weeks>\d+)W)?(?:(?P<days>\d+)D)?(?:T(?=.)(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+)S)?)?"
)
_SHORT_DURATION = re.compile(r"(?P<count>\d+)(?P<unit>[wdhms])")
_UNITS = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
# Airflow's own names (airflow/utils/dates.py); @once and @continuous are no cron expressions and have no data interval.
CRON_PRESETS = ("@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly")

# The tags of operators/releasing.py and systems/buildah.py: a key has 16 hexadecimal digits,
# releases are counted from 1.
_RELEASED = ("release-0123456789abcdef-1", "release-fedcba9876543210-12")
_BUILT = "build-0123456789abcdef"
_REPETITION = re.compile(r"[*+{]")
_NESTED_REPETITION = re.compile(r"[*+{][^()]*\)[*+{]")
_MAX_REPETITIONS = 6


def wrong(summary: str, fix: str = "") -> PydanticCustomError:
    """The error of a field; `fix` says what to write instead."""
    return PydanticCustomError("mlfleet", "{summary}", {"summary": summary, "fix": fix})


def parse_duration(value: Any) -> datetime.timedelta:
    """ISO 8601 (``P1D``, ``PT20M``) or a number with one unit (``7d``, ``90m``); more than zero, at most ten years."""
    fix = "write it like P1D, PT20M, 7d, 12h or 90m"
    if isinstance(value, datetime.timedelta):
        return value
    if not isinstance(value, str):
        raise wrong("a duration is text with a unit", fix)
    iso, short = _ISO_DURATION.fullmatch(value), _SHORT_DURATION.fullmatch(value)
    if iso:
        parts = {unit: int(count) for unit, count in iso.groupdict().items() if count}
    elif short:
        parts = {_UNITS[short["unit"]]: int(short["count"])}
    else:
        unclear = "; years and months have no fixed length" if re.match(r"P\d+[YM]", value) else ""
        raise wrong(f"{value!r} is not a duration{unclear}", fix)
    try:
        duration = datetime.timedelta(**parts)
    except OverflowError:
        duration = datetime.timedelta.max
    if not datetime.timedelta(0) < duration <= datetime.timedelta(days=3660):
        raise wrong(f"{value!r} is out of bounds: a duration is more than zero and at most ten years", fix)
    return duration


def parse_date(value: Any) -> datetime.date:
    """``2026-11-01``: the day from which the schedule counts, at midnight of its time zone."""
    if isinstance(value, datetime.date):
        return value
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d{2}-\d{2}", value):
        try:
            return datetime.date.fromisoformat(value)
        except ValueError:
            raise wrong(f"there is no day {value}") from None
    raise wrong(f"{value!r} is not a date", "write it like 2026-11-01")


def check_cron(expression: str) -> str:
    """A cron expression of five fields, or one of Airflow's presets; raises PydanticCustomError."""
    if expression.startswith("@"):
        if expression in CRON_PRESETS:
            return expression
        near = nearest(expression, CRON_PRESETS)
        raise wrong(f"there is no preset {expression}", f"did you mean {near}?" if near else ", ".join(CRON_PRESETS))
    if len(expression.split()) != 5:
        raise wrong(f"a cron expression has five fields, {expression!r} has {len(expression.split())}",
                    "minute, hour, day of month, month, day of week: `0 3 * * *`")  # fmt: skip
    try:
        croniter(expression)
    except (CroniterError, ValueError, KeyError, AttributeError) as error:
        raise wrong(f"{expression!r} is not a cron expression: {error}",
                    "minute, hour, day of month, month, day of week: `0 3 * * *`") from None  # fmt: skip
    return expression


@functools.cache
def _time_zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


def check_time_zone(name: str) -> str:
    """A name of the IANA time zone database; raises PydanticCustomError with the nearest one."""
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        near = nearest(name, _time_zones())
        raise wrong(f"there is no time zone {name!r}", f"did you mean {near!r}?" if near else "") from None
    return name


def check_tag_pattern(pattern: str) -> str:
    """The regular expression of a docker trigger: every tag that mlfleet releases matches, and no tag that it builds.

    Spinnaker reads it as Java does and compares the whole tag (spinnaker.md 1.2); the common part with Python is enough
    for tags. Raises PydanticCustomError.
    """
    fix = "write it like ^release-.*$"
    if len(_REPETITION.findall(pattern)) > _MAX_REPETITIONS or _NESTED_REPETITION.search(pattern):
        # To try one of these out can take for ever, and this runs where all manifests are read.
        raise wrong("a tag pattern with too many repetitions, or with one inside another", fix)
    try:
        matching = re.compile(pattern)
    except re.error as error:
        raise wrong(f"{pattern!r} is not a regular expression: {error}", fix) from None
    missed = next((tag for tag in _RELEASED if not matching.fullmatch(tag)), None)
    if missed:
        raise wrong(f"{pattern!r} cannot match: a released image has a tag like {missed}", fix)
    if matching.fullmatch(_BUILT):
        raise wrong(f"{pattern!r} also matches a tag like {_BUILT}: every build would be deployed", fix)
    return pattern


def parse_amount(value: Any) -> str:
    """A Kubernetes quantity of CPU: ``2``, ``0.5`` or ``500m``; more than zero."""
    text = value if isinstance(value, str) else _written(value)
    if text is None or not re.fullmatch(r"\d{1,6}(\.\d{1,3})?|\d{1,9}m", text) or not float(text.rstrip("m")):
        raise wrong(f"{value!r} is not an amount of CPU", "a number of cores like 2 or 0.5, or thousandths like 500m")
    return text


def _written(value: Any) -> str | None:
    return f"{value:g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def parse_memory(value: Any) -> str:
    """A Kubernetes quantity of memory with its unit: ``4Gi``, ``512Mi``; more than zero."""
    fix = "write it with its unit, like 4Gi or 512Mi"
    if not isinstance(value, str) or not re.fullmatch(r"\d{1,6}(\.\d{1,3})?(Ki|Mi|Gi|Ti|k|M|G|T)", value):
        raise wrong(f"{value!r} is not an amount of memory", fix)
    if not float(value.rstrip("KMGTik")):
        raise wrong(f"{value!r} is no memory at all", fix)
    return value


def _name_with_a_slug(name: str) -> str:
    slug = slug_of(name)
    if not slug or len(slug) > 63:
        raise wrong(f"{name!r} gives no usable task group id", "use 1 to 63 letters, digits and spaces")
    return name


Duration = Annotated[
    datetime.timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^(P[0-9WDTHMS]+|[0-9]+[wdhms])$"}, mode="validation"),
]
Amount = Annotated[
    str,
    BeforeValidator(parse_amount),
    WithJsonSchema({"type": ["string", "number"], "pattern": r"^([0-9]+(\.[0-9]+)?|[0-9]+m)$"}, mode="validation"),
]
Memory = Annotated[
    str,
    BeforeValidator(parse_memory),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)$"}, mode="validation"),
]
Day = Annotated[
    datetime.date, BeforeValidator(parse_date), PlainSerializer(lambda day: day.isoformat(), return_type=str)
]
Cron = Annotated[str, AfterValidator(check_cron)]
Crons = Annotated[
    Annotated[Cron, Tag("one")] | Annotated[list[Cron], Field(min_length=1, max_length=20), Tag("several")],
    Discriminator(lambda value: "several" if isinstance(value, list) else "one"),
]
TagPattern = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(check_tag_pattern)]
TimeZone = Annotated[str, AfterValidator(check_time_zone)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=1000, strip_whitespace=True)]
ExperimentName = Annotated[str, StringConstraints(min_length=1, max_length=100), AfterValidator(_name_with_a_slug)]
