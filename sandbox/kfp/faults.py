"""Trouble on purpose, for tests: ``POST /sandbox/faults`` (reference kfp.md, 9)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from fastapi.responses import JSONResponse, Response


@dataclass
class Faults:
    """How many more creates take effect but answer 504, and how many more calls answer 503."""

    drop_after_commit: int = 0
    unavailable: int = 0

    def set(self, values: dict[str, Any]) -> dict[str, int]:
        """Sets the named ones; KeyError names one that does not exist. Returns all."""
        known = {field.name for field in fields(self)}
        for name, value in values.items():
            if name not in known:
                raise KeyError(name)
            setattr(self, name, int(value))
        return asdict(self)

    def after_commit(self) -> Response | None:
        """The answer that takes the place of a create's own one, if it is to be lost."""
        if self.drop_after_commit <= 0:
            return None
        self.drop_after_commit -= 1
        return Response("upstream request timeout", 504, media_type="text/plain")

    def before(self) -> Response | None:
        """The answer that takes the place of any call's."""
        if self.unavailable <= 0:
            return None
        self.unavailable -= 1
        return JSONResponse({"code": 14, "message": "unavailable", "details": []}, 503)
