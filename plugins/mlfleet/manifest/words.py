"""How a key of the manifest is explained."""

from __future__ import annotations

from typing import Any, NamedTuple


class Words(NamedTuple):
    """The explanation of a key and values that it can have."""

    text: str
    examples: tuple[Any, ...] = ()
