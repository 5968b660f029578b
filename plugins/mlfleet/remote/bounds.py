"""A number and its bounds: the one place that decides whether a metric is good enough."""

from __future__ import annotations

from dataclasses import dataclass

from mlfleet.remote.numbers import finite


@dataclass(frozen=True)
class Verdict:
    """What was found: ``value`` is None for what is no finite number, which never passes; ``reason`` is a sentence."""

    passed: bool
    value: float | None
    reason: str


@dataclass(frozen=True)
class Bounds:
    """Inclusive bounds, None for none."""

    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        parts = [
            f"at least {self.low:g}" if self.low is not None else "",
            f"at most {self.high:g}" if self.high is not None else "",
        ]
        return " and ".join(filter(None, parts)) or "any number"

    def judge(self, metric: str, value: object) -> Verdict:
        """Whether the metric's value is within."""
        number = finite(value)
        if number is None:
            return Verdict(False, None, f"{metric} is {value!r}, not a number")
        passed = (self.low is None or number >= self.low) and (self.high is None or number <= self.high)
        return Verdict(passed, number, f"{metric} is {number:g}, asked for: {self}")
