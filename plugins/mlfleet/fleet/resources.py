"""What plan and apply speak of: things that are wanted, things that were found, and the mark of what is ours.

There is no state file. What apply makes carries a mark, ``managed-by:<fleet>#<hash>``, where the system lets us write
one (a tag, a description, a key of its own). The hash is that of the settings that were applied, so that a later plan
can tell a manifest that was changed from a thing that somebody changed by hand.
"""

from __future__ import annotations

import enum
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_MARK = re.compile(r"managed-by:([a-z0-9-]+)(?:#([0-9a-f]{8}))?")


class Kind(enum.StrEnum):
    """The kinds of things, by the words that people read."""

    PROJECT = "Polyaxon project"
    EXPERIMENT = "KFP experiment"
    RECURRING = "KFP recurring run"
    POOL = "Airflow pool"
    APPLICATION = "Spinnaker application"
    PIPELINE = "Spinnaker pipeline"


# Those that a mark can be put on at any time; an experiment gets one only when it is made.
MARKED = frozenset({Kind.PROJECT, Kind.POOL, Kind.PIPELINE})


@dataclass(frozen=True)
class Resource:
    """A thing that the manifests ask for; names are unique within a kind.

    ``settings``  plain JSON that is compared with what was found, and set
    ``origin``    the file that asks for it, relative to the repository
    """

    kind: Kind
    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    origin: str = ""


@dataclass(frozen=True)
class Found:
    """A thing that exists.

    ``settings``  in the shape of `Resource.settings`
    ``ours``      carries the mark of this fleet
    ``applied``   the hash in its mark; "" for none
    ``id``        the system's own id, where it has one
    ``drift``     why it should not be there although nobody has removed it; "" for most things
    ``hands_off`` nobody but a person may touch it: it may be somebody else's
    """

    kind: Kind
    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    ours: bool = False
    applied: str = ""
    id: str = ""
    drift: str = ""
    hands_off: bool = False


def digest_of(settings: Mapping[str, Any]) -> str:
    """Eight hex digits of the settings; the order of keys does not matter."""
    text = json.dumps(settings, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def mark_of(fleet: str, settings: Mapping[str, Any] | None = None) -> str:
    """The mark of a fleet, with the hash of what is applied if that can be changed later."""
    return f"managed-by:{fleet}" + ("" if settings is None else f"#{digest_of(settings)}")


def read_mark(text: str, fleet: str) -> tuple[bool, str]:
    """Whether a text carries the mark of this very fleet, and the hash in it."""
    for found in _MARK.finditer(text):
        if found.group(1) == fleet:
            return True, found.group(2) or ""
    return False, ""


def is_mark(text: str) -> bool:
    """Whether a whole text is the mark of some fleet."""
    return _MARK.fullmatch(text) is not None


def without_mark(text: str) -> str:
    """The text that people wrote, with no fleet's mark."""
    return _MARK.sub("", text).strip()
