"""What a retry, or a person, may ask of a remote job that is there already."""

from __future__ import annotations

from enum import StrEnum


class OnFailed(StrEnum):
    """What a retry does with a job that failed."""

    RESUBMIT = "resubmit"
    RESUME = "resume"
    FAIL = "fail"


class RerunMode(StrEnum):
    """What a person asks of the next try alone."""

    FRESH = "fresh"
    RESUME = "resume"
