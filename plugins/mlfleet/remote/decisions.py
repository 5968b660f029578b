"""Every decision about a remote job is one typed event: counted by its kind, read as a sentence at 3 a.m."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What was decided or seen; also the last part of the counter's name (``mlfleet.remote_job.<kind>``)."""

    FIRST = "first"  # no record: new work
    SUBMITTED = "submitted"
    ADOPTED = "adopted"  # a job that is there is carried on with
    CARRIED_ON = "carried_on"  # the same ordinal again
    UNANSWERED = "unanswered"  # an earlier try ended inside its submit call, and no job came of it
    ANSWER_LOST = "answer_lost"
    CLEARED = "cleared"
    FRESH = "fresh"  # a person asked for a new job, for one rerun
    SPEC_CHANGED = "spec_changed"
    STOPPED = "stopped"  # we asked a job to stop
    STOPPING = "stopping"  # a job was found stopping
    STOP_SLOW = "stop_slow"
    REAPED = "reaped"  # live without a record that knows it
    DUPLICATE = "duplicate"  # a second live job of one key
    LOST = "lost"  # a job that was there is gone
    RESUBMIT = "resubmit"
    RESUMED = "resumed"
    RESUME_REFUSED = "resume_refused"
    KEPT_FAILED = "kept_failed"
    LOOK = "look"


@dataclass(frozen=True)
class Decision:
    """One decision: ``kind`` is what counters count, ``sentence`` what an on-call engineer reads.

    ``job_id`` and ``n`` (the ordinal) say about which job, as far as it is known.
    """

    kind: Kind
    sentence: str
    job_id: str = ""
    n: int | None = None


Tell = Callable[[Decision], None]


def nobody(decision: Decision) -> None:
    """The default for who is told."""
