"""What can be made to go wrong on purpose, by ``POST /sandbox/switches`` (reference spinnaker.md, 6.1)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass
class Switches:
    """All off by default.

    ``echo_drop``            igor's event is lost: the tag counts as seen and no execution starts
    ``access_denied``        Fiat denies EXECUTE to the trigger's user: the trigger is skipped silently
    ``threshold``            more new tags of an account than this in one cycle: the whole cycle is rejected
    ``duplicate_executions`` one event starts this many executions
    ``judgment_role_denied`` a judgment answers 200 and is reset a moment later
    ``empty_200``            the next N reads of one execution answer 200 with an empty body
    ``redirect_login``       every call of Gate but /health answers 302 to /login
    ``digest``               what ``trigger.digest`` holds: absent (default), manifest, config or schema1
    ``latency_s``            seconds that igor waits with every event
    ``unavailable``          the next N calls answer 503
    """

    echo_drop: bool = False
    access_denied: bool = False
    threshold: int = 1000
    duplicate_executions: int = 1
    judgment_role_denied: bool = False
    empty_200: int = 0
    redirect_login: bool = False
    digest: str = "absent"
    latency_s: float = 0.0
    unavailable: int = 0

    def set(self, values: dict[str, Any]) -> dict[str, Any]:
        """Sets the named switches; KeyError names one that does not exist. Returns all of them."""
        known = {field.name for field in fields(self)}
        for name, value in values.items():
            if name not in known:
                raise KeyError(name)
            setattr(self, name, value)
        return asdict(self)

    def spend(self, name: str) -> bool:
        """Whether a counted switch is on now; counts it down."""
        left = int(getattr(self, name))
        if left > 0:
            setattr(self, name, left - 1)
        return left > 0
