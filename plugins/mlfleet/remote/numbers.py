"""Numbers out of somebody else's JSON."""

from __future__ import annotations

import math


def finite(value: object) -> float | None:
    """A number that can be compared, None for anything else (NaN is what a diverged training reports)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
