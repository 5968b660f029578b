"""Code that is not mlfleet's: what a manifest names by a path, and what goes wrong with it."""

from __future__ import annotations

from mlfleet.errors import ConfigError


class ForeignCodeError(ConfigError):
    """Code of a team that does not give what the DAG needs.

    ``place`` is how the manifest names it: the name of the step, or the import path of the timetable.
    """

    def __init__(self, place: str, what: str, where: str = "") -> None:
        super().__init__(what, where, "Correct its code, or the manifest")
        self.place = place
