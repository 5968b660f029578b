"""Names and texts that are told without reading a manifest: importing this defines no field types."""

from __future__ import annotations

import datetime
import os
import re
import unicodedata
from collections.abc import Mapping

VARIABLE = "MLFLEET_ENV"
DEFAULT = "dev"
# The build argument that `image.base` gives.
BASE = "BASE"
# What a run may release, as its param `release` and `deploy.backfill` say it.
AUTO, NEVER, NEWER = "auto", "never", "newer"


def selected_name(environ: Mapping[str, str] | None = None) -> str:
    """The environment that ``MLFLEET_ENV`` names, else dev."""
    return (os.environ if environ is None else environ).get(VARIABLE) or DEFAULT


def is_project_name(name: object) -> bool:
    """Whether this can be the name of a project, and so a DAG id, a folder and an image label."""
    return isinstance(name, str) and bool(re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name))


def slug_of(name: str) -> str:
    """``Trading Cards`` as ``trading-cards``: ASCII letters, digits and single hyphens; empty when nothing is left."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", ascii_name.lower()).strip("-")


def format_duration(duration: datetime.timedelta) -> str:
    """The ISO 8601 form that `values.parse_duration` reads back: ``P7D``, ``PT1H30M``."""
    minutes, seconds = divmod(duration.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    time = "".join(f"{count}{unit}" for count, unit in ((hours, "H"), (minutes, "M"), (seconds, "S")) if count)
    return f"P{f'{duration.days}D' if duration.days else ''}{f'T{time}' if time else ''}"
