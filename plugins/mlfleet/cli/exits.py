"""Exit codes of the ``mlfleet`` command; they never change their meaning.

2 is what `terraform plan -detailed-exitcode` says for changes; a wrong call must not look like that, so it has the
number that sysexits.h gives it (EX_USAGE).
"""

from __future__ import annotations

OK, FOUND_ERRORS, CHANGES, MISSING, USAGE = 0, 1, 2, 3, 64
INTERRUPTED = 130
