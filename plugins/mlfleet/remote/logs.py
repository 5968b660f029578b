"""Lines of a remote log as records of a task's log, within what a triggerer can carry.

A triggerer passes about 4 KB per round of its supervisor, for all its triggers together (airflow.md 2.1). So one poll
gives at most one record of at most 4 KB with many lines in it; what does not fit is counted, with the place where the
whole log is.
"""

from __future__ import annotations

from collections.abc import Sequence

MAX_BYTES = 4096
MAX_LINE = 500
# Airflow's own dressing of a record (time, level, logger) and the line that counts what was left out.
_RESERVED = 400


def one_record(lines: Sequence[str], where: str = "", limit: int = MAX_BYTES) -> str | None:
    """``lines`` as one text of at most ``limit`` bytes of UTF-8, None when there is nothing to say.

    The newest lines stay when not all fit; a first line then says how many were left out and ``where`` they are.
    """
    kept: list[str] = []
    room = max(limit - _RESERVED, MAX_LINE)
    for line in reversed(lines):
        text = shorten(line)
        size = len(text.encode()) + 1
        if size > room:
            break
        kept.append(text)
        room -= size
    if not kept:
        return None
    left_out = len(lines) - len(kept)
    if left_out:
        place = f"; the whole log: {where}" if where else ""
        kept.append(f"[... {left_out} lines left out{place}]"[: _RESERVED // 2])
    return "\n".join(reversed(kept))


def shorten(line: str, limit: int = MAX_LINE) -> str:
    """One line without a line end and control characters, cut at ``limit`` characters."""
    text = "".join(c if c.isprintable() or c == "\t" else " " for c in line.rstrip("\r\n"))
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def whole_lines(text: str, *, closed: bool) -> tuple[list[str], int]:
    """The complete lines of ``text`` and how many characters they take; the rest too once the log is ``closed``."""
    if closed:
        return text.splitlines(), len(text)
    end = text.rfind("\n") + 1
    return text[:end].splitlines(), end
