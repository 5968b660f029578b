"""What all sections of a manifest are made of."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue

Direction = Literal["min", "max"]
Params = dict[str, JsonValue]


class Section(BaseModel):
    """A mapping of the manifest: unknown keys are errors, nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
