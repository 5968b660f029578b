"""Code that is not mlfleet's: what a manifest names by a path, and what goes wrong with it."""

from __future__ import annotations

from mlfleet.errors import ConfigError


class ForeignCodeError(ConfigError):
    """Code of a team that does not give what the DAG needs.

    ``place`` is the name of the step, or the path in the manifest, that names the code.
    """

    def __init__(self, place: str, what: str, where: str = "") -> None:
        super().__init__(what, where, "Correct its code, or the manifest")
        self.place = place
