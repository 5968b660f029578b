"""What can be made to go wrong on purpose, by ``POST /sandbox/switches`` (reference spinnaker.md, 6.1)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass
class Switches:
    """The defaults are what a healthy Spinnaker does, its own defects included.

    The way from a push to an execution:

    ``empty_cache``          igor's memory is flushed once, as with Redis: what is in the registry is indexed, not fired
    ``tag_seen_before``      every new tag counts as seen already and never fires
    ``threshold``            more new tags of an account than this in one cycle: the whole cycle is rejected
    ``latency_s``            seconds that igor waits with every event
    ``echo_drop``            igor's event is lost: the tag counts as seen and no execution starts
    ``access_denied``        Fiat denies EXECUTE to the trigger's user: the trigger is skipped silently
    ``duplicate_executions`` one event starts this many executions
    ``digest``               what ``trigger.digest`` holds: absent (default), manifest, config or schema1
    ``pubsub_mode``          the registry announces images by Pub/Sub: triggers are of type pubsub and carry the digest

    Executions:

    ``superseded``           the next N executions that are triggered end as if a newer one had taken their place
    ``restart_after_terminal`` the next N executions that fail are restarted by somebody a moment later
    ``judgment_role_denied`` a judgment answers 200 and is reset a moment later
    ``cleanup_404``          executions that have ended were cleaned up: 404, and absent from lists

    Gate's answers:

    ``appears_after_s``      seconds that an execution of ``POST /pipelines/v2`` stays 404
    ``search_paging_defect`` on, as in orca; off gives pages as one would expect them
    ``empty_200``            the next N reads of one execution answer 200 with an empty body
    ``redirect_login``       every call of Gate but the open ones answers 302 to /login
    ``require_token``        a token that calls must bring; without it they are sent to /login. "" asks for none
    ``unavailable``          the next N calls answer 503
    ``truncated``            the next N answers end in the middle of their JSON
    ``slow_s``               seconds that Gate waits with every answer
    """

    empty_cache: bool = False
    tag_seen_before: bool = False
    threshold: int = 1000
    latency_s: float = 0.0
    echo_drop: bool = False
    access_denied: bool = False
    duplicate_executions: int = 1
    digest: str = "absent"
    pubsub_mode: bool = False
    superseded: int = 0
    restart_after_terminal: int = 0
    judgment_role_denied: bool = False
    cleanup_404: bool = False
    appears_after_s: float = 1.0
    search_paging_defect: bool = True
    empty_200: int = 0
    redirect_login: bool = False
    require_token: str = ""
    unavailable: int = 0
    truncated: int = 0
    slow_s: float = 0.0

    def set(self, values: dict[str, Any]) -> dict[str, Any]:
        """Sets the named switches, all or none, and returns all of them.

        KeyError names one that does not exist, TypeError one whose value is of another kind.
        """
        known = {field.name: type(field.default) for field in fields(self)}
        for name, value in values.items():
            kind = known[name]
            # A whole number is fine for seconds; but True is not a number here.
            if type(value) is not kind and not (kind is float and type(value) is int):
                raise TypeError(f"{name} takes a {kind.__name__}, not {value!r}")
        for name, value in values.items():
            setattr(self, name, value)
        return asdict(self)

    def spend(self, name: str) -> bool:
        """Whether a counted switch is on now; counts it down."""
        left = int(getattr(self, name))
        if left > 0:
            setattr(self, name, left - 1)
        return left > 0
