"""Exit codes of the ``mlfleet`` command; they never change their meaning."""

from __future__ import annotations

OK, FOUND_ERRORS, USAGE, MISSING = 0, 1, 2, 3
