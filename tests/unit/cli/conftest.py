from __future__ import annotations

from tests.unit.manifest.conftest import repository

__all__ = ["repository"]
